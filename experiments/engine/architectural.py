"""Which parameters of a space change the network: weights of one trial do not go on in another that differs in them,
and where none does, what a later stage gets is known before there are weights.
"""

from collections.abc import Callable, Mapping
from typing import Any

from models.architecture import Architecture
from searchspaces import Space
from trainables import routine
from trainables.parsing import parse

Config = dict[str, Any]

_DRAWS = 20
# The one field that is of training.
_FREE = {"dropout"}
# Those that leave every size as it is.
_NO_SIZE = {"activation", "norm", "norm_placement", "norm_eps", "positions", "pooling", "embedding_norm"}


def parameters(name: str, common: Mapping[str, Any], space: Space) -> list[str]:
    """Those that alone make the routine of this name build something else; `common` is what all its trials are told.

    Of a routine that does not tell what it builds none; where it cannot yet tell (it begins from what an earlier stage
    finds), those that are named as a field of `Architecture`.
    """
    kind: Any = routine.load(name)
    if not hasattr(kind, "architecture"):
        return []

    def built(point: Config) -> str:
        found = kind.architecture(parse(kind.Config, {**common, **point}))
        return str(found.model_dump(exclude=_FREE) if isinstance(found, Architecture) else found)

    try:
        built(space.default())
    except ValueError:
        return [each for each in space.names if each in set(Architecture.model_fields) - _FREE]
    return [each for each in space.names if _changes(each, space, built)]


def fixed(name: str, common: Mapping[str, Any], space: Space) -> Architecture | None:
    """The architecture that the routine of this name builds at every point of a space, whose activation, positions and
    the like may be others; None where sizes differ, where points are refused, and of what has no architecture to tell.
    """
    kind: Any = routine.load(name)
    if not hasattr(kind, "architecture") or {*parameters(name, common, space)} - _NO_SIZE:
        return None
    try:
        found = kind.architecture(parse(kind.Config, {**common, **space.default()}))
    except ValueError:
        return None
    return found if isinstance(found, Architecture) else None


def _changes(name: str, space: Space, built: Callable[[Config], str]) -> bool:
    for index in range(_DRAWS):
        point = space.draw(0, index) if index else space.default()
        if name not in point:
            continue
        try:
            return built(space.changed(point, name, 0, index)) != built(point)
        except ValueError:  # of no other value, or a point that the routine refuses
            continue
    return False
