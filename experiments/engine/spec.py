"""What an experiment file says, as typed and frozen models; every fault of a file at once, one line each.

`load("quickstart")` or `load("my.yaml")` → `Spec`. Two levels of checking: the shape (names, types, ranges) by
pydantic, then what it means together (stages, spaces, points, strategies). The task's own block is checked by the
task: `parse(task.Config, spec.task.options, "task")`.
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from experiments.engine import checks, documents
from experiments.engine.stage import Model, Part, Stage, listed
from trainables.parsing import ParseError, parse, shown, suggestion

FOLDER = Path(__file__).parent.parent
Direction = Literal["max", "min"]
Precision = Literal["fp32", "int8", "int8_embedding4", "weights8", "weights4", "auto"]

_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"
_LONGEST = 1e10
_LONGEST_NAME = 64
SMOKE = "-smoke"  # a tiny version is another experiment: neither goes on with the other's run
_BYTES = {"M": 1e6, "G": 1e9, "T": 1e12}
_MOST_BYTES = 1e18
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(value: Any) -> float | None:
    """A time budget: seconds, or text such as "90s", "10m", "2h"; None is none. Raises ValueError."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([smhd]?)", value) if isinstance(value, str) else None
    number = float(match[1]) * _SECONDS[match[2] or "s"] if match else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < _LONGEST:
        raise ValueError(f"must be seconds above 0, or text such as 90s, 10m or 2h, got {shown(value)}")
    return float(number)


def size(value: Any) -> float | None:
    """An amount of disk: bytes, or text such as "500MB", "20GB", "1.5TB"; None is none. Raises ValueError."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([MGT])B", value) if isinstance(value, str) else None
    number = float(match[1]) * _BYTES[match[2]] if match else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < _MOST_BYTES:
        raise ValueError(f"must be bytes above 0, or text such as 500MB, 20GB or 1.5TB, got {shown(value)}")
    return float(number)


def _name(value: str) -> str:
    if not re.fullmatch(_NAME, value):
        raise ValueError(f"must be 1 to 64 of A-Z a-z 0-9 . _ - and open with a letter or digit, got {shown(value)}")
    return value


def _warm(value: Any) -> Any:
    """One path is short for a list of it, null for none."""
    return value or "none" if value is None or value in ("auto", "none") else listed(value)


class Bound(Model):
    """What a metric must stay within."""

    max: float | None = None
    """At most."""
    min: float | None = None
    """At least."""

    @model_validator(mode="after")
    def _bounds(self) -> "Bound":
        if self.max is None and self.min is None:
            raise ValueError("must give max or min, got neither")
        if self.max is not None and self.min is not None and self.min > self.max:
            raise ValueError(f"must have min at most max, got {self.min:g} above {self.max:g}")
        return self


def _whole_above_one(value: float | str) -> float | str:
    if isinstance(value, float) and value > 1 and value != int(value):
        raise ValueError(f"must be whole above 1, got {value:g}")
    return value


class Resources(Model):
    """What one trial gets."""

    cpu: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """CPU cores."""
    gpu: Annotated[
        Literal["auto"] | Annotated[float, Field(ge=0, allow_inf_nan=False)], AfterValidator(_whole_above_one)
    ] = "auto"
    """GPUs, or a fraction of one; auto: one where there is one."""


class Finalists(Model):
    """What happens after the last trial."""

    count: int = Field(default=3, ge=1)
    """How many of the frontier are exported and measured."""
    of: Annotated[tuple[str, ...], BeforeValidator(listed, json_schema_input_type=str | list[str])] = ()
    """The stages whose trials make that frontier; left out: the last."""
    seeds: int = Field(default=1, ge=1, le=30)
    """How many seeds each is trained with, its search's own among them; above 1 `choose` goes by the lower end of the
    95 % interval over them."""
    precision: Annotated[
        tuple[Precision, ...],
        BeforeValidator(listed, json_schema_input_type=Precision | list[Precision]),
        Field(min_length=1),
    ] = ("fp32",)
    """What each is exported in, or a list of these, an artifact each; auto: the quickest that is still right."""


def _first_objective(data: dict[str, Any]) -> dict[Direction, str]:
    return {direction: name for name, direction in list(data.get("objectives", {}).items())[:1]}


class Spec(Model):
    """An experiment."""

    name: Annotated[str, AfterValidator(_name), Field(json_schema_extra={"pattern": f"^{_NAME}$"})]
    """Opens the names of its result folders."""
    description: str = ""
    """What it finds out."""
    task: Part
    """What a trial is scored on: a name in tasks/ or file.py:TASK, and the task's own options."""
    stages: tuple[Stage, ...] = Field(min_length=1)
    """Searches, one after the other."""
    objectives: dict[str, Direction] = Field({"val_accuracy": "max", "latency_ms": "min"}, min_length=1)
    """Metrics that span the frontier and rank trials: a trial that no other dominates comes first."""
    constraints: dict[str, Bound] = Field({})
    """What must hold of a metric: {latency_ms: {max: 2}}."""
    choose: dict[Direction, Annotated[str, Field(min_length=1)]] = Field(
        default_factory=_first_objective, min_length=1, max_length=1
    )
    """How one of the frontier is picked: {max: val_accuracy}; left out: by the first objective."""
    target: dict[str, Any] = Field({})
    """The hardware and runtime that latency is about: device, runtime, threads, batch."""
    resources: Resources = Resources()
    """What one trial gets."""
    time: Annotated[float | None, BeforeValidator(seconds, json_schema_input_type=float | str | None)] = None
    """Time budget of all stages: seconds, or 90s, 10m, 2h; null: none."""
    max_failed: float = Field(default=0.5, ge=0, le=1, allow_inf_nan=False)
    """The share of a stage's trials that may fail (by an error, or by lost processes) before all is given up."""
    silence: Annotated[float | None, BeforeValidator(seconds, json_schema_input_type=float | str | None)] = 1800.0
    """How long a trial may go without a report before it is ended as hung: seconds, or 90s, 10m, 2h; null: for ever."""
    disk: Annotated[float | None, BeforeValidator(size, json_schema_input_type=float | str | None)] = None
    """What checkpoints and artifacts may take together: bytes, or 500MB, 20GB; null: what is free."""
    seed: int = Field(default=0, ge=0)
    """All randomness follows from it."""
    warm_start: Annotated[
        Literal["auto", "none"] | Annotated[tuple[str, ...], Field(min_length=1)],
        BeforeValidator(_warm, json_schema_input_type=str | list[str] | None),
    ] = "none"
    """Past runs whose best configurations are one trial in three, those on similar data above all: auto (all in the
    storage), the folder or URI of a run or of a folder of runs, or a list of these; none: no."""
    finalists: Finalists = Finalists()
    """What happens after the last trial."""
    smoke: dict[str, Any] = Field({})
    """Settings of --smoke, by dotted path: {stages.search.trials: 2}."""

    @property
    def finalist_stages(self) -> tuple[str, ...]:
        """Those whose trials make the frontier that finalists are picked from."""
        return self.finalists.of or (self.stages[-1].name,)

    def stage(self, name: str) -> Stage:
        """The stage of a name."""
        return next(stage for stage in self.stages if stage.name == name)

    def apply(self, settings: Mapping[str, Any]) -> "Spec":
        """The spec with values set by dotted path, stages by name: {"stages.search.trials": 5}. Raises ParseError."""
        values = self.resolved()
        faults = [fault for path, value in settings.items() if (fault := _set(self, values, path, value))]
        if faults:
            raise ParseError(faults)
        if "choose" not in self.model_fields_set and not any(path.startswith("choose") for path in settings):
            del values["choose"]  # it follows the objectives
        return parse(Spec, values)

    def resolved(self) -> dict[str, Any]:
        """Everything, defaults included, as plain JSON values; `parse(Spec, …)` of it is equal."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """`resolved` as a file that `load` reads back."""
        return documents.written(self.resolved())


def find() -> list[str]:
    """Names of the experiments in this repository."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def shape(name: str) -> Spec:
    """The experiment of a name or a path, of which the shape alone is checked. Raises ParseError."""
    return parse(Spec, documents.read(_path(name)))


def load(name: str, settings: Iterable[str] = (), *, smoke: bool = False) -> Spec:
    """The experiment of a name in `experiments/` or a path to a YAML file, with `smoke` and then `settings`
    ("path=value") applied. Raises ParseError with every fault found.
    """
    values = documents.read(_path(name))
    return checked(values, settings, smoke=smoke)


def checked(values: Mapping[str, Any], settings: Iterable[str] = (), *, smoke: bool = False) -> Spec:
    """The spec of plain values (`fit` makes them without a file), checked as `load` does."""
    try:
        spec = parse(Spec, values)
    except ParseError as error:
        raise ParseError(error.faults + checks.of_valid_stages(values)) from None
    small = _smoked(spec)
    spec = (small if smoke else spec).apply(_settings(settings))
    if faults := checks.faults(spec):
        raise ParseError(faults)
    return spec


def setting(text: str) -> tuple[str, Any]:
    """ "stages.search.trials=5" as a path and a value read as YAML."""
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise ParseError([f"--set must be path=value, got {shown(text)}"])
    return path, documents.plain(value, f"--set {path}")


def _settings(texts: Iterable[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    faults: list[str] = []
    for text in texts:
        try:
            found.update([setting(text)])
        except ParseError as error:
            faults += error.faults
    if faults:
        raise ParseError(faults)
    return found


def json_schema() -> dict[str, Any]:
    """The schema that `experiments/schema.json` holds, for editors."""
    schema = Spec.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _smoked(spec: Spec) -> Spec:
    try:
        return spec.apply({"name": spec.name[: _LONGEST_NAME - len(SMOKE)] + SMOKE, **spec.smoke})
    except ParseError as error:
        raise ParseError([f"smoke: {fault}" for fault in error.faults]) from None


def _path(name: str) -> Path:
    if name in find():
        return FOLDER / f"{name}.yaml"
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return Path(name)
    if Path(name).exists():
        raise ParseError([f"{name} is no experiment: give a YAML file, or data to `fit`"])
    raise ParseError([f"there is no experiment {name!r}{suggestion(name, find())}"])


def _set(spec: Spec, values: dict[str, Any], path: str, value: Any) -> str | None:
    """Sets one value; a fault instead when the path leads nowhere."""
    node: Any = spec
    view: Any = values
    *parents, last = path.split(".")
    walked = "the experiment"
    for part in parents:
        if fault := _unknown(node, view, part, walked):
            return f"cannot set {path}: {fault}"
        node, view = _child(node, view, part)
        walked = part if walked == "the experiment" else f"{walked}.{part}"
    if fault := _unknown(node, view, last, walked):
        return f"cannot set {path}: {fault}"
    if isinstance(node, tuple):
        return f"cannot set {path}: {last} is a stage; set one of its fields"
    view[last] = value
    return None


def _unknown(node: Any, view: Any, part: str, walked: str) -> str | None:
    if isinstance(node, tuple) and node and isinstance(node[0], Stage):
        known: list[str] | None = [stage.name for stage in node]
    elif isinstance(view, dict):
        known = list(type(node).model_fields) if isinstance(node, Model) else None
    else:
        return f"{walked} holds one value, no {part!r}"
    if known is None or part in known:
        return None
    return f"{walked} has no {part!r}{suggestion(part, known)}"


def _child(node: Any, view: Any, part: str) -> tuple[Any, Any]:
    if isinstance(node, tuple):
        index = next(i for i, stage in enumerate(node) if stage.name == part)
        return node[index], view[index]
    if isinstance(node, Model):
        return getattr(node, part), view[part]
    return None, view.setdefault(part, {})


if __name__ == "__main__":
    sys.stdout.write(json.dumps(json_schema(), indent=1) + "\n")
