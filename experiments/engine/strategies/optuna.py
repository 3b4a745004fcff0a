"""optuna's samplers: TPE with one density over all parameters, NSGA-II (Deb et al. 2002), Gaussian processes, CMA-ES.

All but cmaes get every objective and, as one constraint, by how much bounds are broken; cmaes gets ranks.
"""

import importlib.util
import math
import sys
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from experiments.engine import strategies
from experiments.engine.events import Config as Point
from experiments.engine.outcome import Outcome
from experiments.engine.strategies.coding import Coding
from experiments.engine.strategies.observations import MOST, Observations
from experiments.engine.strategies.study import Sampling
from searchspaces import Space

Sampler = Literal["tpe", "nsga2", "gp", "cmaes"]

# Of the Gaussian process: the most observations, and the search of its acquisition function, points that are drawn and
# climbs that begin at the best of them. optuna's own 2,048 and 10 take several times as long for suggestions that were
# as good on the closed forms of benchmarks.surfaces.
_GP_MOST, _GP_DRAWN, _GP_CLIMBS = 80, 256, 2


class Optuna:
    """Proposes what a sampler of optuna's would."""

    class Config(BaseModel):
        """What is left out is optuna's default."""

        model_config = ConfigDict(frozen=True, extra="forbid")
        sampler: Sampler = "tpe"
        n_startup: int = Field(10, ge=1, description="random trials before the first that a model proposes; not nsga2")
        population: int | None = Field(None, ge=2, description="trials a generation: nsga2 (50), cmaes (4 + 3 ln d)")

    def __init__(self, config: Config, space: Space, seed: int) -> None:
        self._coding = Coding(space)
        _check(config.sampler, self._coding)
        self._seed = seed
        self._nested = config.sampler == "tpe"
        self._observations = Observations(_most(config))
        self._told = True
        self._sampling = Sampling(
            _maker(config),
            self._coding.dimensions,
            notes=config.sampler in ("nsga2", "cmaes"),
            ranked=config.sampler == "cmaes",
        )

    def started(self, trial: int, config: Point) -> None:
        """TPE models a parameter where it is active; to the others an inactive one has its default."""
        self._tell()
        numbers = self._coding.numbers(config) if self._nested else self._coding.completed(config)
        self._sampling.started(trial, numbers, f"{self._seed}/{trial}/started")

    def observed(self, trial: int, config: Point, epochs: float, outcome: Outcome | None) -> None:
        """The sampler gets it when it is asked next."""
        self._observations.observed(trial, epochs, outcome)
        self._told = False

    def propose(self, trial: int, attempt: int) -> Point:
        """What the sampler suggests, where that is legal."""
        self._tell()
        return self._coding.proposed(self._seed, trial, attempt, self._sampling.suggested)

    def _tell(self) -> None:
        if not self._told:
            self._sampling.observed(self._observations)
            self._told = True


def _most(config: Optuna.Config) -> float:
    """How many trials the sampler is told of. CMA-ES needs all its generations; NSGA-II the last two and the parents,
    which are the best of all before.
    """
    of = {"tpe": MOST, "gp": _GP_MOST, "nsga2": max(MOST, 4 * (config.population or 0)), "cmaes": math.inf}
    return of[config.sampler]


def gaussian_process(seed: int, **options: Any) -> Any:
    """optuna's sampler, quick enough for a driver that workers wait for."""
    from optuna.samplers import GPSampler

    sampler = GPSampler(seed=seed, warn_independent_sampling=False, **options)
    for name, value in {"_n_preliminary_samples": _GP_DRAWN, "_n_local_search": _GP_CLIMBS}.items():
        if hasattr(sampler, name):  # they are no part of its interface: another version keeps its own
            setattr(sampler, name, value)
    return sampler


def _check(sampler: Sampler, coding: Coding) -> None:
    """Raises ValueError where the sampler or the space does not allow it."""
    if importlib.util.find_spec("optuna") is None:
        raise ValueError(
            f"searcher is optuna, which is not installed; {sys.executable} -m pip install optuna cmaes, or take tpe or "
            "bohb"
        )
    if sampler != "cmaes":
        return
    if importlib.util.find_spec("cmaes") is None:
        raise ValueError(
            f"searcher.sampler is cmaes, which needs the package cmaes; {sys.executable} -m pip install cmaes, or take "
            "tpe, nsga2 or gp"
        )
    beyond = [d.name for d in coding.dimensions if d.conditional or not d.ordered]
    if beyond:
        raise ValueError(
            f"searcher.sampler is cmaes, which has no choices and no conditions, got {', '.join(beyond)}; fix what is "
            "one of these, or take the sampler tpe, nsga2 or gp, or another searcher: "
            + ", ".join(name for name in strategies.find("SEARCHER") if name != "optuna")
        )


def _maker(config: Optuna.Config) -> Callable[[int], Any]:
    """A new sampler of a seed."""
    from optuna import samplers

    startup = {"n_startup_trials": config.n_startup}
    if config.sampler == "tpe":
        return lambda seed: samplers.TPESampler(seed=seed, **startup)
    if config.sampler == "nsga2":
        size = {"population_size": config.population} if config.population else {}
        return lambda seed: samplers.NSGAIISampler(seed=seed, **size)
    if config.sampler == "gp":
        return lambda seed: gaussian_process(seed, **startup)
    size = {"popsize": config.population} if config.population else {}
    return lambda seed: samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False, **startup, **size)


SEARCHER = Optuna
