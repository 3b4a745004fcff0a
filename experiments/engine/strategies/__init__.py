"""Search strategies: pure state machines, one a file, found by name. No ray.

A *searcher* proposes whole configurations, a *scheduler* stops trials; `Pair` joins the two into a strategy. A module
that declares a `STRATEGY` is both at once.
A strategy's state is a fold over what it is told: `ask` changes nothing, and its randomness comes from
(seed, decision), so a replay of the ledger, a simulation and a live search take the same path.
"""

import importlib
import json
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import BaseModel

from experiments.engine.events import Config, Metrics, Verdict
from experiments.engine.outcome import Outcome

Signal = Literal["wait", "done"]
Role = Literal["SEARCHER", "SCHEDULER", "STRATEGY"]


@dataclass(frozen=True)
class Proposal:
    """What to do next: run `trial` with `config` up to `epochs`, from the checkpoint of trial `start` if given.

    A trial that is there already goes on where it paused. `refused` are configurations that were passed over on the
    way, as they break a constraint whatever they train to.
    """

    trial: int
    config: Config
    epochs: float
    start: int | None = None
    refused: tuple[Config, ...] = ()


class Strategy(Protocol):
    """ask → proposal, "wait" (only while something is in flight) or "done"; tell → "continue", "stop" or "pause"."""

    def ask(self) -> Proposal | Signal: ...

    def refused(self, config: Config) -> None: ...

    def started(self, trial: int, config: Config) -> None: ...

    def reported(self, trial: int, epochs: float, metrics: Metrics) -> Verdict: ...

    def paused(self, trial: int) -> None: ...

    def dropped(self) -> Sequence[int]:
        """Paused trials that will not go on any more; the director ends them."""
        ...

    def ended(self, trial: int, failed: bool) -> None: ...


class Space(Protocol):
    """What a searcher needs of a search space (see `searchspaces.Space`). Points are legal, active, plain Python."""

    def default(self) -> Config: ...

    def draw(self, seed: int, index: int) -> Config: ...

    def unit(self, point: Mapping[str, Any]) -> dict[str, float]: ...

    def from_unit(self, numbers: Mapping[str, float], path: str = ...) -> Config: ...

    def neighbours(self, point: Mapping[str, Any], seed: int, index: int) -> list[Config]: ...

    def changed(self, point: Mapping[str, Any], name: str, seed: int, index: int) -> Config: ...

    def grid(self, steps: int) -> Iterator[Config]: ...


class Searcher(Protocol):
    """Proposes configurations. Made of (options, space, seed); the state is what it was told by the other two."""

    def propose(self, trial: int, attempt: int) -> Config | None:
        """For a trial; attempt counts proposals that were passed over. Changes no state, its randomness comes from
        (seed, trial, attempt). None: nothing is left to propose.
        """
        ...

    def started(self, trial: int, config: Config) -> None:
        """Now in flight: what was proposed, the default, the user's own. Below 0: refused, `observed` says so next."""
        ...

    def observed(self, trial: int, config: Config, epochs: float, outcome: Outcome | None) -> None:
        """What a trial is worth at some epochs; None: it failed, which ranks last."""
        ...


# What a search still has: new trials; no more of them, as many as were asked for were begun; time, but no point of the
# space that was not tried.
Left = Literal["trials", "nothing", "time"]


class Scheduler:
    """Decides, report by report, whether a trial goes on. Made of (options, the maximum epochs).

    Those that pause trials have more to say than `judge`; what stands here is right for the others.
    """

    def judge(self, trial: int, epochs: float, outcome: Outcome) -> Verdict:
        """Whether the trial goes on, stops, or pauses until it is promoted or dropped."""
        raise NotImplementedError

    def budget(self, advised: bool = False) -> float | None:
        """The epochs after which the next new trial ends or pauses; None: the maximum. Changes no state.

        advised: its configuration was good in past searches.
        """
        return None

    def started(self, trial: int, advised: bool = False) -> None:
        """A new trial is in flight, or a paused one again."""

    def ended(self, trial: int) -> None:
        """The trial is over, for whatever reason: nobody waits for it."""

    def promoted(self, left: Left) -> tuple[int, float] | None:
        """A paused trial to take up, and its next budget. Changes no state."""
        return None

    def dropped(self) -> Sequence[int]:
        """Paused trials that will not be promoted."""
        return ()


# One new trial in so many is of what past searches advise, the others are the searcher's: wrong advice then costs that
# share and no more.
ADVISED_EVERY = 3


def given(trial: int, first: Sequence[Config], advised: Sequence[Config]) -> Config | None:
    """What a trial has whatever the searcher would say: the first ones, then of each three one that is advised."""
    if trial < len(first):
        return first[trial]
    turn, place = divmod(trial - len(first), ADVISED_EVERY)
    return advised[turn] if place == 0 and turn < len(advised) else None


# More than any trial's number.
_STRIDE = 1_000_003


def index(trial: int, attempt: int) -> int:
    """Of a draw: the trial's number at the first attempt, then numbers that no trial reaches."""
    return trial + _STRIDE * attempt


def key(config: Mapping[str, Any]) -> str:
    """The same for equal configurations."""
    return json.dumps(config, sort_keys=True)


def check_grace_period(grace_period: float, max_epochs: float) -> None:
    """Raises ValueError where no trial would ever reach a scheduler's first rung."""
    if grace_period > max_epochs:
        raise ValueError(f"scheduler.grace_period must be at most epochs, got {grace_period:g} above {max_epochs:g}")


def find(role: Role) -> list[str]:
    """Names of the modules here that declare the role."""
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    return sorted(name for name in names if hasattr(_module(name), role))


def load(name: str, role: Role) -> Any:
    """The searcher or scheduler class that module `name` declares; it has a pydantic `Config`."""
    if name not in find(role):
        raise ValueError(f"there is no {role.lower()} {name!r}; there are: {', '.join(find(role))}")
    return getattr(_module(name), role)


def options(name: str, role: Role) -> type[BaseModel]:
    """The pydantic model of a searcher's or scheduler's options."""
    config: type[BaseModel] = load(name, role).Config
    return config


def _module(name: str) -> Any:
    return importlib.import_module(f"{__name__}.{name}")
