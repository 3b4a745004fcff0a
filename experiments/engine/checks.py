"""What the parts of a spec mean together, beyond the shape of each: stages, spaces, points, strategies, budgets."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from experiments.engine import handed, strategies
from experiments.engine.stage import Part, Stage
from searchspaces import SpaceError
from trainables.parsing import ParseError, parse, suggestion

if TYPE_CHECKING:
    from experiments.engine.spec import Spec

# Ends of the names of metrics that are shares, and of those that are above 0.
_SHARES, _POSITIVE = ("accuracy", "f1"), ("accuracy", "f1", "ms", "loss")
# Schedulers that a searcher goes with, and why no others; one that is not here goes with all.
_LEGAL = {
    "bohb": (("hyperband", "asha", "promotion"), "its model is of what trials are worth at several budgets"),
    "pbt": (("none",), "it ends and goes on with trials itself"),
    "replay": (("none",), "it follows a schedule to its end"),
}


def faults(spec: "Spec") -> list[str]:
    """One line for each thing that cannot work."""
    found = [
        f"stages.{name} is there {count} times; give each stage a name of its own"
        for name, count in Counter(stage.name for stage in spec.stages).items()
        if count > 1
    ]
    for place, stage in enumerate(spec.stages):
        if stage.most is None and spec.time is None:
            found.append(f"stages.{stage.name}.trials is missing; give trials, or time: 10m for the whole experiment")
        found += of_stage(stage)
        found += _of_references(stage, [earlier.name for earlier in spec.stages[:place]])
    found += [*_of_seeds(spec), *_of_choice(spec), *_of_constraints(spec)]
    names = [stage.name for stage in spec.stages]
    unknown = [name for name in spec.finalists.of if name not in names]
    return found + [f"finalists.of is {name!r}, must be of a stage{suggestion(name, names)}" for name in unknown]


def _of_choice(spec: "Spec") -> list[str]:
    """What picks wants the same of a metric as what is searched for."""
    return [
        f"choose is {{{way}: {name}}}, but objectives say {name}: {spec.objectives[name]}; make them agree"
        for way, name in spec.choose.items()
        if spec.objectives.get(name, way) != way
    ]


def _of_constraints(spec: "Spec") -> list[str]:
    """What no model of any space meets."""
    found = []
    for name, bound in spec.constraints.items():
        unit = name.rpartition("_")[2]
        if unit in _SHARES and bound.min is not None and bound.min > 1:
            found.append(f"constraints.{name}.min must be at most 1, as it is a share, got {bound.min:g}")
        if unit in _POSITIVE and bound.max is not None and bound.max <= 0:
            found.append(f"constraints.{name}.max must be above 0, got {bound.max:g}")
    return found


def _of_seeds(spec: "Spec") -> list[str]:
    """What a population found is a schedule, which no configuration trains again."""
    seeds, schedules = spec.finalists.seeds, strategies.find("STRATEGY") if spec.finalists.seeds > 1 else []
    return [
        f"finalists.seeds is {seeds}, must be 1 for stage {stage.name}, whose searcher "
        f"{stage.search.searcher.name} trains by a schedule; leave it out, or take another searcher: "
        + ", ".join(strategies.find("SEARCHER"))
        for stage in spec.stages
        if stage.name in spec.finalist_stages and stage.search.searcher.name in schedules
    ]


def of_valid_stages(values: Mapping[str, Any]) -> list[str]:
    """What is wrong within those stages whose shape is right, so that a fault elsewhere does not hide it."""
    stages = values.get("stages")
    found: list[str] = []
    for entry in stages if isinstance(stages, list) else []:
        try:
            stage = parse(Stage, entry)
        except ParseError:
            continue
        found += of_stage(stage)
    return found


def of_stage(stage: Stage) -> list[str]:
    """Faults of one stage: its space and points, its strategy."""
    lines = [*_of_space(stage), *_of_searcher(stage), *_of_scheduler(stage), *_of_pair(stage)]
    lines += _of_each(stage) if stage.each else []
    return [f"stages.{stage.name}.{line}" for line in lines]


def _of_space(stage: Stage) -> list[str]:
    if not stage.space:
        given = ("fix", "narrow", "initial", *(() if stage.each else ("trials",)))
        return [f"{name} is about a space; give space, or leave it out" for name in given if getattr(stage, name)]
    try:
        space = stage.search_space()
    except SpaceError as error:
        return error.faults
    both = [name for name in stage.options if name in space.names]
    found = [f"options.{name} is a parameter of the space; use fix.{name}" for name in both]
    if stage.each and stage.each.option in space.names:
        found.append(f"each.option is {stage.each.option!r}, which is a parameter of the space; choose another space")
    try:
        space.points(stage.initial)
    except SpaceError as error:
        found += error.faults
    return found


def _of_each(stage: Stage) -> list[str]:
    """A stage of picks searches nothing."""
    searches = stage.search.searcher.name != "random"
    given = {"trials": stage.trials, "initial": stage.initial, "search.searcher": searches}
    found = [f"{name} must be left out, as each says which trials there are" for name, value in given.items() if value]
    if stage.each and stage.each.option in stage.options:
        found.append(f"each.option is {stage.each.option!r}, which options gives already; give it once")
    return found


def _of_references(stage: Stage, earlier: list[str]) -> list[str]:
    """What a stage takes must be there by then, and be called as stages are."""
    wanted = [(f"options{path}", name, name.removeprefix("stages.")) for path, name in handed.within(stage.options)]
    wanted += [("each.stage", stage.each.stage, stage.each.stage)] if stage.each else []
    way_out = {name: suggestion(name, earlier) or "; there is none" for _, _, name in wanted}
    bare = [
        f"stages.{stage.name}.options.{name} is {value!r}, which is a stage; write stages.{value}, or "
        f"./{value} for a folder"
        for name in handed.TAKERS
        if (value := stage.options.get(name)) in earlier and not Path(value).exists()
    ]
    return bare + [
        f"stages.{stage.name}.{path} is {value!r}, must be of a stage before this one{way_out[name]}"
        for path, value, name in wanted
        if name not in earlier
    ]


def searchers() -> list[str]:
    """Names of all that propose, those that schedule besides included."""
    return sorted([*strategies.find("SEARCHER"), *strategies.find("STRATEGY")])


def legal(searcher: str, scheduler: str) -> bool:
    """Whether the two go together."""
    return searcher not in _LEGAL or scheduler in _LEGAL[searcher][0]


def _of_pair(stage: Stage) -> list[str]:
    searcher, scheduler = stage.search.searcher.name, stage.search.scheduler.name
    if legal(searcher, scheduler) or scheduler not in strategies.find("SCHEDULER"):  # the latter is said already
        return []
    allowed, why = _LEGAL[searcher]
    way_out = "leave scheduler out" if allowed == ("none",) else f"take {', '.join(allowed[:-1])} or {allowed[-1]}"
    return [f"search.scheduler is {scheduler!r}, which does not go with searcher {searcher!r}: {why}; {way_out}"]


def _of_searcher(stage: Stage) -> list[str]:
    """A searcher says itself what it cannot do with the space."""
    name, whole = stage.search.searcher.name, stage.search.searcher.name in strategies.find("STRATEGY")
    role: strategies.Role = "STRATEGY" if whole else "SEARCHER"
    config, faults = _options(stage.search.searcher, role, "search.searcher", searchers())
    if config is None:
        return faults
    try:
        if whole:
            strategies.load(name, role).check(config, stage.search_space(), stage.most, stage.epochs)
        elif stage.space:
            strategies.load(name, role)(config, stage.search_space(), 0)
    except SpaceError:  # said of the space
        return []
    except ValueError as error:
        return [f"search.{line}" for line in str(error).splitlines()]
    return []


def _of_scheduler(stage: Stage) -> list[str]:
    """A scheduler says itself which options do not go with the epochs."""
    part = stage.search.scheduler
    config, faults = _options(part, "SCHEDULER", "search.scheduler", strategies.find("SCHEDULER"))
    if config is None:
        return faults
    try:
        strategies.load(part.name, "SCHEDULER")(config, stage.epochs)
    except ValueError as error:
        return [f"search.{error}"]
    return []


def _options(part: Part, role: strategies.Role, path: str, known: list[str]) -> tuple[BaseModel | None, list[str]]:
    """The part's options, or what is wrong with them."""
    if part.name not in known:
        return None, [f"{path} {part.name!r} does not exist{suggestion(part.name, known)}"]
    try:
        return parse(strategies.options(part.name, role), part.options, path), []
    except ParseError as error:
        return None, error.faults
