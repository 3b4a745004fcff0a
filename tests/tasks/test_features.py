import math
from types import SimpleNamespace

import numpy as np
import pytest

from tasks.features import features


def data(targets, lengths, **signature):
    split = SimpleNamespace(targets=np.array(targets), lengths=np.array(lengths, np.int32))
    return SimpleNamespace(splits={"train": split}, labels=sorted({*targets}), signature=signature)


def test_a_data_set_in_numbers():
    found = features(data([0, 0, 0, 1], [2, 4, 6, 8], vocab_size=100))
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert found == {
        "examples": 4,
        "classes": 2,
        "balance": pytest.approx(entropy),
        "smallest_class": 0.25,
        "length_mean": 5,
        "length_p50": 5,
        "length_p95": pytest.approx(7.7),
        "vocabulary": 100,
    }


def test_even_classes_are_balanced_and_images_have_no_vocabulary():
    found = features(data([0, 1, 2], [9, 9, 9]))
    assert (found["balance"], found["vocabulary"]) == (pytest.approx(1), 0)


def test_one_class_alone_is_no_fault():
    assert features(data([0, 0], [1, 1]))["balance"] == 0
