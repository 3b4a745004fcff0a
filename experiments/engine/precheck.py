"""What a run needs of the cluster, its nodes and the disk: looked at within seconds, before any trial starts and before
anything is written, and said all at once.
"""

import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.engine import launch
from experiments.engine.plan import Plan
from trainables.parsing import ParseError
from trainables.store import Store

Say = Callable[[str], None]

_SAY_EVERY_S = 10.0
_WAY_OUT = "ask for less, or give --wait 10m to wait for nodes to come"


def check(plan: Plan, storage: Store, say: Say, *, wait: float | None = None, used: float = 0.0) -> launch.Resources:
    """What each trial gets on the cluster joined. `wait`: how many seconds the cluster may take to grow; `used`: bytes
    of the disk budget that earlier sessions of the run have taken.

    Raises ParseError with a line for everything that cannot work.
    """
    wanted = launch.resources(plan.spec.resources.cpu, plan.spec.resources.gpu)
    if wait is not None and not launch.fits(wanted):
        _wait(wanted, wait, say)
    needed = plan.checkpoint_bytes() * (
        launch.slots(wanted) + plan.spec.finalists.count * plan.spec.finalists.seeds + 1
    )
    faults = [
        *of_resources(wanted),
        *(of_disk(storage.local, needed, plan.spec.disk, used) if storage.local else ()),
        *(of_nodes(plan, storage.local) if len(launch.nodes()) > 1 else ()),
    ]
    if faults:
        raise ParseError(faults)
    return wanted


def of_resources(wanted: launch.Resources) -> list[str]:
    """What no node of the cluster can ever give: a trial lives on one node."""
    if launch.fits(wanted):
        return launch.unusable_gpu(wanted.gpu) if wanted.gpu else []
    there = launch.nodes()
    most = {name: max((node.resources.get(name, 0.0) for node in there), default=0.0) for name in wanted.bundle()}
    faults = [
        f"resources.{name.lower()} must be at most what one node has, got {asked:g} with {most[name]:g} there; "
        + _WAY_OUT
        for name, asked in wanted.bundle().items()
        if asked > most[name]
    ]
    return faults or [
        f"resources must be on one node, got cpu {wanted.cpu:g} with gpu {wanted.gpu:g}, and no node has both; "
        + _WAY_OUT
    ]


def of_disk(folder: Path, needed: float, budget: float | None, used: float) -> list[str]:
    """Whether checkpoints and budget find their place on the disk of `folder`, which need not be there yet."""
    free = shutil.disk_usage(_nearest(folder)).free
    takes = f"the checkpoints of trials and finalists take some {_size(needed)}"
    found = []
    if needed - used > free:
        found.append(f"{takes}, and {folder} has {_size(free)} free; make room, or choose another with --storage")
    if budget is not None and needed > budget:
        found.append(f"disk is {_size(budget)}, and {takes}; raise it, or search smaller models")
    if budget is not None and budget - used > free:
        found.append(
            f"disk is {_size(budget)}, and {folder} has {_size(free)} free; make room, lower it, or choose another "
            "with --storage"
        )
    return found


def of_nodes(plan: Plan, folder: Path | None) -> list[str]:
    """Whether every node sees the storage, where that is a folder, and the files that the experiment names."""
    found = [
        f"{name} {path!r} is not on {_hosts(missing)}; every node must see it: give a path on a disk that they share"
        for name, path in files(plan.spec.resolved())
        if (missing := _blind(Path(path)))
    ]
    if folder is None:
        return found
    probe = _nearest(folder) / f".fitformer-{secrets.token_hex(4)}"
    probe.touch()
    try:
        missing = _blind(probe)
    finally:
        probe.unlink()
    if missing:
        found.append(
            f"storage {folder} is not seen on {_hosts(missing)}; choose a shared folder or s3:// with --storage"
        )
    return found


def files(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(Where it stands, path) of each file or folder that a spec names and that is there."""
    yield from _named(spec["task"], "task")
    for stage in spec["stages"]:
        part = {key: stage[key] for key in ("routine", "space", "options")}
        yield from _named(part, f"stages.{stage['name']}")


def _named(values: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(values, str):
        file = values.rsplit(":", 1)[0] if ".py:" in values else values
        if ("/" in file or "." in file) and os.path.exists(file):
            yield path, file
    elif isinstance(values, Mapping):
        for name, value in values.items():
            yield from _named(value, f"{path}.{name}")
    elif isinstance(values, list):
        for value in values:
            yield from _named(value, path)


def _blind(path: Path) -> list[str]:
    """The hosts of the nodes that do not see a path. Relative ones are looked for where trials would."""
    return [host for host, there in launch.on_every_node(os.path.exists, str(path)) if not there]


def _hosts(hosts: list[str]) -> str:
    return f"node{'s' if len(hosts) > 1 else ''} {', '.join(hosts)}"


def _nearest(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _size(number: float) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"


def _wait(wanted: launch.Resources, seconds: float, say: Say) -> None:
    until = time.monotonic() + seconds
    said = -_SAY_EVERY_S
    launch.ask_for(wanted)
    while not launch.fits(wanted) and (left := until - time.monotonic()) > 0:
        if time.monotonic() - said >= _SAY_EVERY_S:
            said = time.monotonic()
            say(f"waits for a node with cpu {wanted.cpu:g} and gpu {wanted.gpu:g}; gives up in {left:.0f} s")
        time.sleep(min(1.0, left))
    launch.ask_for(None)
