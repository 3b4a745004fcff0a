"""Other libraries' searches (see `benchmarks.search_playing`), each by its own code.

Ray Tune     random search without early stopping; HyperOptSearch with AsyncHyperBandScheduler
Optuna       TPESampler with HyperbandPruner; TPESampler on both objectives, which it cannot prune
Syne Tune    MO-ASHA, in a process of the Python that SYNE_TUNE_PYTHON names

Each gets our reduction factor 3 and grace of one epoch, else its own defaults. What none of them knows is settled as
its users settle it: ordinals are whole numbers (so that their order counts), every parameter is suggested and inactive
ones are dropped; Optuna asks only for active ones. On a table each learns, by its own means, which point was run:
Optuna enqueues it and asks again (the wish ends as failed, which its samplers pass over), hyperopt's record of the
trial gets its values.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.search_playing import Flat
from benchmarks.surfaces import ACCURACY, LATENCY, Point, Surface
from experiments.engine.events import Metrics

ETA = 3
_PYTHON = "SYNE_TUNE_PYTHON"


class RayRandom:
    """Ray Tune's random search, FIFO: every trial gets all epochs. On a table it draws one of the points."""

    independent = True

    def __init__(self, surface: Surface, seed: int) -> None:
        from ray import tune

        made = {
            "int": lambda low, high: tune.randint(low, high + 1),
            "float": tune.uniform,
            "log float": tune.loguniform,
        }
        self._points, self._flat = surface.points, Flat(surface.space)
        self._domains = {
            name: tune.choice(values) if kind == "choice" else made[kind](*values)
            for name, kind, values in self._flat.rows
        }
        self._any = tune.randint(0, max(len(self._points), 1))
        self._random = np.random.RandomState(seed)

    def wish(self, trial: int) -> Point:
        """A draw."""
        if self._points:
            return self._points[int(self._any.sample(random_state=self._random))]
        draws = {name: domain.sample(random_state=self._random) for name, domain in self._domains.items()}
        return self._flat.point({name: getattr(value, "item", lambda v=value: v)() for name, value in draws.items()})

    def takes(self, trial: int, point: Point) -> None:
        """It does not learn."""

    def goes_on(self, trial: int, epoch: int, metrics: Metrics) -> bool:
        """Always."""
        return True

    def ends(self, trial: int) -> None:
        """It does not learn."""


class RayHyperopt:
    """Ray Tune's HyperOptSearch with its AsyncHyperBandScheduler."""

    independent = False

    def __init__(self, surface: Surface, seed: int) -> None:
        from ray.tune.schedulers import AsyncHyperBandScheduler
        from ray.tune.search.hyperopt import HyperOptSearch

        self._flat = Flat(surface.space)
        self._searcher = HyperOptSearch(self._space(), metric=ACCURACY, mode="max", random_state_seed=seed)
        self._scheduler = AsyncHyperBandScheduler(
            "epoch", ACCURACY, "max", max_t=surface.epochs, grace_period=1, reduction_factor=ETA
        )
        self._wished: set[int] = set()
        self._last: dict[int, dict[str, Any]] = {}

    def _space(self) -> dict[str, Any]:
        from hyperopt import hp

        made = {
            "choice": lambda name, *values: hp.choice(name, list(values)),
            "int": hp.uniformint,
            "float": hp.uniform,
            "log float": lambda name, low, high: hp.loguniform(name, np.log(low), np.log(high)),
        }
        return {name: made[kind](name, *values) for name, kind, values in self._flat.rows}

    def wish(self, trial: int) -> Point:
        """What hyperopt suggests."""
        self._wished.add(trial)
        suggested = self._searcher.suggest(str(trial))
        return self._flat.point(
            {name: getattr(value, "item", lambda v=value: v)() for name, value in suggested.items()}
        )

    def takes(self, trial: int, point: Point) -> None:
        """hyperopt's record gets the values of what is run; a choice is recorded by its index."""
        if trial not in self._wished:
            self.wish(trial)
        choices = {name: values for name, kind, values in self._flat.rows if kind == "choice"}
        record = self._searcher._get_hyperopt_trial(str(trial))["misc"]["vals"]
        for name, value in self._flat.numbers(point).items():
            record[name] = [choices[name].index(value) if name in choices else value]
        self._scheduler.on_trial_add(None, _trial(trial))

    def goes_on(self, trial: int, epoch: int, metrics: Metrics) -> bool:
        """As the scheduler says."""
        self._last[trial] = {"epoch": epoch, "training_iteration": epoch, ACCURACY: metrics[ACCURACY]}
        self._searcher.on_trial_result(str(trial), self._last[trial])
        return bool(self._scheduler.on_trial_result(None, _trial(trial), self._last[trial]) == "CONTINUE")

    def ends(self, trial: int) -> None:
        """The searcher learns the last report, as Ray Tune tells it."""
        self._searcher.on_trial_complete(str(trial), self._last[trial])


def _trial(trial: int) -> Any:
    return SimpleNamespace(trial_id=str(trial))


class Optuna:
    """Optuna's TPE: with the Hyperband pruner on accuracy, or on both objectives, where it cannot prune."""

    independent = False

    def __init__(self, surface: Surface, seed: int, *, both: bool = False) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._flat, self._both = Flat(surface.space), both
        self._kinds = {name: (kind, values) for name, kind, values in self._flat.rows}
        pruner = optuna.pruners.HyperbandPruner(1, surface.epochs, ETA)
        self._study = optuna.create_study(
            study_name=f"study {seed}",  # the pruner takes its bracket of it
            sampler=optuna.samplers.TPESampler(seed=seed),
            pruner=optuna.pruners.NopPruner() if both else pruner,
            directions=["maximize", "minimize"] if both else ["maximize"],
        )
        self._state = optuna.trial.TrialState
        self._asked: dict[int, tuple[Any, Point]] = {}
        self._last: dict[int, tuple[list[float], bool]] = {}

    def wish(self, trial: int) -> Point:
        """What the sampler suggests."""
        asked = self._study.ask()
        point = self._flat.built(lambda name: self._suggested(asked, name))
        self._asked[trial] = asked, point
        return point

    def _suggested(self, asked: Any, name: str) -> Any:
        kind, values = self._kinds[name]
        if kind == "choice":
            return asked.suggest_categorical(name, values)
        if kind == "int":
            return asked.suggest_int(name, *values)
        return asked.suggest_float(name, *values, log=kind.startswith("log"))

    def takes(self, trial: int, point: Point) -> None:
        """Another point than it wished is enqueued, and asked for."""
        if trial in self._asked and self._asked[trial][1] == point:
            return
        if trial in self._asked:
            self._study.tell(self._asked[trial][0], state=self._state.FAIL)
        self._study.enqueue_trial(self._flat.numbers(point))
        self.wish(trial)

    def goes_on(self, trial: int, epoch: int, metrics: Metrics) -> bool:
        """As the pruner says."""
        asked = self._asked[trial][0]
        values = [metrics[ACCURACY], metrics[LATENCY]][: 2 if self._both else 1]
        pruned = False
        if not self._both:
            asked.report(values[0], epoch)
            pruned = asked.should_prune()
        self._last[trial] = values, pruned
        return not pruned

    def ends(self, trial: int) -> None:
        """Pruned or complete."""
        values, pruned = self._last.pop(trial)
        state = self._state.PRUNED if pruned else self._state.COMPLETE
        self._study.tell(self._asked.pop(trial)[0], None if pruned else values, state=state)


class SyneTune:
    """Syne Tune's MO-ASHA on both objectives (it draws at random)."""

    independent = True

    def __init__(self, surface: Surface, seed: int) -> None:
        if not available():
            raise ValueError(f"{_PYTHON} names no Python; set it to one that has syne-tune, or leave Syne Tune out")
        self._flat, self._points, self._epochs = Flat(surface.space), surface.points, surface.epochs
        rows = [("index", "int", [0, len(self._points) - 1])] if self._points else self._flat.rows
        space = {name: [kind, values] if kind == "choice" else [kind, *values] for name, kind, values in rows}
        script = Path(__file__).with_name("search_syne_tune.py")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._process = subprocess.Popen(
            [os.environ[_PYTHON], "-c", f"import runpy; runpy.run_path({str(script)!r})['main']()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        about = {"space": space, "metrics": ["error", LATENCY], "epochs": self._epochs, "eta": ETA, "seed": seed}
        self._told(about)
        self._last: dict[int, tuple[dict[str, Any], bool]] = {}

    def _told(self, request: Mapping[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        if not (line := self._process.stdout.readline()):
            raise ValueError(f"{_PYTHON} is {os.environ[_PYTHON]}, must be a Python with syne-tune; install it there")
        return json.loads(line)

    def wish(self, trial: int) -> Point:
        """A draw."""
        suggested = self._told({"suggest": trial})
        return self._points[suggested["index"]] if self._points else self._flat.point(suggested)

    def takes(self, trial: int, point: Point) -> None:
        """It is added to a bracket."""
        self._told({"start": trial})

    def goes_on(self, trial: int, epoch: int, metrics: Metrics) -> bool:
        """As its rungs say. It minimises all."""
        result = {"epoch": epoch, "error": 1 - metrics[ACCURACY], LATENCY: metrics[LATENCY]}
        stopped = self._told({"report": trial, "result": result}) != "CONTINUE"
        self._last[trial] = result, stopped and epoch < self._epochs
        return not stopped

    def ends(self, trial: int) -> None:
        """Stopped or complete."""
        result, stopped = self._last.pop(trial)
        self._told({"end": trial, "result": result, "stopped": stopped})

    def __del__(self) -> None:
        if process := getattr(self, "_process", None):
            process.stdin.close()
            process.wait()


def available() -> bool:
    """Whether there is a Python for Syne Tune."""
    return Path(os.environ.get(_PYTHON, "")).is_file()


def version() -> dict[str, str]:
    """Syne Tune's, where it is there."""
    if not available():
        return {}
    asked = "import importlib.metadata as found; print(found.version('syne-tune'))"
    done = subprocess.run([os.environ[_PYTHON], "-c", asked], capture_output=True, text=True, check=False)
    return {"syne-tune": done.stdout.strip()}
