"""What Ray tells of a trial whose process or node went away. Ray 2.60's own words are read here and nowhere else."""

import re
from pathlib import Path
from typing import Any

import ray
from ray._private.state import actors
from ray.air.execution._internal import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError, RayError
from ray.tune.experiment import Trial as RayTrial

from experiments.engine.events import LossKind


def loss(trial: RayTrial) -> tuple[LossKind, str]:
    """Why a Ray trial ended without a result, in a class and a line."""
    text = _text(trial)
    if trial.run_metadata.num_failures == 0:  # Ray counts a failure unless the node was announced to go
        return "preempted", "its node was taken back"
    if _OUT_OF_MEMORY in text:
        return "memory", "its process was ended because the node ran out of memory"
    if "its node has died" in text or "is unavailable" in text:
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
    node = actors(actor._actor_id.hex()).get("Address", {}).get("NodeID", "")
    return next((str(entry["NodeManagerHostname"]) for entry in ray.nodes() if entry["NodeID"] == node), "")


_OUT_OF_MEMORY = "the node ran out of memory: "


def survive_memory_kills() -> None:
    """Makes the kill of a trial by Ray's memory monitor the loss of that trial.

    Ray 2.60 answers the trial with an OutOfMemoryError, which Tune's actor manager does not know: it would end the
    whole `Tuner.fit`.
    """
    known = RayActorManager._actor_task_failed
    if getattr(known, "survives_memory_kills", False):
        return

    def failed(manager: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=f"{_OUT_OF_MEMORY}{exception}")
        known(manager, tracked_actor_task, exception)

    failed.survives_memory_kills = True  # type: ignore[attr-defined]
    RayActorManager._actor_task_failed = failed
