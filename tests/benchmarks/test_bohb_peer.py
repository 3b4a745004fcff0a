"""How two models' suggestions are held against each other; the other one here is ours again, with another seed."""

import pytest

from benchmarks import bohb_peer
from searchspaces import Space


def other(points, seed):
    return bohb_peer.ours(Space(bohb_peer.declared(), "peer"), points, 100 + seed)


def test_equal_models_are_as_far_apart_as_chance_has_it(monkeypatch):
    monkeypatch.setattr(bohb_peer, "ASKED", 100)
    found = bohb_peer.compared(0, other)
    assert all(distance < 0.25 for distance in found["ours_from_theirs"].values())
    assert found["mean_value"]["ours"] > found["mean_value"]["random"]


def test_apart():
    point = {"learning_rate": 1.0, "dropout": 0.1, "momentum": 0.6, "activation": "gelu"}
    moved = {**point, "dropout": 0.2, "activation": "relu"}
    assert bohb_peer.apart([point] * 4, [point] * 4) == dict.fromkeys([*bohb_peer.RANGES, "activation"], 0.0)
    assert bohb_peer.apart([point] * 4, [point, point, point, moved]) == pytest.approx(
        {"learning_rate": 0.0, "dropout": 0.25, "momentum": 0.0, "activation": 0.25}
    )


def test_without_the_other_library_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(bohb_peer, "find_spec", lambda name: None)
    assert bohb_peer.main([]) == 2
    assert "hpbandster is not installed" in capsys.readouterr().err
