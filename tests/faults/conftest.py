"""The toy experiment of the fault tests: `toy = experiment(trials=4, faults={1: {"does": "kill", "at": 2}})`.

`book` is a run that was only simulated, in `results` of the test's folder, for tests that need no process.
"""

import json
import os

import pytest

from experiments.engine.plan import prepare
from experiments.engine.spec import checked
from tests.faults import recorded
from tests.faults.toy import Toy


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """One cache of prepared data for all."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def template(cache, tmp_path_factory):
    """The files of a checkpoint whose network is tiny and untrained, for the digits."""
    from safetensors.torch import save_file

    from models.architecture import Architecture, parse_signature
    from models.encoder import build
    from trainables.checkpoint import FORMAT_VERSION
    from trainables.data import prepare

    folder = tmp_path_factory.mktemp("template")
    signature = prepare({"name": "image_classification", "data": "digits", "sample": 100}, cache).signature
    architecture = Architecture(n_layers=1, d_model=8, n_heads=1, d_head=8, d_ff=8, patch=4)
    save_file(build(architecture, parse_signature(signature)).state_dict(), folder / "model.safetensors")
    config = {"architecture": architecture.model_dump(), "signature": signature, "task": {}, "config": {}}
    (folder / "config.json").write_text(json.dumps({"format_version": FORMAT_VERSION, **config}))
    return folder


@pytest.fixture(scope="session")
def environment(cache):
    """Of every driver: the one cache, one thread, no buffering."""
    return {**os.environ, "FITFORMER_CACHE": str(cache), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def experiment(tmp_path, environment, template):
    """Makes toy experiments in the test's folder (see `Toy`); whatever they started has ended after the test."""
    toys = []

    def make(folder=tmp_path, **changes):
        folder.mkdir(exist_ok=True)
        toys.append(Toy(folder, environment, template, **changes))
        return toys[-1]

    yield make
    for toy in toys:
        toy.clear()


@pytest.fixture(scope="session")
def records(cache):
    """The ledger of a finished run."""
    return recorded.records(prepare(checked(recorded.SPEC), cache))


@pytest.fixture
def book(tmp_path, records):
    """That run, on disk."""
    return recorded.write(tmp_path / "results", records)
