"""Starts or joins Ray, runs one `Tuner.fit`, handles signals. The engine's other edge to Ray beside the bridge."""

import logging
import os
import secrets
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import ray
from ray import tune

from experiments.engine.bridge import Bridge, SegmentScheduler, SegmentSearcher
from experiments.engine.ledger import Ledger
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


class LaunchError(ValueError):
    """Ray, or the machine under it, cannot give what the experiment asks for."""


@dataclass(frozen=True)
class Resources:
    """What one trial asks for; `gpu` may be a fraction."""

    cpu: float
    gpu: float


def connect(address: str | None) -> None:
    """Joins the cluster at `address` (or the one of the running Ray job), else starts one of our own.

    A local run never joins a cluster that happens to run on the machine. Token authentication is on.
    """
    if ray.is_initialized():
        return
    if address is None and "RAY_ADDRESS" not in os.environ:
        # A token of this run alone: our cluster listens on this machine only and ends with the driver.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        return
    ray.init(address=address or "auto", log_to_driver=False, logging_level=logging.ERROR)


def disconnect() -> None:
    """Leaves the cluster; one of our own ends."""
    ray.shutdown()


def resources(cpu: float, gpu: float | str) -> Resources:
    """What a trial gets on this cluster: with `gpu: auto` one GPU where there are any.

    Raises LaunchError when the cluster can never give it, or has a GPU that torch cannot use.
    """
    there = ray.cluster_resources()
    gpus = there.get("GPU", 0.0)
    wanted = (1.0 if gpus else 0.0) if gpu == "auto" else float(gpu)
    faults = [
        f"resources.{name} must be at most what one cluster has, got {asked:g} with {has:g} there; ask for less"
        for name, asked, has in (("cpu", cpu, there.get("CPU", 0.0)), ("gpu", wanted, gpus))
        if asked > has
    ]
    if wanted and not faults:
        faults += _unusable_gpu(wanted)
    if faults:
        raise LaunchError("\n".join(faults))
    return Resources(cpu, wanted)


def _unusable_gpu(gpu: float) -> list[str]:
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


def slots(wanted: Resources) -> int:
    """How many trials run at once on the cluster as it is now."""
    there = ray.cluster_resources()
    fits = [there.get("CPU", 0.0) // wanted.cpu]
    if wanted.gpu:
        fits.append(there.get("GPU", 0.0) // wanted.gpu)
    return max(1, int(min(fits)))


def execute(bridge: Bridge, count: int) -> None:
    """One `Tuner.fit` that runs until the director is done. Ray's own files go to a scratch folder.

    Raises what went wrong in the loop.
    """
    os.environ.update(_TUNE_ENVIRONMENT)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(count + 2)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
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
        tuner.fit()


def _ray_name(trial: Any) -> str:
    return f"segment-{trial.trial_id}"


def on_signal(ledger: Ledger, say: Callable[[str], None]) -> None:
    """SIGINT and SIGTERM: what is known is made durable, every process ends, the exit code says interrupted.

    To be called after `ray.init`, which installs a handler of its own.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, lambda *_: os._exit(128 + number))
        ledger.sync()
        say(f"interrupted by {signal.Signals(number).name}; the same command goes on from here")
        ray.shutdown()
        os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
