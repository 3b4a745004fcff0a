"""How little training a search needs: our strategies beside Ray Tune's, Optuna's and Syne Tune's, on virtual workers.

    python -m benchmarks.search_efficiency [--table benchmarks/results/recorded.parquet] [--seeds 30] \
        [--workers 4]

Plays the recorded benchmark (where that file is not there, the closed forms of benchmarks.surfaces, open and as tables
of 500 random points), on virtual workers, the default configuration first for all, each library by its own code (see
benchmarks.search_rivals, and there what is done alike for all). Two measures, both over epochs trained, all trials
together:

epochs to target   until the share of the gap from the default to the best (99 % of a table's) is closed, over random
                   search without early stopping, and over the rival that needs fewest; medians over seeds,
                   where neither has one that is finite means, in vain counted as the budget
hypervolume        of accuracy and log latency, mean over the budget, over the rival that has most; pairs of seeds

Ours is the pair `OURS`, one strategy for accuracy alone, which is to reach the target, and one for both objectives,
whose hypervolume counts. That is a choice after the fact, as that of the best rival is: before anything was recorded
bohb + asha was chosen on the closed forms; promotion was written when the first hundred configurations were there, on
which ASHA that stops had lost the best point for good in most seeds; evolution was chosen on 261 configurations, and
left as it was when there were 500.
Of a rival that is not installed it is said. PBT has no place here: it changes a training on its way, and no table holds
that.
Results: benchmarks/results/search_efficiency.{json,md,png} (elsewhere with --out).
"""

import argparse
import functools
import math
import multiprocessing
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import search_measures, search_playing, search_rivals, search_text, surfaces
from benchmarks.machine import described
from benchmarks.search_measures import Course
from benchmarks.surfaces import ACCURACY, LATENCY, Point, Surface
from experiments.engine import strategies
from experiments.engine.frontier import Objectives
from experiments.engine.outcome import outcome
from experiments.engine.strategies import Searcher, Strategy
from experiments.engine.strategies.pair import Pair

Json = dict[str, Any]
RANDOM = "random"
OURS = "evolution + promotion", "bohb + promotion, both"
# Searcher, scheduler, and whether it searches for both objectives or for accuracy alone.
OWN: Mapping[str, tuple[str, str, bool]] = {
    RANDOM: ("random", "none", False),
    "random + asha": ("random", "asha", False),
    "bohb + asha": ("bohb", "asha", False),
    "bohb + hyperband": ("bohb", "hyperband", False),
    "random + promotion": ("random", "promotion", False),
    "bohb + promotion": ("bohb", "promotion", False),
    "tpe + promotion": ("tpe", "promotion", False),
    "optuna + promotion": ("optuna", "promotion", False),
    "greedy + promotion": ("greedy", "promotion", False),
    "reinforce + promotion": ("reinforce", "promotion", False),
    "evolution + promotion": ("evolution", "promotion", False),
    "bohb + promotion, both": ("bohb", "promotion", True),
}
_RIVALS: Mapping[str, Callable[[Surface, int], search_playing.Code]] = {
    "Ray Tune: random, FIFO": search_rivals.RayRandom,
    "Ray Tune: HyperOpt, ASHA": search_rivals.RayHyperopt,
    "Optuna: TPE, Hyperband": search_rivals.Optuna,
    "Optuna: TPE, both": functools.partial(search_rivals.Optuna, both=True),
    "Syne Tune: MO-ASHA": search_rivals.SyneTune,
}
_OBJECTIVES: Objectives = {ACCURACY: "max", LATENCY: "min"}
# Epochs: as many as 50 full trainings have.
BUDGET, WORKERS = 1350, 4
TABLE = Path("benchmarks/results/recorded.parquet")
# Random search of an open space is given up after so many budgets.
_FAR = 10


def names() -> list[str]:
    """All that can be played here."""
    optuna = find_spec("optuna") is not None
    there = {"Ray": True, "Optuna": optuna, "optuna": optuna, "Syne": search_rivals.available()}
    return [name for name in (*OWN, *_RIVALS) if there.get(name.replace(":", " ").split()[0], True)]


def strategy(name: str, surface: Surface, seed: int, advised: Sequence[Point] = ()) -> Strategy:
    """One of `names`, for one search. advised: points that one of ours tries in turns with its searcher."""
    if name in _RIVALS:
        return search_playing.Rival(_RIVALS[name](surface, seed), surface)
    searcher, scheduler, both = OWN[name]
    stop = strategies.load(scheduler, "SCHEDULER")
    objectives: Objectives = _OBJECTIVES if both else {ACCURACY: "max"}
    return Pair(
        searcher=_searcher(searcher, surface, seed),
        scheduler=stop(stop.Config(), surface.epochs),
        first=[surface.space.default()],
        advised=advised,
        trials=None,
        epochs=surface.epochs,
        outcome=functools.partial(outcome, objectives=objectives, constraints={}),
    )


def _searcher(name: str, surface: Surface, seed: int) -> Searcher:
    find = strategies.load(name, "SEARCHER")
    if name == "random" and surface.points:
        drawn: Searcher = find(find.Config(), surfaces.Shuffled(surface.points), seed)
        return drawn
    searcher: Searcher = find(find.Config(), surface.space, seed)
    nearest = surfaces.Nearest(surface.space, surface.points) if surface.points else None
    return surfaces.OnlyRecorded(searcher, nearest) if nearest else searcher


@functools.lru_cache(maxsize=1)
def given(table: Path | None) -> dict[str, Surface]:
    """What is played, by name."""
    if table is not None:
        return surfaces.recorded(table)
    whole = [surfaces.closed(name) for name in surfaces.names()]
    return {surface.name: surface for surface in (*whole, *map(surfaces.sampled, whole))}


def played(task: tuple[Path | None, str, str, int, int, int]) -> Course:
    """One search: table, surface, strategy, seed, budget, workers. Random search goes on until it meets the target."""
    table, name, who, seed, budget, workers = task
    surface = given(table)[name]
    every = len(surface.points) * surface.epochs or _FAR * budget
    most = every if who == RANDOM else 0
    return search_measures.play(strategy(who, surface, seed), surface, min(budget, every), workers, most=most)


def compare(courses: Mapping[str, Sequence[Course]], budget: int) -> Json:
    """The ratios on one surface. The quickest rival has the lowest median; of those that have none, the lowest mean."""
    rivals = [name for name in courses if name in _RIVALS]
    epochs = {name: [course.to_target for course in of] for name, of in courses.items()}
    volumes = {name: [course.volume for course in of] for name, of in courses.items()}
    quickest = min(
        rivals, key=lambda name: (statistics.median_high(epochs[name]), search_measures.mean(epochs[name], budget))
    )
    fullest = max(rivals, key=lambda name: statistics.median(volumes[name]))
    found = {
        "epochs_to_target_over_random": search_measures.of_medians(epochs[OURS[0]], epochs[RANDOM], budget),
        "epochs_to_target_over_best_rival": search_measures.of_medians(epochs[OURS[0]], epochs[quickest], budget),
        "hypervolume_over_best_rival": search_measures.of_pairs(volumes[OURS[1]], volumes[fullest]),
    }
    ratios = {name: {"median": ratio.median, "interval": [ratio.low, ratio.high]} for name, ratio in found.items()}
    there = {name: sum(map(math.isfinite, epochs[name])) for name in (OURS[0], quickest)}
    return {**ratios, "quickest_rival": quickest, "fullest_rival": fullest, "seeds_that_got_there": there}


def run(
    table: Path | None,
    found: Sequence[str],
    who: Sequence[str],
    *,
    seeds: int,
    budget: int,
    workers: int = WORKERS,
    processes: int,
) -> Json:
    """Everything: ratios and courses by surface, and the medians over surfaces."""
    tasks = [(table, name, one, seed, budget, workers) for name in found for one in who for seed in range(seeds)]
    with multiprocessing.get_context("forkserver").Pool(processes) as pool:
        all_courses = dict(zip(tasks, pool.imap(played, tasks), strict=True))
    by: Json = {}
    for name in found:
        courses = {one: [all_courses[table, name, one, seed, budget, workers] for seed in range(seeds)] for one in who}
        by[name] = {**compare(courses, budget), "strategies": {one: _told(of) for one, of in courses.items()}}
    medians = {key: statistics.median_high(each[key]["median"] for each in by.values()) for key in search_text.RATIOS}
    left = sorted(set(_RIVALS) - set(who))
    about = {"ours": OURS, "seeds": seeds, "workers": workers, "budget_epochs": budget, "left_out": left}
    return {"benchmark": "search_efficiency", "recorded": table is not None, **about, **medians, "surfaces": by}


def _told(courses: Sequence[Course]) -> Json:
    """Curves as medians over seeds with their quartiles; epochs to target of each seed, None where never."""
    return {
        "epochs_to_target": [None if math.isinf(course.to_target) else course.to_target for course in courses],
        "hypervolume": [course.volume for course in courses],
        "best": _quartiles([course.best for course in courses]),
        "volumes": _quartiles([course.volumes for course in courses]),
    }


def _quartiles(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    columns = [sorted(column) for column in zip(*rows, strict=True)]
    return [[round(column[round(share * (len(column) - 1))], 5) for column in columns] for share in (0.25, 0.5, 0.75)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--budget", type=int, default=BUDGET, help="epochs of a search")
    parser.add_argument("--workers", type=int, default=WORKERS, help="virtual ones: trials that train at once")
    parser.add_argument("--only", nargs="*", help=f"some of: {', '.join([*OWN, *_RIVALS])}")
    parser.add_argument("--surfaces", nargs="*", help="some of what is played; all without it")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    asked = parser.parse_args(arguments)
    who = [name for name in names() if asked.only is None or name in {*asked.only, *OURS, RANDOM}]
    if not set(who) & set(_RIVALS):
        parser.error(f"--only names no rival that is here; name one of {', '.join(n for n in names() if n in _RIVALS)}")
    table = asked.table if asked.table.is_file() else None
    found = [name for name in given(table) if asked.surfaces is None or name in asked.surfaces]
    if not found:
        parser.error(f"--surfaces names none that is there; name one of {'; '.join(given(table))}")
    sizes = {name: getattr(asked, name) for name in ("seeds", "budget", "workers", "processes")}
    results = run(table, found, who, **sizes)
    results |= described(name for name in ("ray", "hyperopt", "optuna", "numpy") if find_spec(name))
    results["versions"] |= search_rivals.version()
    search_text.write(results, asked.out)
    print(search_text.text(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
