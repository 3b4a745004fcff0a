"""What a stage says it takes of an earlier one, read off the spec; and which stages must meet the constraints, by that.

`stages.NAME` in a stage's options is that stage's best trial, `stages.NAME.3` one trial, `each` its picks.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from experiments.engine.frontier import Bounds

Json = Mapping[str, Any]
FORM = re.compile(r"stages\.([A-Za-z0-9_-]+)(?:\.(\d+))?")
# Options of routines that take a checkpoint, or an architecture.
TAKERS = ("teacher", "start", "supernet", "like")
# The option that takes an architecture alone: what is made of it has to meet the constraints.
LIKE = ".like"


def within(values: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(dotted path, reference) of every reference in plain values."""
    if isinstance(values, str):
        if FORM.fullmatch(values):
            yield path, values
    elif isinstance(values, Mapping):
        for name, value in values.items():
            yield from within(value, f"{path}.{name}")
    elif isinstance(values, list | tuple):
        for value in values:
            yield from within(value, path)


def bounds(spec: Json, stage: str) -> Bounds:
    """The constraints that the trials of a stage must meet: none where it only makes a teacher for a later stage."""
    taken, like = set[str](), set[str]()
    for each in spec["stages"]:
        for path, name in within(each.get("options", {})):
            (like if path == LIKE else taken).add(name.removeprefix("stages."))
    picked = {*(spec["finalists"].get("of") or [spec["stages"][-1]["name"]])}
    picked |= {each["each"]["stage"] for each in spec["stages"] if each.get("each")}
    constraints: Bounds = spec["constraints"]
    return constraints if stage in (picked | like) - taken else {}
