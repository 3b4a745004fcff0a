"""The tree-structured Parzen estimator (Bergstra et al. 2011, NeurIPS), by hyperopt's own `tpe.suggest`.

It gets what was observed as its Trials, with ranks for losses: it uses their order alone, so several objectives and
constraints need nothing else. Trials in flight are there without a loss, which counts as a bad one.
"""

import hashlib
from functools import cached_property
from operator import itemgetter
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from experiments.engine.events import Config as Point
from experiments.engine.outcome import Outcome
from experiments.engine.strategies.coding import Coding, Dimension
from experiments.engine.strategies.observations import MOST, Observations
from searchspaces import Space


class Tpe:
    """Each parameter by a density of its values in the better trials over one in the others."""

    class Config(BaseModel):
        """Defaults are hyperopt's."""

        model_config = ConfigDict(frozen=True, extra="forbid")
        n_startup: int = Field(20, ge=1, description="random trials before the first that a model proposes")
        n_candidates: int = Field(24, ge=1, description="values drawn of each parameter, of which the best is taken")
        gamma: float = Field(0.25, gt=0.0, allow_inf_nan=False, description="of n trials gamma * sqrt(n) are good")
        prior_weight: float = Field(1.0, gt=0.0, allow_inf_nan=False, description="what the space itself counts for")

    def __init__(self, config: Config, space: Space, seed: int) -> None:
        self._config = config
        self._seed = seed
        self._coding = Coding(space)
        self._observations = Observations(MOST)
        self._documents: dict[int, dict[str, Any]] = {}
        self._silent: set[int] = set()  # trials that have not reported

    @cached_property
    def _domain(self) -> Any:
        from hyperopt import Domain  # it takes a second, for which nobody should wait who only looks for its name

        return Domain(lambda _: None, {d.name: _label(d) for d in self._coding.dimensions})

    def started(self, trial: int, config: Point) -> None:
        """It has a place in the model at once, as one of those that are not good."""
        self._documents[trial] = self._document(len(self._documents), config)
        self._silent.add(trial)

    def observed(self, trial: int, config: Point, epochs: float, outcome: Outcome | None) -> None:
        """Ranks are read off when they are needed."""
        self._silent.discard(trial)
        self._observations.observed(trial, epochs, outcome)

    def propose(self, trial: int, attempt: int) -> Point:
        """What hyperopt suggests, where that is legal."""
        for number, rank in self._observations.ranks().items():
            self._documents[number]["result"]["loss"] = float(rank)
        return self._coding.proposed(self._seed, trial, attempt, self._suggested)

    def _suggested(self, decision: str) -> dict[str, float]:
        from hyperopt import base, tpe

        there = [self._documents[number] for number in (*self._observations.ranks(), *self._silent)]
        known = base.trials_from_docs(sorted(there, key=itemgetter("tid")), validate=False)
        seed = int.from_bytes(hashlib.sha256(decision.encode()).digest()[:4])
        [found] = tpe.suggest(
            [len(self._documents)],
            self._domain,
            known,
            seed,
            n_startup_jobs=self._config.n_startup,
            n_EI_candidates=self._config.n_candidates,
            gamma=self._config.gamma,
            prior_weight=self._config.prior_weight,
            verbose=False,
        )
        return {name: float(values[0]) for name, values in found["misc"]["vals"].items()}

    def _document(self, number: int, config: Point) -> dict[str, Any]:
        """As hyperopt keeps a trial: a parameter that is inactive in it has no value."""
        given = self._coding.numbers(config)
        values = {d.name: [d.typed(given[d.name])] if d.name in given else [] for d in self._coding.dimensions}
        places = {name: [number] if value else [] for name, value in values.items()}
        misc = {"tid": number, "cmd": None, "idxs": places, "vals": values}
        return {"tid": number, "state": _DONE, "result": {"loss": None}, "misc": misc, "exp_key": None}


def _label(dimension: Dimension) -> Any:
    """Levels are counted, ordered or not: hyperopt's density of steps takes 20 ms a parameter at 1,000 trials."""
    from hyperopt import hp

    if dimension.levels:
        return hp.randint(dimension.name, dimension.levels)
    return hp.uniform(dimension.name, 0.0, 1.0)


# hyperopt's word for it; a trial without a loss counts as the last whatever its state.
_DONE = 2
SEARCHER = Tpe
