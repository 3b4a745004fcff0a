"""Search strategies: pure state machines, one a file, found by name. No ray.

A *searcher* proposes whole configurations, a *scheduler* stops trials; `Pair` joins the two into a strategy.
A strategy's state is a fold over what it is told: `ask` changes nothing, and its randomness comes from
(seed, decision), so a replay of the ledger, a simulation and a live search take the same path.
"""

import importlib
import pkgutil
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import BaseModel

from experiments.engine.events import Config, Metrics, Verdict

Signal = Literal["wait", "done"]


@dataclass(frozen=True)
class Proposal:
    """What to do next: run `trial` with `config` up to `epochs`, from the checkpoint of `start` if given."""

    trial: int
    config: Config
    epochs: float
    start: tuple[int, float] | None = None


class Strategy(Protocol):
    """ask → proposal, "wait" (only while something is in flight) or "done"; tell → "continue" or "stop"."""

    def ask(self) -> Proposal | Signal: ...

    def started(self, trial: int, config: Config) -> None: ...

    def reported(self, trial: int, epochs: float, metrics: Metrics) -> Verdict: ...

    def ended(self, trial: int, failed: bool) -> None: ...


class Space(Protocol):
    """What a searcher needs of a search space (see `searchspaces`)."""

    def default(self) -> Config: ...

    def draw(self, seed: int, index: int) -> Config: ...


class Searcher(Protocol):
    """Proposes configurations; `observed` tells it the score (higher is better) of a trial at some epochs."""

    def propose(self, trial: int, attempt: int) -> Config: ...

    def observed(self, trial: int, config: Config, epochs: float, score: float | None) -> None: ...


class Scheduler(Protocol):
    """Decides, report by report, whether a trial goes on. Scores are higher-is-better and finite."""

    def judge(self, trial: int, epochs: float, score: float) -> Verdict: ...


def find(role: Literal["SEARCHER", "SCHEDULER"]) -> list[str]:
    """Names of the modules here that declare the role."""
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    return sorted(name for name in names if hasattr(_module(name), role))


def load(name: str, role: Literal["SEARCHER", "SCHEDULER"]) -> Any:
    """The searcher or scheduler class that module `name` declares; it has a pydantic `Config`."""
    if name not in find(role):
        raise ValueError(f"there is no {role.lower()} {name!r}; there are: {', '.join(find(role))}")
    return getattr(_module(name), role)


def options(name: str, role: Literal["SEARCHER", "SCHEDULER"]) -> type[BaseModel]:
    """The pydantic model of a searcher's or scheduler's options."""
    config: type[BaseModel] = load(name, role).Config
    return config


def _module(name: str) -> Any:
    return importlib.import_module(f"{__name__}.{name}")
