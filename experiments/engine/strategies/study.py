"""optuna's samplers on what a search observed: studies that a proposal leaves as they were.

optuna is imported where it is used, as it may not be installed.
"""

import hashlib
import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments.engine.outcome import Outcome
from experiments.engine.strategies.coding import Dimension
from experiments.engine.strategies.observations import Observations

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.study import Study, StudyDirection
    from optuna.trial import FrozenTrial, TrialState

Numbers = Mapping[str, float]


class Memory:
    """All of a storage of optuna's that samplers use. What they note is apart, so that it can be kept or dropped."""

    def __init__(self) -> None:
        self.objectives = 1
        self.trials: list[FrozenTrial] = []
        self.kept: dict[str, Any] = {}
        self.of_study: dict[str, Any] = {}
        self.of_trial: dict[str, Any] = {}

    def get_study_id_from_name(self, study_name: str) -> int:
        """There is one study."""
        return 0

    def get_study_directions(self, study_id: int) -> "list[StudyDirection]":
        """Outcomes are higher-is-better."""
        from optuna.study import StudyDirection

        return [StudyDirection.MAXIMIZE] * self.objectives

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: "Container[TrialState] | None" = None
    ) -> "list[FrozenTrial]":
        """Those in the states; never a copy."""
        return [trial for trial in self.trials if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Only the trial that is being proposed or started is written to."""
        self.of_trial[key] = value

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Such as the parents of a generation."""
        self.of_study[key] = value

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Both what is kept and what is new."""
        return {**self.kept, **self.of_study}


class Sampling:
    """A sampler's suggestions. `make` gives a new sampler of a seed, as some keep a state that no event tells of.

    `notes`: the sampler notes with each trial that starts what it needs later, such as its generation. `ranked`: it
    gets one number a trial, minus its rank, in place of objectives and constraints.
    """

    def __init__(
        self,
        make: "Callable[[int], BaseSampler]",
        dimensions: Sequence[Dimension],
        *,
        notes: bool = False,
        ranked: bool = False,
    ) -> None:
        from optuna import logging

        logging.set_verbosity(logging.ERROR)
        self._make = make
        self._distributions = {d.name: _distribution(d) for d in dimensions}
        self._notes = notes
        self._ranked = ranked
        self._memory = Memory()
        self._trials: dict[int, FrozenTrial] = {}
        self._silent: set[int] = set()  # trials that have not reported
        self._seen: dict[int, Outcome | None] = {}
        self._alone = not ranked  # what a trial is worth to the sampler does not hang on the others
        self._noted: dict[int, dict[str, Any]] = {}

    def started(self, number: int, params: Numbers, decision: str) -> None:
        """A trial in flight, with what the sampler notes of it."""
        trial = self._running(params)
        if self._notes:
            study, sampler = self._study(), self._make(_seed(decision))
            self._relative(sampler, study, trial)
            self._memory.kept |= self._memory.of_study
        self._trials[number], self._noted[number] = trial, self._memory.of_trial if self._notes else {}
        self._silent.add(number)
        self._memory.trials.append(trial)

    def observed(self, observations: Observations) -> None:
        """Brings trials to what is known of them; those that failed are infeasible beyond all others."""
        from optuna.trial import TrialState

        outcomes = observations.outcomes
        self._silent -= outcomes.keys()
        anew = self._anew(outcomes)
        there = {number: outcome for number, outcome in anew.items() if outcome and _finite(outcome)}
        if not there:
            return
        self._memory.objectives = 1 if self._ranked else len(next(iter(there.values())).values)
        values = _ranked(observations) if self._ranked else _values(anew, there)
        violations = {} if self._ranked else _violations(anew, there)
        for number in anew:
            trial = self._trials[number]
            trial.state, trial.values = TrialState.COMPLETE, values[number]
            trial.system_attrs = dict(self._noted[number])
            if number in violations:
                trial.set_constraint("violation", violations[number])
        known = [self._trials[number] for number in (*outcomes, *self._silent)]
        self._memory.trials = sorted(known, key=lambda trial: trial.number)

    def _anew(self, outcomes: dict[int, Outcome | None]) -> dict[int, Outcome | None]:
        """What there is to tell: what has changed, or all once a trial failed or broke a bound."""
        changed = {n: outcome for n, outcome in outcomes.items() if n not in self._seen or self._seen[n] is not outcome}
        self._seen = outcomes
        self._alone = self._alone and all(map(_sound, changed.values()))
        return changed if self._alone else outcomes

    def suggested(self, decision: str) -> dict[str, float]:
        """A number of each parameter."""
        study, sampler = self._study(), self._make(_seed(decision))
        trial = self._running({})
        found = self._relative(sampler, study, trial)
        for name, distribution in self._distributions.items():
            if name not in found:
                found[name] = sampler.sample_independent(study, trial, name, distribution)
        return {name: float(number) for name, number in found.items()}

    def _relative(self, sampler: "BaseSampler", study: "Study", trial: "FrozenTrial") -> dict[str, Any]:
        """What the sampler draws together. To find out which parameters those are takes it the longer the more trials
        there are, so it is shown one that has what all have.
        """
        from optuna.study import Study
        from optuna.trial import TrialState

        complete = [each.params.keys() for each in self._memory.trials if each.state == TrialState.COMPLETE]
        one = Memory()
        one.objectives = self._memory.objectives
        if complete:
            shown = self._running(dict.fromkeys(set(complete[0]).intersection(*complete[1:]), 0.0))
            shown.state = TrialState.COMPLETE
            one.trials.append(shown)
        together = sampler.infer_relative_search_space(Study("search", one), trial)
        found: dict[str, Any] = sampler.sample_relative(study, trial, together)
        return found

    def _study(self) -> "Study":
        """A new one, as a study keeps a list of trials of its own; nothing is noted in it yet."""
        from optuna.study import Study

        self._memory.of_study, self._memory.of_trial = {}, {}
        return Study("search", self._memory)

    def _running(self, params: Numbers) -> "FrozenTrial":
        from optuna.trial import FrozenTrial, TrialState

        return FrozenTrial(
            number=len(self._trials),
            trial_id=len(self._trials),
            state=TrialState.RUNNING,
            value=None,
            datetime_start=None,
            datetime_complete=None,
            params=dict(params),
            distributions={name: self._distributions[name] for name in params},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )


def _distribution(dimension: Dimension) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not dimension.levels:
        return FloatDistribution(0.0, 1.0)
    if dimension.ordered:
        return IntDistribution(0, dimension.levels - 1)
    return CategoricalDistribution(range(dimension.levels))


def _ranked(observations: Observations) -> dict[int, list[float]]:
    return {number: [-float(rank)] for number, rank in observations.ranks().items()}


def _values(numbers: Iterable[int], there: Mapping[int, Outcome]) -> dict[int, list[float]]:
    """Of each objective what a trial has; of one that failed, the worst that any has."""
    worst = [min(column) for column in zip(*(outcome.values for outcome in there.values()), strict=True)]
    return {number: list(there[number].values) if number in there else worst for number in numbers}


def _violations(numbers: Iterable[int], there: Mapping[int, Outcome]) -> dict[int, float]:
    """Finite, of a trial that failed 1 above all others; none where all is well, which spares a model of it."""
    found = {number: there[number].violation if number in there else math.inf for number in numbers}
    beyond = 1 + max(violation for violation in (0.0, *found.values()) if math.isfinite(violation))
    return {number: min(violation, beyond) for number, violation in found.items()} if any(found.values()) else {}


def _sound(outcome: Outcome | None) -> bool:
    return outcome is not None and _finite(outcome) and not outcome.violation


def _finite(outcome: Outcome) -> bool:
    return all(map(math.isfinite, outcome.values))


def _seed(decision: str) -> int:
    return int.from_bytes(hashlib.sha256(decision.encode()).digest()[:4])
