"""What a routine is, and how one is found. No ray.

A routine is a unit of work that advances step by step, reports metrics, and can be saved and loaded. It gets a typed,
frozen `Config` and a `Workspace`, and knows nothing of Ray.
"""

import importlib
import importlib.util
import pkgutil
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from models.architecture import Architecture
from trainables import manifest
from trainables.parsing import parse
from trainables.store import Store


@dataclass(frozen=True)
class Workspace:
    """Where a routine works: cache for prepared data, a folder, device ("cpu", "cuda"), threads.

    `inputs` is what the experiment hands to every trial of a stage, such as the layer table. `folder` is the run's
    own where that lies on disk; else a scratch folder, and `store` is the run's.
    """

    cache: Path
    folder: Path
    device: str = "cpu"
    threads: int = 1
    inputs: Mapping[str, Any] = field(default_factory=dict)
    store: Store | None = None

    def fetch(self, checkpoint: str) -> Path:
        """A checkpoint of this run, by its path in the run's folder, to read from. Raises manifest.Damaged."""
        place = self.folder / checkpoint
        if self.store is not None:
            shutil.rmtree(place, ignore_errors=True)
            try:
                with self.store.get(checkpoint) as found:
                    shutil.copytree(found, place)
            except FileNotFoundError:
                raise manifest.Damaged(f"{self.store.shown}/{checkpoint} is missing") from None
        manifest.check(place)
        return place

    def publish(self, name: str) -> None:
        """Lets what lies under `name` in `folder` take its place in the run's folder, if that is elsewhere."""
        if self.store is not None:
            self.store.put(self.folder / name, name)


class Routine(Protocol):
    """One unit of work.

    `advance` goes on to the next report and returns metrics, `epochs` among them. `save` and `load` keep everything
    the next `advance` depends on, except the configuration: a value changed in the configuration (as population-based
    training does) holds after a load.
    """

    Config: ClassVar[type[BaseModel]]

    def __init__(self, config: Any, workspace: Workspace) -> None: ...

    def advance(self) -> dict[str, Any]: ...

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...


class Infeasible(ValueError):  # noqa: N818
    """The configuration itself cannot work (out of memory, shapes): ranked last and never retried as it is."""


def check(
    name: str, values: Mapping[str, Any], data: Any | None, *, early: Mapping[str, Architecture] | None = None
) -> None:
    """Raises ValueError where `values` make no config of the routine, or one that does not fit the data.

    A routine says the latter itself, if it can: `check(config, data)`; or, while what it takes of other stages is not
    there yet, `check_early(config, data, shapes)`. `early` are these shapes: what is known already of the
    architectures that it will take, by reference.
    """
    kind = load(name)
    config = parse(kind.Config, values, whole=f"routine {name}")
    fits = getattr(kind, "check" if early is None else "check_early", None)
    if fits is not None and data is not None:
        fits(config, data) if early is None else fits(config, data, early)


def reported(name: str, values: Mapping[str, Any], data: Any) -> list[str] | None:
    """The names in the reports of a routine with these values on these data, None where it does not say.

    A routine says them, if it can: `metrics(config, data)`. Raises ParseError where the values make no config.
    """
    kind = load(name)
    says = getattr(kind, "metrics", None)
    return None if says is None else list(says(parse(kind.Config, values), data))


def known(name: str, values: Mapping[str, Any], data: Any, inputs: Mapping[str, Any]) -> dict[str, float]:
    """What the trial of a routine will report whatever it trains to, such as params; nothing where it does not say.

    A routine says it, if it can: `known(config, data, inputs)`, with a workspace's inputs. Raises ParseError where the
    values make no config.
    """
    kind = load(name)
    says = getattr(kind, "known", None)
    return {} if says is None else dict(says(parse(kind.Config, values), data, inputs))


def find() -> list[str]:
    """Names of the modules here that declare a `ROUTINE`."""
    package = importlib.import_module("trainables")
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return sorted(name for name in names if hasattr(importlib.import_module(f"trainables.{name}"), "ROUTINE"))


def load(name: str) -> type[Routine]:
    """The routine of a name in `trainables/`, or of a user's own `file.py:CLASS`."""
    if ".py:" in name:
        path, attribute = name.rsplit(":", 1)
        return _from_file(Path(path), attribute)
    try:
        module = importlib.import_module(f"trainables.{name}")
    except ModuleNotFoundError as missing:
        if missing.name != f"trainables.{name}":
            raise
        raise ValueError(f"there is no routine {name!r}; there are: {', '.join(find())}") from None
    routine: type[Routine] = module.ROUTINE
    return routine


def _from_file(path: Path, attribute: str) -> type[Routine]:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.exists():
        raise ValueError(f"routine file {str(path)!r} does not exist; give file.py:CLASS")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, attribute):
        raise ValueError(f"routine file {str(path)!r} has no {attribute!r}")
    routine: type[Routine] = getattr(module, attribute)
    return routine
