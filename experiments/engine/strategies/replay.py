"""A schedule that population based training found, once more from the start (see `engine.schedule`)."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from experiments.engine.events import Config as Point
from experiments.engine.events import Metrics, Verdict
from experiments.engine.outcome import Outcome
from experiments.engine.strategies import Proposal, Signal

_ROOT = Path(__file__).parents[3]


class Space(Protocol):
    """What a schedule must fit."""

    def legal(self, config: Point) -> bool: ...


class Replay:
    """A trial a step; each but the first begins from the checkpoint of the one before, which pauses until then."""

    class Config(BaseModel):
        """Where the schedule is."""

        model_config = ConfigDict(frozen=True, extra="forbid")
        schedule: str = Field(
            description="the file schedule-STAGE.json of a run, from the current folder or this repository's"
        )

    @staticmethod
    def check(config: Config, space: Space, trials: int | None, epochs: float) -> None:
        """Raises ValueError where there is no such schedule, or it does not fit the stage."""
        steps = read(config.schedule)
        for number, (point, _) in enumerate(steps):
            if not space.legal(point):
                raise ValueError(f"searcher.schedule[{number}] must be a point of the space, got {point}")
        if trials is not None and len(steps) > trials:
            raise ValueError(f"searcher.schedule must have at most trials steps, got {len(steps)} above {trials}")
        if steps[-1][1] > epochs:
            raise ValueError(f"searcher.schedule must end by epochs, got {steps[-1][1]:g} above {epochs:g}")

    def __init__(
        self,
        config: Config,
        space: Space,
        seed: int,
        *,
        first: Sequence[Point],
        trials: int | None,
        epochs: float,
        outcome: Callable[[Metrics], Outcome],
        admit: Callable[[Point], str | None] = lambda _: None,
        advised: Sequence[Point] = (),
    ) -> None:
        self._steps = read(config.schedule)
        self._started = 0
        self._live: set[int] = set()
        self._paused: set[int] = set()

    def ask(self) -> Proposal | Signal:
        """The next step when the one before is done."""
        trial = self._started
        if self._live:
            return "wait"
        if trial == len(self._steps) or (trial and trial - 1 not in self._paused):
            return "done"
        config, epochs = self._steps[trial]
        return Proposal(trial, config, epochs, start=trial - 1 if trial else None)

    def refused(self, config: Point) -> None:
        """Nothing of a schedule is passed over."""

    def started(self, trial: int, config: Point) -> None:
        """The next step."""
        self._started += 1
        self._live.add(trial)

    def reported(self, trial: int, epochs: float, metrics: Metrics) -> Verdict:
        """Pauses where the next step begins."""
        if epochs < self._steps[trial][1]:
            return "continue"
        return "pause" if trial + 1 < len(self._steps) else "stop"

    def paused(self, trial: int) -> None:
        """The next step can begin from it."""
        self._live.discard(trial)
        self._paused.add(trial)

    def dropped(self) -> Sequence[int]:
        """Those that the next step has begun from."""
        return [trial for trial in self._paused if trial + 1 < self._started]

    def ended(self, trial: int, failed: bool) -> None:
        """Where a step failed, there is no next."""
        self._live.discard(trial)
        self._paused.discard(trial)


def read(path: str) -> list[tuple[Point, float]]:
    """The steps of a schedule's file, (configuration, epochs reached). Raises ValueError."""
    try:
        file = Path(path) if Path(path).exists() else _ROOT / path
        found: dict[str, Any] = json.loads(file.read_text("utf-8"))
        steps = [(dict(step["config"]), float(step["epochs"])) for step in found["schedule"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"searcher.schedule is {path!r}, must be a run's schedule-STAGE.json: {error!r}") from None
    ends = [epochs for _, epochs in steps]
    if not steps or ends != sorted(set(ends)):
        raise ValueError(f"searcher.schedule is {path!r}, whose steps must reach more and more epochs, got {ends}")
    return steps


STRATEGY = Replay
