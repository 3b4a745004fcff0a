"""A toy data set in memory, and one thread."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tasks import metrics
from tasks.task import Batch

VOCABULARY, CLASSES = 12, 3


class Texts:
    """Random tokens; the class is how often token 5 occurs (2: twice or more)."""

    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        self.lengths = rng.integers(3, 9, n).astype(np.int32)
        self.tokens = rng.integers(4, VOCABULARY, (n, 8))
        self.tokens[np.arange(8) >= self.lengths[:, None]] = 0
        self.targets = np.minimum((self.tokens == 5).sum(1), CLASSES - 1)

    def __len__(self):
        return len(self.targets)

    def batch(self, rows):
        tokens = self.tokens[rows, : self.lengths[rows].max()]
        return Batch({"tokens": tokens, "keep": tokens != 0}, self.targets[rows])


def toy(n=320, validation=100):
    return SimpleNamespace(
        splits={"train": Texts(n, 0), "validation": Texts(validation, 1), "test": Texts(50, 2)},
        labels=[0, 1, 2],
        signature={
            "input": "tokens",
            "vocab_size": VOCABULARY,
            "max_length": 8,
            "pad_id": 0,
            "n_classes": CLASSES,
        },
        loss=lambda logits, targets: F.cross_entropy(logits.float(), targets),
        metrics=lambda logits, targets: {
            "accuracy": metrics.accuracy(logits, targets),
            "loss": metrics.cross_entropy(logits, targets),
        },
    )


@pytest.fixture
def data():
    return toy()


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
