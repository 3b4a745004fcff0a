"""From a spec to the stages that a director runs, and to what a segment's trainable is told.

`prepare` does every check that needs data, spaces and routines, so that nothing starts that cannot work.
"""

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from experiments.engine import admission, architectural, asked, finalists, fingerprint, handed, references, strategies
from experiments.engine.director import Director, Trial, Unreachable
from experiments.engine.director import Stage as Step
from experiments.engine.events import Segment
from experiments.engine.frontier import watched
from experiments.engine.outcome import outcome
from experiments.engine.report.summary import CLASSICAL, FINALISTS, LAYERS, again
from experiments.engine.spec import Spec
from experiments.engine.stage import Stage
from experiments.engine.strategies import Strategy, given
from experiments.engine.strategies.listed import Listed
from experiments.engine.strategies.named import named
from models.architecture import Architecture
from models.cost import params
from models.latency import Target
from searchspaces import Space
from tasks.task import Data
from trainables import routine
from trainables.data import prepare as open_data
from trainables.handed import with_paths
from trainables.parsing import ParseError, parse

Config = dict[str, Any]

# Draws whose layers are measured before the search, some half a second a layer; one met later is interpolated.
_SAMPLED_DRAWS = 192
# Of a search that ends by time alone, whose time that is.
_SAMPLED_BY_TIME = 32
_BYTES_A_PARAMETER = 12


@dataclass(frozen=True)
class Plan:
    """A spec that can work: its spaces by stage, what is known of its data, by stage the points that past experiments
    advise to begin with, and the run's folder where it lies on a disk of this machine.
    """

    spec: Spec
    spaces: Mapping[str, Space]
    data: Data
    advised: Mapping[str, list[Config]] = field(default_factory=dict)
    folder: Path | None = None

    def fingerprint(self) -> Config:
        """What is run: spec, spaces, data, code and libraries."""
        return fingerprint.fingerprint(self.spec, self.spaces, self.data.record["fingerprint"])

    def steps(self) -> list[Step]:
        """The stages in order: layer table, classical baseline, the declared searches, the finalists."""
        tables = self._tables()
        steps = [Step(LAYERS, "layers", partial(self._layers, None), alone=True)] if LAYERS in tables else []
        before = tuple(step.name for step in steps)  # each comes after the last, and so after all before it
        steps.append(Step(CLASSICAL, "classical", self._classical, after=before))
        for stage in self.spec.stages:
            if _handed_on(stage) and (table := _table(stage)) in tables:
                steps.append(Step(table, "layers", partial(self._layers, stage), after=before, alone=True))
                before = (table,)
            steps.append(self._search(stage, before))
            before = (stage.name,)
        seeds = [self._repeated(stage, before) for stage in self._finalists()]
        steps += seeds
        after = (*before, CLASSICAL, *(step.name for step in seeds))
        return [*steps, Step(FINALISTS, "finalist", partial(finalists.exports, self.spec), after=after, alone=True)]

    def _finalists(self) -> list[Stage]:
        """The stages whose finalists are trained with more seeds."""
        return [self.spec.stage(name) for name in self.spec.finalist_stages if self.spec.finalists.seeds > 1]

    def expected(self) -> dict[str, int | None]:
        """How many trials each stage may have."""
        searches = {stage.name: stage.most for stage in self.spec.stages}
        tables, wanted = dict.fromkeys(self._tables(), 1), self.spec.finalists
        repeats = {again(stage.name): None for stage in self._finalists()}
        return {**searches, CLASSICAL: 1, FINALISTS: wanted.count * len(wanted.precision), **tables, **repeats}

    def checkpoint_bytes(self) -> float:
        """Of the default configuration: weights and both moments in float32. 0 where a routine does not tell."""
        return max(_BYTES_A_PARAMETER * self._params(stage) for stage in self.spec.stages)

    def _params(self, stage: Stage) -> int:
        kind: Any = routine.load(stage.routine)
        if not hasattr(kind, "architecture") or _handed_on(stage):
            return 0
        config = parse(kind.Config, {**self.common(stage), **self.spaces[stage.name].default()})
        architecture = kind.architecture(config)
        return params(architecture, self.data.signature) if isinstance(architecture, Architecture) else 0

    def job(self, director: Director, store: str, resources: Mapping[str, float]) -> Callable[[Segment], Config]:
        """What a segment's trainable is told, as a function of the segment; `store` is the URI of the run's folder."""
        spec = self.spec.resolved()

        def told(segment: Segment) -> Config:
            step = director.stages[segment.stage]
            start = {"path": segment.start.path} if segment.start else None
            trial = Trial(segment.stage, segment.trial, segment.config).id
            values = {**step.common, **segment.config, "seed": self._seed(segment)}
            return {
                "routine": step.routine,
                "segment": {"number": segment.number, "id": trial, "start": start},
                "values": values,
                "references": references.paths(values, director, spec),
                "store": store,
                "inputs": self._inputs(director),
                "checkpoints": step.timed,
                "resources": dict(resources),
            }

        return told

    # The stages' strategies

    def _tables(self) -> list[str]:
        """Stages of one trial that measure layers, where a search asks for latency: one at the start, and one before
        each stage whose architectures depend on what an earlier one finds.
        """
        if "latency_ms" not in watched(self.spec.resolved()):
            return []
        return list(dict.fromkeys([LAYERS, *map(_table, self.spec.stages)]))

    def _search(self, stage: Stage, after: tuple[str, ...]) -> Step:
        def plan(director: Director) -> Strategy:
            points = self._points(stage, director)
            if not points or any(trial.failed for table in self._tables() for trial in director.of_stage(table)):
                return Listed([])  # without the table no trial could be ranked
            space, search = self.spaces[stage.name], stage.search
            bounds = handed.bounds(self.spec.resolved(), stage.name)
            self._check_reach([stage] if _handed_on(stage) else [], director)
            return named(
                (search.searcher.name, search.searcher.options),
                (search.scheduler.name, search.scheduler.options),
                space,
                self.spec.seed,
                first=points,
                trials=len(points) if stage.each else stage.most,
                epochs=stage.epochs,
                outcome=partial(outcome, objectives=self.spec.objectives, constraints=bounds),
                admit=self._admit(stage, director),
                advised=self._advised(stage, director),
            )

        return Step(
            stage.name,
            stage.routine,
            plan,
            after=after,
            timed=True,
            watched=watched(self.spec.resolved()),
            trials=stage.most,
            max_failed=self.spec.max_failed,
            common=self.common(stage),
        )

    def _check_reach(self, stages: Sequence[Stage], director: Director) -> None:
        """Raises Unreachable where no point of a stage meets the constraints by what is known by now."""
        searched = [stage for stage in stages if stage.each is None]
        faults = [
            line
            for stage in searched
            for line in admission.faults(self.spec, stage, self.spaces[stage.name], self._known(stage, director))
        ]
        if faults:
            raise Unreachable("; ".join(faults))

    def _repeated(self, stage: Stage, after: tuple[str, ...]) -> Step:
        return Step(
            again(stage.name),
            stage.routine,
            partial(finalists.repeats, self.spec, stage.name),
            after=after,
            timed=True,
            watched=watched(self.spec.resolved()),
            common=self.common(stage),
        )

    def _known(self, stage: Stage, director: Director) -> admission.Known:
        """What is known of a configuration by now: the layer table, the network of an earlier stage."""
        there = references.paths(stage.options, director, self.spec.resolved()) if self.folder else {}
        places = {name: f"{self.folder}/{path}" for name, path in there.items()}
        return admission.known(stage, with_paths(self.common(stage), places), self.data, self._inputs(director))

    def _admit(self, stage: Stage, director: Director) -> Callable[[Config], str | None]:
        known = self._known(stage, director)
        bounds = handed.bounds(self.spec.resolved(), stage.name)
        return lambda config: admission.reason(known(config), bounds) if bounds else None

    def _points(self, stage: Stage, director: Director) -> list[Config]:
        """What a stage tries before it searches; nothing where what it takes of an earlier stage is not there."""
        spec, space = self.spec.resolved(), self.spaces[stage.name]
        asked = {name for _, name in handed.within(stage.options)}
        if asked - references.paths(stage.options, director, spec).keys():
            return []
        if stage.each is None:
            return self._own(stage)
        picks = references.picks(stage.model_dump(), director, spec)
        return [{**space.default(), stage.each.option: references.to(trial)} for trial in picks]

    def _own(self, stage: Stage) -> list[Config]:
        """The default, and the user's own points."""
        space = self.spaces[stage.name]
        return [space.default(), *space.points(stage.initial)]

    def _advised(self, stage: Stage, director: Director) -> list[Config]:
        """What past experiments advise, as far as it meets the constraints."""
        own, admit = self._own(stage), self._admit(stage, director)
        return [point for point in self.advised.get(stage.name, ()) if point not in own and admit(point) is None]

    def _layers(self, stage: Stage | None, director: Director) -> Strategy:
        """Of one stage, or (None) of all those that take nothing of another."""
        stages = [stage] if stage else [each for each in self.spec.stages if not _handed_on(each)]
        configs = [config for each in stages for config in self._sampled(each, director)]
        given = not stage or (configs and not director.expired)
        return Listed([{"task": self._task(), "target": self.spec.target, "configs": configs}] if given else [])

    def _inputs(self, director: Director) -> Config:
        """What was measured so far, as one table; of a layer measured twice the first figure, that all trials got.

        A run that goes on with another target has tables of both; they are not to be mixed.
        """
        steps = [step.name for step in director.stages.values() if step.routine == "layers"]
        found = [trial.metrics["table"] for name in steps for trial in director.of_stage(name) if trial.reports]
        tables = [table for table in found if table["target"] == self.spec.target]
        if not tables:
            return {}
        parts = {str(part["shape"]): part for table in reversed(tables) for part in table["parts"]}
        return {"layer_table": {**tables[0], "parts": list(parts.values())}}

    def _sampled(self, stage: Stage, director: Director) -> list[Config]:
        space, points = self.spaces[stage.name], self._points(stage, director)
        if points and stage.each is None:
            first, advised = list(points), self._advised(stage, director)
            most = len(points) + (_SAMPLED_DRAWS if stage.most else _SAMPLED_BY_TIME)
            indices = range(len(first), min(stage.most or most, most))  # as random search numbers its draws
            points += [given(index, first, advised) or space.draw(self.spec.seed, index) for index in indices]
        return [{"routine": stage.routine, "values": {**self.common(stage), **point}} for point in points]

    def _classical(self, director: Director) -> Strategy:
        """It comes first of what trains, once layers are measured: what they show to be out of reach ends the run."""
        self._check_reach([stage for stage in self.spec.stages if not _handed_on(stage)], director)
        return Listed([{"task": self._task()}])

    def common(self, stage: Stage) -> Config:
        """What every trial of a stage is told besides its own point."""
        return {**stage.options, "task": self._task(), "epochs": stage.epochs}

    def _task(self) -> Config:
        return {"name": self.spec.task.name, **self.spec.task.options}

    def _seed(self, segment: Segment) -> int:
        text = f"{self.spec.seed}/{segment.stage}/{segment.trial}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])


def _handed_on(stage: Stage) -> bool:
    """Whether a stage takes something of an earlier one."""
    return stage.each is not None or any(handed.within(stage.options))


def _table(stage: Stage) -> str:
    """The stage that measures the layers that a stage needs. No stage of the user's has a dot in its name."""
    return f"{LAYERS}.{stage.name}" if _handed_on(stage) else LAYERS


def prepare(spec: Spec, cache: Path, known: Sequence[str] = ()) -> Plan:
    """The plan of a spec. Raises ParseError with every fault of its data, target, routines and points.

    `known` are faults found elsewhere: with any fault at all, nothing stays in the cache.
    """
    spaces = {stage.name: stage.search_space() for stage in spec.stages}
    faults = [*known, *faults_of(lambda: parse(Target, spec.target, "target"))]
    for precision in sorted({*spec.finalists.precision} - {"fp32", "auto"}):
        faults += [f"finalists.precision: {line}" for line in faults_of(partial(_check_precision, precision))]
    for stage in spec.stages:
        space = spaces[stage.name]
        faults += _routine_faults(stage, space, None) or _population_faults(stage, space)
    task = {"name": spec.task.name, **spec.task.options}
    plans: list[Plan] = []
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) if faults else cache
        faults += faults_of(lambda: plans.append(Plan(spec, spaces, open_data(task, place))))
        for stage in spec.stages if plans else ():
            wrong = _routine_faults(stage, spaces[stage.name], plans[0])
            faults += wrong or _metric_faults(stage, spaces[stage.name], plans[0])
    if faults:
        raise ParseError(list(dict.fromkeys(faults)))
    return plans[0]


def _check_precision(precision: Any) -> None:
    from models import quantize  # with onnx, which takes time

    quantize.check(precision)


def _routine_faults(stage: Stage, space: Space, plan: Plan | None) -> list[str]:
    """Whether the default point and the user's own make a config of the routine, and fit the data if it is known."""
    found: list[str] = []
    common = _common(stage, plan)
    data = plan.data if plan else None
    early = _shapes(stage, plan) if plan and _handed_on(stage) else None  # the rest is checked when the stage begins
    for point in (space.default(), *space.points(stage.initial)):
        found += faults_of(partial(routine.check, stage.routine, {**common, **point}, data, early=early))
    return [f"stages.{stage.name}: {line}" for line in dict.fromkeys(found)]


def _shapes(stage: Stage, plan: Plan) -> dict[str, Architecture]:
    """The architectures that a stage takes of earlier ones, by reference, as far as they are known beforehand."""
    sources = {each.name: each for each in plan.spec.stages}
    found = {
        reference: architectural.fixed(source.routine, plan.common(source), plan.spaces[source.name])
        for _, reference in handed.within(stage.options)
        if not _handed_on(source := sources[reference.split(".")[1]])
    }
    return {reference: shape for reference, shape in found.items() if shape is not None}


def _common(stage: Stage, plan: Plan | None) -> Config:
    common = plan.common(stage) if plan else {**stage.options, "task": {"name": ""}, "epochs": stage.epochs}
    return {**common, stage.each.option: f"stages.{stage.each.stage}.0"} if stage.each else common


def _population_faults(stage: Stage, space: Space) -> list[str]:
    """A population goes on with one another's weights, so that all must have one network."""
    if stage.search.searcher.name != "pbt":
        return []
    names = architectural.parameters(stage.routine, _common(stage, None), space)
    return [
        f"stages.{stage.name}: searcher pbt goes on from another trial's weights, and {', '.join(names)} would make "
        f"another network of them; fix them, or take another searcher: {', '.join(strategies.find('SEARCHER'))}"
    ][: len(names)]


def _metric_faults(stage: Stage, space: Space, plan: Plan) -> list[str]:
    """Metrics that are asked for and not reported, and constraints that nothing meets."""
    common = _common(stage, plan)
    known = admission.known(stage, common, plan.data, {})
    return asked.faults(plan.spec, stage, {**common, **space.default()}, plan.data) or admission.faults(
        plan.spec, stage, space, known
    )


def faults_of(work: Callable[[], Any]) -> list[str]:
    """The lines of the ValueError that `work` raises, or none."""
    try:
        work()
    except ValueError as error:
        return list(getattr(error, "faults", None) or str(error).splitlines())
    return []
