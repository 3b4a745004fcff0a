"""Rivals decide by their own code and learn which point was run; epochs to the target and hypervolume by hand."""

import json
import math
from functools import partial
from types import SimpleNamespace

import pytest

from benchmarks import search_efficiency, search_measures, search_rivals, search_text, surfaces
from benchmarks.search_efficiency import OURS, RANDOM
from benchmarks.search_measures import Course, of_medians, of_pairs, play
from benchmarks.surfaces import ACCURACY, LATENCY, Surface, closed, key
from experiments.engine.frontier import hypervolume
from experiments.engine.outcome import Outcome
from experiments.engine.simulator import Curve
from experiments.engine.strategies import none
from experiments.engine.strategies.pair import Pair
from experiments.engine.strategies.random import Random

CLOSED = closed("branches", epochs=9)
POINTS = (CLOSED.space.default(), *(CLOSED.space.draw(5, index) for index in range(39)))
RIVALS = [name for name in search_efficiency.names() if name in search_efficiency._RIVALS]


@pytest.fixture
def table():
    """A table of 40 points."""
    best = max(CLOSED.curve(point).metrics(9)[ACCURACY] for point in POINTS)
    return Surface("table", CLOSED.space, 9, CLOSED.curve, best, share=0.99, ceiling_ms=10.0, points=POINTS)


@pytest.fixture
def asked(monkeypatch):
    """The points that are played, in order, an entry each time one begins."""
    run = []

    def curve(point):
        run.append(point)
        return CLOSED.curve(point)

    return SimpleNamespace(run=run, curve=curve)


def played(name, surface, asked, seed=0, budget=10_000):
    watching = Surface(**{**vars(surface), "curve": asked.curve})
    _ = watching.target
    asked.run.clear()
    course = play(search_efficiency.strategy(name, surface, seed), Surface(**vars(watching)), budget, 4)
    return asked.run[1:], course  # `play` itself looks at the default


@pytest.mark.parametrize("name", [*search_efficiency.OWN, *RIVALS])
def test_all_play_each_recorded_point_once_and_the_default_first(name, table, asked):
    run, course = played(name, table, asked)
    promoted = "hyperband" in name or "promotion" in name  # a trial that is promoted begins again
    points = list(dict.fromkeys(map(key, run)))
    assert run[0] == table.space.default()
    assert promoted or len(points) == len(run)
    assert sorted(points) == sorted(map(key, POINTS))
    assert course.best[-1] <= table.best


@pytest.mark.parametrize("name", [*RIVALS, *OURS])
def test_a_seed_gives_the_same_search_again_and_another_another(name, table, asked):
    first, again, other = (key(played(name, table, asked, seed, 60)[0]) for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("name", RIVALS)
def test_on_a_closed_form_a_rival_tries_its_own_wishes(name, asked):
    run, _ = played(name, CLOSED, asked, 0, 60)
    assert run[0] == CLOSED.space.default()
    assert all(CLOSED.space.legal(point) for point in run)
    assert len(set(map(key, run))) == len(run) > 5


def test_those_without_early_stopping_train_all_to_the_end_and_the_others_less(table):
    spent = {}
    for name in (RANDOM, "Ray Tune: random, FIFO", "Optuna: TPE, Hyperband", "Ray Tune: HyperOpt, ASHA"):
        course = []
        counted = Surface(**{**vars(table), "curve": partial(counting, course)})
        play(search_efficiency.strategy(name, table, 0), counted, 10_000, 4)
        spent[name] = len(course) - 9  # the default's, which `play` looks at
    assert spent.pop(RANDOM) == spent.pop("Ray Tune: random, FIFO") == 9 * 40
    assert all(40 < epochs < 200 for epochs in spent.values())


def counting(course, point):
    def metrics(epoch):
        course.append(epoch)
        return CLOSED.curve(point).metrics(epoch)

    return Curve(metrics)


def test_optuna_learns_which_point_was_run(table):
    code = search_rivals.Optuna(table, 0)
    wish = code.wish(1)
    run = next(point for point in POINTS if point != wish and "temperature" in point)
    code.takes(1, run)
    assert code.goes_on(1, 1, {ACCURACY: 0.4, LATENCY: 1.0})
    code.ends(1)
    wished, told = code._study.trials
    assert (wished.state.name, told.state.name, told.value) == ("FAIL", "COMPLETE", 0.4)
    assert told.params == code._flat.numbers(run)
    assert told.params["d_model"] in range(4)


def test_hyperopt_learns_which_point_was_run(table):
    code = search_rivals.RayHyperopt(table, 0)
    run = next(point for point in POINTS if "temperature" in point)
    assert code.wish(1) != run
    code.takes(1, run)
    code.goes_on(1, 1, {ACCURACY: 0.4})
    code.ends(1)
    (trial,) = code._searcher._hpopt_trials.trials
    told = {name: values[0] for name, values in trial["misc"]["vals"].items() if name in run}
    assert told == {**code._flat.numbers(run), "teaching": 1}
    assert trial["result"] == {"loss": -0.4, "status": "ok"}


def test_syne_tune_without_a_python_is_told_in_one_line(table, monkeypatch):
    monkeypatch.delenv("SYNE_TUNE_PYTHON", raising=False)
    assert "Syne Tune: MO-ASHA" not in search_efficiency.names()
    with pytest.raises(ValueError, match="SYNE_TUNE_PYTHON names no Python; set it to one that has syne-tune"):
        search_rivals.SyneTune(table, 0)


@pytest.fixture
def by_hand():
    """Three trials of two epochs, one worker: reports 0.2, 0.3, 0.1, 0.9, 0.5, 0.6 at 1, 0.1 and 0.01 ms."""
    heights = {0: (0.2, 0.3), 1: (0.1, 0.9), 2: (0.5, 0.6)}

    def curve(point):
        number = point.get("number", 0)
        return Curve(lambda epoch: {ACCURACY: heights[number][epoch - 1], LATENCY: 0.1**number})

    space = SimpleNamespace(default=lambda: {"number": 0})
    surface = Surface("by hand", space, 2, curve, best=0.9, share=0.9, ceiling_ms=10.0)
    assert surface.target == pytest.approx(0.84)
    return surface


def three():
    """The three in their order, to the end."""
    return Pair(
        searcher=Random(Random.Config(), None, 0),
        scheduler=none.SCHEDULER(none.SCHEDULER.Config(), 2),
        first=[{"number": number} for number in range(3)],
        trials=3,
        epochs=2,
        outcome=lambda metrics: Outcome((metrics[ACCURACY],)),
    )


def test_without_optuna_all_that_is_optunas_is_left_out(monkeypatch):
    assert "Optuna: TPE, both" in search_efficiency.names()
    monkeypatch.setattr(search_efficiency, "find_spec", lambda _: None)
    assert not [name for name in search_efficiency.names() if name.lower().startswith("optuna")]
    assert "Ray Tune: HyperOpt, ASHA" in search_efficiency.names()


def test_a_course_by_hand(by_hand):
    course = play(three(), by_hand, 6, 1)
    volumes = [0.2, 0.3, 0.3 * 1 + 0.1, 0.9 * 2, 0.9 * 2 + 0.5, 0.9 * 2 + 0.6]
    assert course.to_target == 4
    assert course.volume == pytest.approx(sum(volumes) / 6)
    assert (course.volumes[0], course.volumes[-1]) == (pytest.approx(0.2), pytest.approx(2.4))
    assert (course.best[0], course.best[-1]) == (0.2, 0.9)
    assert volumes[-1] == pytest.approx(hypervolume([(0.3, 1.0), (0.9, 2.0), (0.6, 3.0)], (0.0, 0.0)))


def test_curves_end_with_the_budget_and_random_search_goes_on_to_the_target(by_hand):
    short, on = (play(three(), by_hand, 3, 1, most=most) for most in (0, 6))
    assert (short.to_target, on.to_target) == (math.inf, 4)
    assert short.volumes == on.volumes
    assert short.volume == on.volume == pytest.approx((0.2 + 0.3 + 0.4) / 3)
    assert play(three(), by_hand, 3, 1, most=3).to_target == math.inf


def test_ratios_by_hand():
    ratio = of_medians([100, 200, 300], [1000, 2000, 4000], 5000)
    assert ratio.median == 0.1
    assert ratio.low <= 0.1 <= ratio.high
    assert of_medians([math.inf, math.inf, 5], [10, 10, 10], 20).median == math.inf
    assert of_medians([5, 5, 5], [math.inf, math.inf, 10], 20).median == 0
    assert of_medians([math.inf] * 3, [math.inf] * 3, 20).median == 1
    assert of_medians([math.inf] * 4, [math.inf, math.inf, math.inf, 4], 20).median == pytest.approx(80 / 64)
    pairs = of_pairs([2.0, 3.0, 4.0], [1.0, 3.0, 2.0])
    assert (pairs.median, pairs.low, pairs.high) == (2.0, 1.0, 2.0)
    alike = of_pairs([1.1] * 30, [1.0] * 30)
    assert alike.low == alike.high == pytest.approx(1.1)


def test_the_comparison_takes_the_best_rival_of_each_measure(tmp_path):
    def courses(epochs, volume):
        line = [0.1] * search_measures.MARKS
        return [Course(epochs, line, line, volume)] * 3

    slow, quick = "Ray Tune: random, FIFO", "Optuna: TPE, Hyperband"
    of = {OURS[0]: courses(50, 1.0), OURS[1]: courses(math.inf, 1.5), RANDOM: courses(1000, 0.5)}
    of |= {slow: courses(900, 1.2), quick: courses(100, 1.0)}
    found = search_efficiency.compare(of, 1350)
    assert (found["quickest_rival"], found["fullest_rival"]) == (quick, slow)
    medians = {name: found[name]["median"] for name in search_text.RATIOS}
    assert medians == {
        "epochs_to_target_over_random": 0.05,
        "epochs_to_target_over_best_rival": 0.5,
        "hypervolume_over_best_rival": 1.25,
    }


def test_of_rivals_that_mostly_fail_the_best_is_the_one_that_fails_least():
    line = [0.1] * search_measures.MARKS
    never, seldom = "Ray Tune: random, FIFO", "Optuna: TPE, Hyperband"
    epochs = {OURS[0]: [math.inf] * 3, OURS[1]: [1] * 3, RANDOM: [9] * 3, never: [math.inf] * 3}
    epochs[seldom] = [100, math.inf, math.inf]
    of = {name: [Course(each, line, line, 1.0) for each in found] for name, found in epochs.items()}
    found = search_efficiency.compare(of, 1000)
    assert found["quickest_rival"] == seldom
    assert found["seeds_that_got_there"] == {OURS[0]: 0, seldom: 1}
    assert found["epochs_to_target_over_best_rival"]["median"] == pytest.approx(3000 / 2100)


def test_hundreds_of_virtual_workers():
    many, few = (search_efficiency.played((None, CLOSED.name, "random + asha", 0, 2000, n)) for n in (300, 4))
    assert many.best[0] < few.best[0]  # all begin before the first is promoted
    assert max(many.best) > 0.6


def test_the_command_writes_json_text_and_curves(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(surfaces, "_FORMS", {"ridge": surfaces._ridge})
    monkeypatch.setattr(surfaces, "sampled", lambda surface: surface)
    monkeypatch.setattr(search_efficiency.multiprocessing, "get_context", lambda _: SimpleNamespace(Pool=Here))
    search_efficiency.given.cache_clear()
    monkeypatch.delenv("SYNE_TUNE_PYTHON", raising=False)
    arguments = ["--seeds", "2", "--budget", "40", "--surfaces", "ridge", "--only", "Ray Tune: random, FIFO"]
    assert search_efficiency.main([*arguments, "--table", str(tmp_path / "none"), "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "search_efficiency.json").read_text())
    assert set(search_text.RATIOS) <= set(found)
    assert list(found["surfaces"]["ridge"]["strategies"]) == [RANDOM, *OURS, "Ray Tune: random, FIFO"]
    assert found["recorded"] is False
    assert {"ray", "optuna", "hyperopt"} < set(found["versions"])
    assert "Syne Tune: MO-ASHA" in found["left_out"]
    assert "closed forms, not the recorded benchmark" in capsys.readouterr().out
    assert (tmp_path / "search_efficiency.png").stat().st_size > 10_000


class Here:
    """A pool of this process."""

    def __init__(self, processes):
        self.imap = map

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_a_surface_that_is_not_there_is_refused_with_those_that_are(capsys, tmp_path):
    search_efficiency.given.cache_clear()
    with pytest.raises(SystemExit) as ended:
        search_efficiency.main(["--surfaces", "glosses", "--table", str(tmp_path / "none")])
    assert ended.value.code == 2
    assert "--surfaces names none that is there; name one of ridge; crossing; branches; ridge, 500" in " ".join(
        capsys.readouterr().err.split()
    )


def test_without_a_rival_there_is_nothing_to_compare(capsys):
    with pytest.raises(SystemExit) as ended:
        search_efficiency.main(["--only", "tpe + asha"])
    assert ended.value.code == 2
    assert "--only names no rival that is here; name one of Ray Tune: random, FIFO" in capsys.readouterr().err
