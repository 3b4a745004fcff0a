"""Every parameter of every space changes something: what a trial really has (its hash), and what it trains to."""

import hashlib

import pytest
import torch

import searchspaces
from trainables import routine
from trainables.parsing import parse
from trainables.routine import Workspace

TEXTS = {"name": "text_classification", "data": "glosses", "sample": 300, "evaluation_sample": 50, "max_length": 24}
TEXTS |= {"tokenizer": {"vocab_size": 600}}
TINY = {"n_layers": 2, "d_model": 32, "n_heads": 2, "d_head": 16, "d_ff": 64, "positions": "learned"}
LARGE = {"n_layers": 6, "d_model": 384, "n_heads": 12, "d_head": 8, "d_ff": 1536, "positions": "learned"}
STEPS = {"batch_size": 32, "epochs": 0.6, "report_every": 0.6}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module", autouse=True)
def _own_cache(workspace):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("FITFORMER_CACHE", str(workspace.cache))
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def network(workspace):
    """The folder of an untrained network of some sizes: any is a teacher, or a supernet."""

    def written(**sizes):
        folder = workspace.folder / f"{sizes['n_layers']}x{sizes['d_model']}"
        if not folder.is_dir():
            folder.mkdir()
            made("train", workspace, {**sizes, **STEPS}).save(folder)
        return str(folder)

    return written


def made(name, workspace, values):
    torch.manual_seed(0)
    kind = routine.load(name)
    return kind(parse(kind.Config, {"task": TEXTS, **values}, name), workspace)


def which(space, network):
    """The routine that a space is of, and what that needs besides."""
    if "temperature" in space.names:
        return "distill", {**TINY, **STEPS, "teacher": network(**TINY)}
    if "learning_rate" not in space.names and "activation" not in space.names:
        return "subnet", {"supernet": network(**LARGE)}
    return "train", {**{name: value for name, value in TINY.items() if name not in space.names}, **STEPS}


@pytest.fixture(params=searchspaces.find())
def trial(request, workspace, network):
    """A space, and what makes a trial of a point of it."""
    space = searchspaces.load(request.param)
    name, beside = which(space, network)
    return space, lambda point: made(name, workspace, {**beside, **point})


def pairs(space):
    """By parameter two points that differ in it (and in what becomes active by it)."""
    for name in space.names:
        drawn = (space.draw(0, index) for index in range(100))
        point = next(each for each in (space.default(), *drawn) if name in each)
        changed = (space.changed(point, name, 0, index) for index in range(100))
        yield name, point, next(other for other in changed if other != point)


def idle(space, seen):
    """The parameters that change nothing of what `seen` says of a point."""
    kept = {}

    def of(point):
        key = str(sorted(point.items()))
        if key not in kept:
            kept[key] = seen(point)
        return kept[key]

    return [name for name, point, other in pairs(space) if of(point) == of(other)]


def used(routine):
    return routine.used


def outcome(routine):
    """Figures, and all weights to the last bit."""
    report = routine.advance()
    weights = [tensor.detach().numpy().tobytes() for tensor in routine.model.state_dict().values()]
    figures = [report[name] for name in ("val_loss", "params")]
    return [*figures, hashlib.sha256(b"".join(weights)).hexdigest()]


@pytest.mark.timeout(120)
def test_every_parameter_arrives(trial):
    space, make = trial
    assert idle(space, lambda point: used(make(point))) == []


@pytest.mark.timeout(300)
def test_every_parameter_changes_what_is_trained(trial):
    space, make = trial
    assert idle(space, lambda point: outcome(make(point))) == []


def test_it_breaks_when_a_parameter_changes_nothing(workspace, monkeypatch):
    """A schedule that is read nowhere, a dropout that the model is not given."""
    space = searchspaces.load("optimization")

    def seen(point):
        return used(made("train", workspace, {**TINY, **STEPS, **point}))

    assert idle(space, seen) == []
    monkeypatch.setattr("trainables.loop.rate_scale", lambda *_: 1.0)
    assert idle(space, seen) == ["schedule", "warmup"]


def test_the_same_again_is_the_same_whatever_the_seed(workspace):
    one, same, other = (
        used(made("train", workspace, {**TINY, **STEPS, **values})) for values in ({}, {"seed": 7}, {"dropout": 0.3})
    )
    assert one == same != other
    assert len(one) == 16


def test_an_explored_value_that_holds_after_a_load_is_in_the_next_report(workspace, tmp_path):
    first = made("train", workspace, {**TINY, **STEPS, "report_every": 0.3})
    told = first.advance()
    first.save(tmp_path)
    second = made("train", workspace, {**TINY, **STEPS, "learning_rate": 0.01})
    second.load(tmp_path)
    assert second.advance()["used"] != told["used"] == first.used
