import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import tasks


def test_digits(tmp_path):
    task = tasks.load("image_classification")
    scores = task.classical(task.prepare(task.Config(data="digits"), tmp_path))
    assert scores["name"] == "Pixels + logistic regression"
    assert scores["validation"]["accuracy"] > 0.92
    assert scores["test"]["accuracy"]["low"] < scores["test"]["accuracy"]["value"] < scores["test"]["accuracy"]["high"]


def test_glosses(tmp_path):
    task = tasks.load("text_classification")
    scores = task.classical(task.prepare(task.Config(data="glosses", sample=2000), tmp_path))
    assert scores["name"] == "TF-IDF (1-2 grams) + logistic regression"
    assert 0.42 < scores["test"]["accuracy"]["value"] < 0.6
    assert set(scores["validation"]) == {"accuracy", "f1", "loss"}


@pytest.mark.parametrize("words", [["的", "了"], ["!", "?"], ["a", "b"]])
def test_texts_of_any_script_and_of_signs(tmp_path, words):
    targets = np.arange(60) % 2
    texts = [f"{words[target]} {words[target]}{chr(0x4E00 + i)}" for i, target in enumerate(targets)]
    parquet.write_table(pa.table({"text": texts, "label": targets}), tmp_path / "x.parquet")
    task = tasks.load("text_classification")
    scores = task.classical(task.prepare(task.Config(data=str(tmp_path / "x.parquet")), tmp_path / "cache"))
    assert scores["test"]["accuracy"]["value"] == 1
