"""What a run is made of: its spec, spaces, data, code and libraries. A run goes on only as what it was.

Recorded whole when a run is opened, so that a change is shown by name and not as two hashes that differ.
"""

import hashlib
import json
import platform
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from experiments.engine.spec import Spec
from searchspaces import Space
from trainables.parsing import shown

Json = dict[str, Any]

LIBRARIES = ("torch", "ray", "ConfigSpace", "onnxruntime", "tokenizers", "numpy")
PACKAGES = ("experiments", "models", "searchspaces", "tasks", "trainables")
# What may change from one session of a run to the next without making it another experiment.
_FREE = ("name", "description", "time", "resources", "smoke", "max_failed", "silence", "disk")
_FREE_OF_STAGE = ("trials",)
_ROOT = Path(__file__).parents[2]
_USER_FILE = re.compile(r"(.+\.py):\w+")
_ABSENT = object()


def fingerprint(spec: Spec, spaces: Mapping[str, Space], data: str) -> Json:
    """Plain JSON: spec (as far as it is not free to change), spaces by stage, data, code (hashes by file), versions."""
    return {
        "spec": _binding(spec.resolved()),
        "spaces": {name: json.loads(space.to_json()) for name, space in spaces.items()},
        "data": data,
        "code": code(spec.resolved()),
        "versions": {name: version(name) for name in LIBRARIES} | {"python": platform.python_version()},
    }


def short(fingerprint: Json) -> str:
    """16 hexadecimal digits that name a fingerprint."""
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()[:16]


def newest(records: list[Json]) -> Json:
    """The fingerprint a run has now: as opened, or as last accepted."""
    found = (record.get("fingerprint") for record in reversed(records))
    return next((fingerprint for fingerprint in found if isinstance(fingerprint, dict)), {})


def code(spec: Json) -> dict[str, str]:
    """Hashes of our packages' files, and of the user's own that the spec names as file.py:NAME."""
    ours = {str(path.relative_to(_ROOT)): path for name in PACKAGES for path in sorted((_ROOT / name).rglob("*.py"))}
    own = {name: Path(name) for name in sorted(set(_user_files(spec)))}
    return {name: _hash(path) for name, path in {**ours, **own}.items()}


def differences(old: Json, new: Json) -> list[str]:
    """One line for each thing that is not as it was: "stages.search.epochs: 4 → 6", "space search: d_model changed"."""
    return [
        *_of_values(old.get("spec"), new["spec"], ""),
        *_of_spaces(old.get("spaces", {}), new["spaces"]),
        *([] if old.get("data") == new["data"] else [f"data: {shown(old.get('data'))} → {shown(new['data'])}"]),
        *[f"code: {name} {change}" for name, change in _changes(old.get("code", {}), new["code"])],
        *_of_values(old.get("versions", {}), new["versions"], ""),
    ]


def _binding(spec: Json) -> Json:
    """The spec without what is free, its stages by name."""
    stages = {
        stage["name"]: {key: value for key, value in stage.items() if key not in ("name", *_FREE_OF_STAGE)}
        for stage in spec["stages"]
    }
    return {**{key: value for key, value in spec.items() if key not in _FREE}, "stages": stages}


def _user_files(values: Any) -> Iterator[str]:
    if isinstance(values, str) and (match := _USER_FILE.fullmatch(values)):
        yield match[1]
    elif isinstance(values, Mapping | list | tuple):
        for value in values.values() if isinstance(values, Mapping) else values:
            yield from _user_files(value)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else "missing"


def _of_values(old: Any, new: Any, path: str) -> list[str]:
    if old == new:
        return []
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = [*old, *(name for name in new if name not in old)]
        return [
            line
            for name in names
            for line in _of_values(old.get(name, _ABSENT), new.get(name, _ABSENT), f"{path}.{name}".removeprefix("."))
        ]
    return [f"{path}: {_value(old)} → {_value(new)}"]


def _value(value: Any) -> str:
    return "(not there)" if value is _ABSENT else value if isinstance(value, str) else shown(value)


def _of_spaces(old: Json, new: Json) -> list[str]:
    return [
        f"space {stage}: {what} {change}"
        for stage in new
        if stage in old
        for what, change in _changes(_parts(old[stage]), _parts(new[stage]))
    ]


def _parts(space: Json) -> Json:
    """A space's parameters by name, its conditions and its forbidden clauses."""
    rest = {key: value for key, value in space.items() if key != "hyperparameters"}
    return {parameter["name"]: parameter for parameter in space["hyperparameters"]} | rest


def _changes(old: Json, new: Json) -> Iterator[tuple[str, str]]:
    for name in sorted({*old, *new}):
        before, after = old.get(name, _ABSENT), new.get(name, _ABSENT)
        if before != after:
            yield name, "added" if before is _ABSENT else "removed" if after is _ABSENT else "changed"
