"""A small data set of texts, and teachers for it."""

import json

import numpy as np

from models import artifact
from trainables.parsing import parse
from trainables.train import Train, TrainConfig

WORDS = ["red", "green", "blue", "cat", "dog", "bird", "runs", "sleeps", "eats", "slowly", "and", "then", "the"]
SHAPE = {"n_layers": 4, "d_model": 16, "n_heads": 2, "d_head": 8, "d_ff": 32}


def text_task(folder, labels=("cat", "dog", "bird"), n=240, words=WORDS, **settings):
    """The label is the animal that comes last in a text."""
    rng = np.random.default_rng(0)
    rows = [
        {"text": " ".join([*rng.choice(words, rng.integers(2, 9)), label]), "label": label, "n": i}
        for i, label in enumerate(labels[i % len(labels)] for i in range(n))
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    columns = {"text": "text", "label": "label", "tokenizer": {"vocab_size": 300}}
    return {"name": "text_classification", "data": str(folder / "texts.jsonl"), **columns, **settings}


def teach(workspace, task, folder, epochs=2.0, **sizes):
    """A checkpoint of a teacher that knows something."""
    settings = {"epochs": epochs, "report_every": epochs, "learning_rate": 0.01, "precision": "fp32"}
    routine = Train(parse(TrainConfig, {**SHAPE, **settings, "task": task, **sizes}), workspace)
    routine.advance()
    routine.save(folder)
    return routine


def ship(routine, folder):
    """The artifact of a trained routine."""
    artifact.save(
        folder,
        routine.model,
        architecture=routine.model.architecture,
        signature=routine.data.signature,
        labels=routine.data.labels,
        files=routine.data.files,
        metrics={},
        origin=artifact.Origin(name="toy", task=routine.config.task["name"], data="toy", fingerprint="0"),
    )
