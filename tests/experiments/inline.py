"""A run in this process, one trial at a time, all of the engine but Ray: most of a tiny run is starting processes."""

import platform

from ray.tune.search import Searcher

from experiments.engine import bridge, launch
from trainables.adapter import SegmentTrainable


def without_ray(monkeypatch):
    """One node with one CPU, and what runs there."""
    here = launch.Node("here", platform.node(), {"CPU": 1.0})
    monkeypatch.setattr(launch, "connect", lambda _: None)
    monkeypatch.setattr(launch, "nodes", lambda: [here])
    monkeypatch.setattr(launch, "execute", execute)
    monkeypatch.setattr(bridge, "draining", set)


def execute(between, count):
    """As `launch.execute`: runs what the bridge suggests until that is the end. One trainable serves all."""
    runner = SegmentTrainable.__new__(SegmentTrainable)
    runner._iteration = 0
    for number in range(10_000):
        job = between.suggest(str(number))
        if job == Searcher.FINISHED:
            break
        assert job is not None, "nothing runs that could be waited for"
        runner.setup(job)
        while between.result(str(number), runner.step()) == "continue":
            pass
    runner.cleanup()
