"""Architecture first and training second, or both at once: `digits_two_phase` beside `digits_joint` at equal compute.

Both experiments run through the engine with each seed. At any compute (training FLOPs, all trials together, in the
order of their reports) a search is worth the best validation accuracy reported so far; compared is what they are worth
when the cheaper of the two has ended, seed by seed, and what their chosen models say on test at their own ends.
Results: benchmarks/results/two_phase.json.

Run: python -m benchmarks.two_phase [--seeds 5] [--out results/two_phase] [--smoke]
"""

import argparse
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.engine_runs import ran
from benchmarks.machine import record
from experiments.engine import history
from experiments.engine.events import Reported, from_record
from experiments.engine.interval import interval
from experiments.engine.report.summary import chosen
from experiments.engine.runs import Run

Json = dict[str, Any]
TWO, JOINT = "digits_two_phase", "digits_joint"
# One step of a search: training FLOPs so far, the best validation accuracy so far.
Course = list[tuple[float, float]]


def course(records: Iterable[Json]) -> Course:
    """Of a run's ledger."""
    spent, best, found = 0.0, 0.0, []
    for line in records:
        event = from_record(line)
        if isinstance(event, Reported) and "training_flops" in event.metrics:
            spent += event.metrics["training_flops"]
            best = max(best, event.metrics["val_accuracy"])
            found.append((spent, best))
    return found


def worth(of: Course, flops: float) -> float:
    """The best accuracy reported within so many FLOPs; 0 before the first report."""
    return max((best for spent, best in of if spent <= flops), default=0.0)


def compare(courses: Mapping[str, Course]) -> Json:
    """One seed."""
    equal = min(of[-1][0] for of in courses.values())
    found = {name: {"val_accuracy": worth(of, equal), "training_flops": of[-1][0]} for name, of in courses.items()}
    return {"equal_flops": equal, **found}


def tested(run: Run) -> float:
    """Test accuracy of what a run chose."""
    final = chosen(history.fold(run.records), run.spec)
    if final is None:
        raise ValueError(f"{run.name} chose nothing, must have chosen a model; see its report")
    return float(final.metrics["test"]["accuracy"]["value"])


def figures(seeds: Sequence[int], folder: Path, smoke: bool) -> Json:
    """Of every seed, and over them."""
    rows = []
    for seed in seeds:
        options = ["--set", f"seed={seed}", *(["--smoke"] if smoke else [])]
        both = {name: ran(name, folder / f"{name}-{seed}", *options) for name in (TWO, JOINT)}
        row = compare({name: course(run.records) for name, run in both.items()})
        for name, run in both.items():
            row[name]["test_accuracy"] = tested(run)
        rows.append({"seed": seed, **row})
        print(row, flush=True)
    gaps = {
        metric: [row[JOINT][metric] - row[TWO][metric] for row in rows] for metric in ("val_accuracy", "test_accuracy")
    }
    return {
        "seeds": rows,
        **{
            f"{name}_{metric}": statistics.fmean(row[name][metric] for row in rows)
            for name in (TWO, JOINT)
            for metric in gaps
        },
        **{
            f"joint_minus_two_phase_{metric}": interval(values)._asdict()
            for metric, values in gaps.items()
            if len(rows) > 1
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/two_phase"), help="folder of the runs")
    parser.add_argument("--smoke", action="store_true", help="tiny runs, nothing recorded")
    given = parser.parse_args(arguments)
    found = figures(range(given.seeds), given.out.resolve(), given.smoke)
    if not given.smoke:
        record("two_phase", found, ("ray", "torch", "ConfigSpace"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
