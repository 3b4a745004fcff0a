"""No early stopping: every trial gets its whole budget."""

from pydantic import BaseModel, ConfigDict

from experiments.engine.events import Verdict
from experiments.engine.outcome import Outcome
from experiments.engine.strategies import Scheduler


class Unscheduled(Scheduler):
    """Stops a trial only at its maximum epochs."""

    class Config(BaseModel):
        """No options."""

        model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, config: Config, max_epochs: float) -> None:
        self._max_epochs = max_epochs

    def judge(self, trial: int, epochs: float, outcome: Outcome) -> Verdict:
        """Continue until the budget is used."""
        return "stop" if epochs >= self._max_epochs else "continue"


SCHEDULER = Unscheduled
