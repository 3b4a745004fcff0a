"""An experiment's state read from its ledger alone: neither data nor spaces nor strategies are needed."""

from typing import Any

from experiments.engine.director import Director, Stage
from experiments.engine.events import Config, Metrics, Verdict, from_record
from experiments.engine.strategies import Proposal, Signal


class Recorded:
    """Answers as it was recorded, instead of deciding."""

    def __init__(self) -> None:
        self.verdict: Verdict = "continue"

    def ask(self) -> Proposal | Signal:
        """Nothing more: this is the past."""
        return "done"

    def started(self, trial: int, config: Config) -> None:
        """As recorded."""

    def reported(self, trial: int, epochs: float, metrics: Metrics) -> Verdict:
        """The recorded verdict."""
        return self.verdict

    def ended(self, trial: int, failed: bool) -> None:
        """As recorded."""


def fold(records: list[dict[str, Any]]) -> Director:
    """The director as it was after the last of the records; the first is the header."""
    recorded = Recorded()
    spec = records[0]["spec"]
    searches = {stage["name"] for stage in spec["stages"]}
    names = {record["segment"]["stage"]: None for record in records if record["event"] == "started"}
    director = Director(
        [
            Stage(
                name,
                "",
                lambda _: recorded,
                timed=name in searches,
                watched=tuple(spec["objectives"]) if name in searches else (),
            )
            for name in {**names, **dict.fromkeys(searches)}
        ]
    )
    for record in records:
        event = from_record(record)
        if event is not None:
            recorded.verdict = record["verdict"]
            director.tell(event)
    return director
