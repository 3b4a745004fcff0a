"""Starts or joins Ray, runs one `Tuner.fit`, handles signals. The engine's other edge to Ray beside the bridge."""

import logging
import os
import secrets
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune
from ray.autoscaler.sdk import request_resources
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from experiments.engine import interrupt
from experiments.engine.bridge import Bridge, SegmentScheduler, SegmentSearcher
from trainables.adapter import SegmentTrainable

# Ray Tune 2.60 as the bridge needs it (house §7); read when a Tuner is made.
_TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}
# Of the ten seconds in which everything has ended after a signal.
_SHUTDOWN_S = 5.0
_NODES_ANSWER_S = 6.0


@dataclass(frozen=True)
class Resources:
    """What one trial asks for; `gpu` may be a fraction."""

    cpu: float
    gpu: float

    def bundle(self) -> dict[str, float]:
        """By Ray's names."""
        return {"CPU": self.cpu, "GPU": self.gpu}


@dataclass(frozen=True)
class Node:
    """A node of the cluster, and all it can give."""

    id: str
    host: str
    resources: dict[str, float]


def connect(address: str | None) -> None:
    """Joins the cluster at `address` (or the one of the running Ray job), else starts one of our own.

    A local run never joins a cluster that happens to run on the machine. Token authentication is on.
    """
    if ray.is_initialized():
        return
    interrupt.before_end(disconnect, _SHUTDOWN_S)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None and "RAY_ADDRESS" not in os.environ:
        # A token of this run alone: our cluster listens on this machine only and ends with the driver.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        ray.init(address="local", include_dashboard=False, **quiet)
    else:
        _join(address or os.environ["RAY_ADDRESS"], quiet)
    interrupt.renew()


def _join(address: str, quiet: dict[str, Any]) -> None:
    if address.startswith(("http://", "https://")):
        raise ValueError(f"address {address!r} is a dashboard's; give it to `submit`, and `run` the head's HOST:PORT")
    try:
        _reach(address)
        ray.init(address=address, **quiet)
    except ray.exceptions.AuthenticationError:
        raise ValueError(
            f"the cluster at {address} lets nobody in without its token; set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to "
            "its file"
        ) from None
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"the cluster at {address} cannot be joined ({str(error).splitlines()[0]}); give --address HOST:PORT of "
            "its head node, as `ray start --head` says it"
        ) from None


def _reach(address: str) -> None:
    """Whether anybody listens there, which Ray takes minutes to give up on. OSError where nobody does."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_NODES_ANSWER_S).close()


def disconnect() -> None:
    """Leaves the cluster; one of our own ends."""
    ray.shutdown()


def nodes() -> list[Node]:
    """The nodes that are alive."""
    return [
        Node(node["NodeID"], node["NodeManagerHostname"], node["Resources"]) for node in ray.nodes() if node["Alive"]
    ]


def on_every_node(work: Callable[..., Any], *arguments: Any) -> list[tuple[str, Any]]:
    """(Host, what `work` returns there) of each node; nodes that do not answer in time are left out."""
    task = ray.remote(work)
    asked = {}
    for node in nodes():
        there = NodeAffinitySchedulingStrategy(node.id, soft=False)
        asked[task.options(num_cpus=0, scheduling_strategy=there, max_retries=0).remote(*arguments)] = node.host
    ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=_NODES_ANSWER_S)
    return [(asked[reference], ray.get(reference)) for reference in ready]


def ask_for(wanted: Resources | None) -> None:
    """Tells the autoscaler, where there is one, what a trial needs; None: no longer."""
    bundle = {name: amount for name, amount in wanted.bundle().items() if amount} if wanted else {}
    request_resources(bundles=[bundle] if bundle else [])


def resources(cpu: float, gpu: float | str) -> Resources:
    """What a trial gets on this cluster: with `gpu: auto` one GPU where there are any."""
    there = max((node.resources.get("GPU", 0.0) for node in nodes()), default=0.0)
    return Resources(cpu, (1.0 if there else 0.0) if gpu == "auto" else float(gpu))


def fits(wanted: Resources) -> bool:
    """Whether some node can ever give what a trial asks for: a trial lives on one node."""
    return any(_trials(node, wanted) for node in nodes())


def slots(wanted: Resources) -> int:
    """How many trials run at once on the cluster as it is now."""
    return max(1, sum(_trials(node, wanted) for node in nodes()))


def _trials(node: Node, wanted: Resources) -> int:
    return int(min(node.resources.get(name, 0.0) // asked for name, asked in wanted.bundle().items() if asked))


def unusable_gpu(gpu: float) -> list[str]:
    """A line where the cluster has GPUs that torch cannot use."""
    reason = ray.get(ray.remote(_gpu_fault).options(num_cpus=0, num_gpus=gpu).remote())
    if not reason:
        return []
    return [f"torch cannot use the machine's GPU ({reason}); install a CUDA build of torch, or set resources.gpu to 0"]


def _gpu_fault() -> str:
    """Runs on a GPU node: why torch cannot use its GPU, or nothing."""
    import torch

    if torch.cuda.is_available():
        return ""
    return f"torch {torch.__version__}: " + (
        "no CUDA in this build" if torch.version.cuda is None else "no driver or device"
    )


def execute(bridge: Bridge, count: int) -> None:
    """One `Tuner.fit` that runs until the director is done. Ray's own files go to a scratch folder.

    Raises what went wrong in the loop; a fault of the bridge as itself, not in Ray's wrapping.
    """
    os.environ.update(_TUNE_ENVIRONMENT)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(count + 2)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the ledger tells of failures
    with tempfile.TemporaryDirectory(prefix="fitformer-", ignore_cleanup_errors=True) as scratch:
        tuner = tune.Tuner(
            SegmentTrainable,
            tune_config=tune.TuneConfig(
                search_alg=SegmentSearcher(bridge),
                scheduler=SegmentScheduler(bridge),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=_ray_name,
                trial_dirname_creator=_ray_name,
            ),
            run_config=tune.RunConfig(
                name="segments",
                storage_path=scratch,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False, checkpoint_frequency=0),
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        except Exception as error:  # noqa: BLE001  Ray wraps a fault in classes of its own
            raise bridge.fault or error from None


def _ray_name(trial: Any) -> str:
    return f"segment-{trial.trial_id}"
