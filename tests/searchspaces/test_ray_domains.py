"""Against Ray's own domains: every draw is one that Ray's sampler could give."""

import math

import pytest
from ray import tune
from ray.tune.search.sample import Categorical, Float

from searchspaces import Space, SpaceError
from searchspaces.ray_domains import converted

DOMAINS = {
    "rate": tune.loguniform(1e-5, 1e-2),
    "dropout": tune.uniform(0.0, 0.5),
    "warmup": tune.quniform(0.0, 0.3, 0.1),
    "layers": tune.randint(1, 5),
    "width": tune.lograndint(16, 257),
    "batch": tune.qrandint(16, 64, 16),
    "act": tune.choice(["gelu", "relu", None]),
    "norm": "layer",
    "depth": 3,
}


def test_draws_cover_what_ray_draws():
    space = Space(converted(DOMAINS, "mine.py:SPACE"), "s")
    points = [space.draw(0, index) for index in range(300)]
    for name, domain in DOMAINS.items():
        ours = {point[name] for point in points}
        if name in ("norm", "depth"):
            assert ours == {domain}
            continue
        assert all(domain.is_valid(value) for value in ours)
        theirs = {domain.sample() for _ in range(300)}
        assert {type(value) for value in ours} == {type(value) for value in theirs}
        if name in ("layers", "batch", "act"):
            assert ours == theirs
    assert {point["warmup"] for point in points} == {0.0, 0.1, 0.2, 0.3}
    assert max(point["width"] for point in points) <= 256


def test_log_ranges_stay_log():
    space = Space(converted(DOMAINS, "m"), "s")
    rates = [space.draw(1, index)["rate"] for index in range(200)]
    below = sum(rate < math.sqrt(1e-5 * 1e-2) for rate in rates) / 200
    assert 0.4 < below < 0.6


@pytest.mark.parametrize(
    ("domain", "line"),
    [
        (tune.choice([{"a": tune.uniform(0, 1)}]), "lr offers domains within a choice; spaces are flat: give each"),
        (tune.grid_search([1, 2]), "lr uses grid_search; use tune.choice"),
        (Categorical([1, 2]).grid(), "lr uses grid_search; use tune.choice"),
        (tune.sample_from(lambda _: 1), "lr uses sample_from, which is code without a range; use a domain, or a "),
        (tune.randn(0, 1), "lr uses randn, which has no bounds; use tune.uniform or tune.loguniform"),
        (tune.qrandn(0, 1, 0.1), "lr uses randn, which has no bounds"),
        ({"a": tune.uniform(0, 1)}, "lr is a nested dict; spaces are flat: give each parameter the name of a field"),
        ([1, 2], "lr is a plain list; use tune.choice for values to choose from"),
        (tune.choice([]), "lr must offer at least one value, got choice([])"),
        (tune.uniform(1, 0), "lr must have a lower bound below the upper one, got 1 and 0"),
        (Float(0, math.inf), "lr must have finite bounds, got 0 and inf"),
        (Float(math.nan, 1), "lr must have finite bounds, got nan and 1"),
        (tune.randint(3, 3), "lr must have a lower bound below the upper one, got 3 and 2"),
        (tune.qloguniform(1e-4, 1e-1, 1e-4), "lr uses steps on a log scale; use tune.choice with the values"),
        (tune.quniform(0, 1, 1e-6), "lr must have 1 to 1000 steps of 1e-06 from 0 to 1"),
        (tune.choice(["a", "a"]), "lr "),
    ],
)
def test_what_cannot_be_taken_is_refused_by_name(domain, line):
    with pytest.raises(SpaceError) as raised:
        converted({"lr": domain, "ok": tune.uniform(0, 1)}, "mine.py:SPACE")
    (found,) = raised.value.faults
    assert found.startswith(f"space mine.py:SPACE: {line}")


def test_all_faults_at_once():
    with pytest.raises(SpaceError) as raised:
        converted({"a": tune.randn(), "b": {"c": 1}}, "m")
    assert [fault.split()[2] for fault in raised.value.faults] == ["a", "b"]
