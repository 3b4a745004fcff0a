"""What Ray tells of a trial whose process or node went away. Ray 2.60's own words are read here and nowhere else."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import ray
from ray._private.state import actors, state
from ray.air.execution._internal import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune.experiment import Trial as RayTrial

from experiments.engine.events import LossKind


def loss(trial: RayTrial, actor: Any | None, announced: Collection[str]) -> tuple[LossKind, str]:
    """Why a Ray trial, run by an actor if it got one, ended without a result: a class and a line.

    announced: the nodes that were known to go, see `draining`.
    """
    text = _text(trial)
    # Ray does not count such a failure, if it knows by then that it is one.
    if trial.run_metadata.num_failures == 0 or (actor is not None and _node(actor) in announced):
        return (
            "preempted",
            "its node was taken back",
        )
    if "running low on memory" in text:
        return "memory", "its process was ended because the node ran out of memory"
    if any(words in text for words in ("its node has died", "NodeDiedError", "is unavailable")):
        return "node", "its node was lost"
    if "killed by `ray.kill`" in text:
        return "driver", "the process it was given had been ended for another trial"
    code = re.search(r"exit code (\d+)", text)
    return "process", f"its process ended with exit code {code[1]}" if code else "its process was killed"


def _text(trial: RayTrial) -> str:
    path = trial.error_file
    return Path(path).read_text(errors="replace") if path and Path(path).exists() else ""


def end(actor: Any) -> None:
    """Ends an actor's process, without waiting for it; one that does not end by itself gets SIGKILL from its node."""
    try:
        ray.kill(actor)
    except (RayError, ValueError):
        return  # it is gone already, or Ray is


def host(actor: Any) -> str:
    """The name of the host an actor runs or ran on; empty where Ray has forgotten."""
    node = _node(actor)
    return next((str(entry["NodeManagerHostname"]) for entry in ray.nodes() if entry["NodeID"] == node), "")


def _node(actor: Any) -> str:
    return str(actors(actor._actor_id.hex()).get("Address", {}).get("NodeID", ""))


def draining() -> set[str]:
    """The nodes that are announced to go. To be asked often: one that went ahead of its time looks like a crash."""
    return set(state.get_draining_nodes())


def survive_losses() -> None:
    """Makes every loss of a trial's process the loss of that trial alone.

    Tune's actor manager (Ray 2.60) knows two classes of errors. At others, such as the OutOfMemoryError with which a
    trial is answered that Ray's memory monitor ended, it would end the whole `Tuner.fit`.
    """
    known = RayActorManager._actor_task_failed
    if known.__module__ == __name__:
        return

    def failed(manager: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
            exception = RayActorError(error_msg=f"{type(exception).__name__}: {exception}")
        known(manager, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = failed
