"""The live view: a table in a terminal, plain lines elsewhere."""

import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from experiments.engine.director import Director, Trial
from experiments.engine.events import Event, Expired, Reported, Started, Verdict
from experiments.engine.frontier import Direction, score

_ROWS = 12
_LAG_S = 5.0


class LiveView:
    """Observes the bridge. `expected` is the number of trials a stage may have (None: until time is up).

    `choose` is the metric that says which trial is best so far, and its direction. `lag` says how many seconds what is
    durable is behind; `worst_lag` is the most that was seen.
    """

    def __init__(
        self,
        director: Director,
        expected: dict[str, int | None],
        choose: tuple[str, Direction],
        console: Console,
        *,
        lag: Callable[[], float] = lambda: 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._director = director
        self._expected = expected
        self._choose = choose
        self._console = console
        self._lag = lag
        self.worst_lag = 0.0
        self._lagging = False
        self._clock = clock
        self._begun = clock()
        self._samples: dict[int, float] = {}
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=2, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gives the terminal back."""
        if self._console.is_terminal:
            self._live.stop()

    def __call__(self, event: Event, verdict: Verdict) -> None:
        """Takes note of an event; without a terminal, says it in a line."""
        if isinstance(event, Reported):
            self._samples[event.segment] = float(event.metrics.get("samples_per_second", 0.0))
        if not self._console.is_terminal:
            self.say(self._line(event))
        self._look_at_lag()

    def _look_at_lag(self) -> None:
        """Says when the storage falls behind, and when it has caught up."""
        lag = self._lag()
        self.worst_lag = max(self.worst_lag, lag)
        if lag > _LAG_S and not self._lagging:
            self.say(f"{self._elapsed()}  the storage is {lag:.0f} s behind; trials go on")
        if lag <= _LAG_S and self._lagging:
            self.say(f"{self._elapsed()}  the storage has caught up")
        self._lagging = lag > _LAG_S

    def say(self, text: str) -> None:
        """Prints a line, above the table where there is one."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _line(self, event: Event) -> str:
        trial = self._director.about(event)
        if trial is None:
            return f"{self._elapsed()}  {event.reason if isinstance(event, Expired) else ''}"
        ended = trial.status if trial.status != "running" else ""
        reason = f": {trial.reason}" if ended and trial.reason else ""
        over = f"{ended or 'lost, to be tried again'}: {trial.reason or getattr(event, 'reason', '')}"
        what = {Started: "starts", Reported: f"{_facts(trial)}  {ended}{reason}"}.get(type(event), over)
        return f"{self._elapsed()}  {trial.id:<14} {what}".rstrip()

    def _elapsed(self) -> str:
        return _clock_text(self._clock() - self._begun)

    def _table(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for title in ("trial", "status", "epochs", self._choose[0], "latency ms", "params"):
            table.add_column(title, justify="left" if title in ("trial", "status") else "right")
        for trial in self._shown():
            metrics = trial.metrics
            table.add_row(
                trial.id,
                trial.status,
                f"{trial.epochs:g}",
                *(_number(metrics.get(name)) for name in (self._choose[0], "latency_ms", "params")),
            )
        return Group(Text(self._headline()), table, Text(self._rungs()))

    def _shown(self) -> list[Trial]:
        trials = list(self._director.trials.values())
        running = sorted((t for t in trials if not t.ended), key=lambda trial: trial.status == "paused")
        ended = sorted((t for t in trials if t.ended and not t.failed), key=self._rank, reverse=True)
        return (running + ended)[:_ROWS]

    def _rank(self, trial: Trial) -> float:
        value = score(trial.metrics, *self._choose)
        return value if math.isfinite(value) else -math.inf

    def _headline(self) -> str:
        trials = list(self._director.trials.values())
        counts: dict[str, int] = {}
        for trial in trials:
            counts[trial.status] = counts.get(trial.status, 0) + 1
        states = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        rate = sum(self._samples.get(number, 0.0) for number in tuple(self._director.in_flight))
        best = max(trials, key=self._rank, default=None)
        shown = f"best {_number(best.metrics.get(self._choose[0]))} ({best.id})" if best else "nothing yet"
        behind = f"  |  storage {self._lag():.0f} s behind" if self._lagging else ""
        return f"{self._elapsed()}  {states}  |  {shown}  |  {rate:.0f} samples/s  |  ETA {self._eta()}{behind}"

    def _eta(self) -> str:
        """Trials still to come at the pace so far; unknown before the first has ended."""
        planned = sum(count or 0 for count in self._expected.values())
        ended = sum(trial.ended for trial in self._director.trials.values())
        if not ended or not planned or None in self._expected.values():
            return "–"
        return _clock_text((self._clock() - self._begun) / ended * max(0, planned - ended))

    def _rungs(self) -> str:
        """How many trials reached each number of epochs."""
        reached: dict[float, int] = {}
        for trial in tuple(self._director.trials.values()):
            for report in tuple(trial.reports):
                reached[report.epochs] = reached.get(report.epochs, 0) + 1
        return "trials past epoch  " + "  ".join(f"{epochs:g}: {count}" for epochs, count in sorted(reached.items()))


def _facts(trial: Trial) -> str:
    names = ("val_accuracy", "val_loss", "latency_ms")
    shown = [f"{name} {_number(trial.metrics[name])}" for name in names if name in trial.metrics]
    return f"epoch {trial.epochs:g}  " + "  ".join(shown)


def _number(value: object) -> str:
    if not isinstance(value, int | float):
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _clock_text(seconds: float) -> str:
    return f"{int(seconds) // 60:3d}:{int(seconds) % 60:02d}"
