"""Leaving one task out: what is remembered of the others, what comes first, what that saves."""

from dataclasses import replace

import pytest

from benchmarks import search_efficiency, surfaces, warm_start
from benchmarks.surfaces import ACCURACY
from experiments.engine.memory import MOST

CLOSED = surfaces.closed("ridge", epochs=9)
TABLE = surfaces.sampled(CLOSED, 60)


@pytest.fixture
def tasks(monkeypatch):
    """Three alike, but for their data's features."""
    found = {
        name: replace(TABLE, name=name, features={"examples": size})
        for name, size in zip("abc", (10, 20, 5000), strict=True)
    }
    monkeypatch.setattr(search_efficiency, "given", lambda table: found)
    warm_start.remembered.cache_clear()
    return found


def test_remembered_is_what_a_search_of_the_task_ended_with(tasks):
    past = warm_start.remembered("table", "a", 0)
    assert past.points[0] == CLOSED.space.default()
    assert len(past.points) == len(past.outcomes) > 30
    assert past.features == {"examples": 10}
    heights = {surfaces.key(point): CLOSED.curve(point).metrics(9)[ACCURACY] for point in past.points}
    assert all(
        found.values[0] <= heights[surfaces.key(point)] for point, found in zip(past.points, past.outcomes, strict=True)
    )
    assert max(found.values[0] for found in past.outcomes) == pytest.approx(TABLE.best)


def test_the_best_of_the_others_is_advised_first_and_run_soon(tasks):
    first = warm_start.advised("table", tasks["c"], 0)
    assert 10 < len(first) <= MOST  # of each search the better half
    best = max(TABLE.points, key=lambda point: CLOSED.curve(point).metrics(9)[ACCURACY])
    assert first[0] == best
    cold, warm = warm_start.played(("table", "c", 0))
    assert warm < cold
    assert warm <= (1 + MOST) * CLOSED.epochs


def test_the_share_saved_is_of_the_medians():
    told = warm_start.told([(100.0, 50.0), (300.0, 20.0), (200.0, 80.0)])
    assert (told["epochs_cold"], told["epochs_warm"], told["saved"]) == (200.0, 50.0, 0.75)


def test_a_table_that_is_not_there_is_told(capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        warm_start.main(["--table", str(tmp_path / "none.parquet")])
    assert ended.value.code == 2
    assert (
        "none.parquet, which is not there; write it with python -m benchmarks.recorded table" in capsys.readouterr().err
    )
