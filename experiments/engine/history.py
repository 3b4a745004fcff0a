"""An experiment's state read from its ledger alone: neither data nor spaces nor strategies are needed."""

from typing import Any

from experiments.engine.director import Director, Stage
from experiments.engine.events import Config, Metrics, Verdict, from_record
from experiments.engine.strategies import Proposal, Signal


class Past:
    """Proposes nothing and judges nothing: what was decided is recorded."""

    def ask(self) -> Proposal | Signal:
        """Nothing more: this is the past."""
        return "done"

    def started(self, trial: int, config: Config) -> None:
        """As recorded."""

    def reported(self, trial: int, epochs: float, metrics: Metrics) -> Verdict:
        """As recorded."""
        return "continue"

    def ended(self, trial: int, failed: bool) -> None:
        """As recorded."""


def fold(records: list[dict[str, Any]]) -> Director:
    """The director as it was after the last of the records; the first is the header."""
    spec = records[0]["spec"]
    searches = {stage["name"]: stage for stage in spec["stages"]}
    names = {record["segment"]["stage"]: None for record in records if record["event"] == "started"}
    director = Director(
        [
            _search(searches[name], spec) if name in searches else Stage(name, "", lambda _: Past())
            for name in {**names, **dict.fromkeys(searches)}
        ]
    )
    for record in records:
        event = from_record(record)
        if event is not None:
            director.tell(event, record["verdict"])
    return director


def _search(stage: dict[str, Any], spec: dict[str, Any]) -> Stage:
    return Stage(
        stage["name"],
        "",
        lambda _: Past(),
        timed=True,
        watched=tuple(spec["objectives"]),
        trials=stage["trials"],
        max_failed=spec.get("max_failed", 1.0),
    )
