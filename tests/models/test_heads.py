import pytest
import torch

from models.heads import pool

X_BLD = torch.tensor([[[1.0, 2.0], [3.0, 0.0], [8.0, 7.0]]])
KEEP_BL = torch.tensor([[True, True, False]])


@pytest.mark.parametrize(
    ("pooling", "keep", "expected"),
    [
        ("mean", KEEP_BL, [[2.0, 1.0]]),
        ("mean", None, [[4.0, 3.0]]),
        ("max", KEEP_BL, [[3.0, 2.0]]),
        ("max", None, [[8.0, 7.0]]),
        ("cls", KEEP_BL, [[1.0, 2.0]]),
        ("cls", None, [[1.0, 2.0]]),
    ],
)
def test_what_is_padded_is_not_pooled(pooling, keep, expected):
    assert pool(X_BLD, keep, pooling).tolist() == expected
