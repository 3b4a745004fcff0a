"""Latency on the target: the p50 of a model's ONNX session, on one core, in rounds that nothing else disturbed.

Tokenizing is not included. During a search the figures come from `models/latency_table.py`.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator

from models.architecture import Signature
from models.export import random_feeds
from models.predictor import Feeds, session

Kind = Literal["fp32", "int8", "int8_embedding4", "weights8", "weights4"]
"""Numbers that a model computes in; what each is: `models/quantize.py`."""

QUIET = 0.95  # a round whose thread ran less than this share of the time was disturbed
INPUTS = 32  # distinct inputs in a round
ROUND_S = 0.02  # a shorter round cannot tell a disturbance


class Target(BaseModel):
    """The hardware and runtime that a latency is about: so far ONNX Runtime on this machine's CPU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str = Field("cpu", description="cpu")
    runtime: str = Field("onnxruntime", description="onnxruntime")
    threads: int = Field(1, ge=1, description="threads of the runtime")
    batch: int = Field(1, ge=1, description="inputs predicted at once")
    precision: Kind = Field("fp32", description="what is measured in, of a search; what is shipped, the finalists say")

    @field_validator("device", "runtime")
    @classmethod
    def _supported(cls, value: str, info: Any) -> str:
        supported = {"device": "cpu", "runtime": "onnxruntime"}[info.field_name]
        if value != supported:
            raise ValueError(
                f"target.{info.field_name} is {value!r}; supported is onnxruntime on cpu; "
                f"set it to {supported!r} or leave it out"
            )
        return value


class Timing(NamedTuple):
    """p50 and p95 of one run, in milliseconds; quiet: whether enough rounds were undisturbed."""

    p50_ms: float
    p95_ms: float
    quiet: bool


class Clock(NamedTuple):
    """Time that passed, and time that this thread ran, in seconds."""

    wall: Callable[[], float] = time.perf_counter
    ran: Callable[[], float] = time.thread_time


CLOCK = Clock()


def measure(
    run: Callable[[Feeds], object],
    inputs: Sequence[Feeds],
    *,
    rounds: int = 7,
    pin: bool = True,
    clock: Clock = CLOCK,
) -> Timing:
    """How long `run` takes on an input, over `rounds` rounds of all the inputs.

    With `pin` this thread stays on one core meanwhile and then has back those it had (where the system allows
    it). A round in which it ran for less than 95 % of the time is repeated on the next core, up to three times
    as many rounds in all. If too few were undisturbed even so, the timing is not quiet: it is of those few, or
    of all if there was none.
    """
    kept: list[list[float]] = []
    disturbed: list[list[float]] = []
    for feeds in inputs:  # the first run of a shape plans its memory
        run(feeds)
    with _pinning(pin) as move:
        while len(kept) < rounds and len(kept) + len(disturbed) < 3 * rounds:
            move(len(disturbed))
            times, share = _round(run, inputs, clock)
            (kept if share >= QUIET else disturbed).append(times)
    p50, p95 = np.quantile(np.concatenate(kept or disturbed) * 1e3, [0.5, 0.95])
    return Timing(float(p50), float(p95), quiet=len(kept) == rounds)


def measure_model(
    model: Path | bytes, signature: Signature, batches: Sequence[Sequence[int]], target: Target, rounds: int = 7
) -> Timing:
    """Latency of an ONNX model (bytes, or the file of an artifact) on batches of these lengths (`batches_like`).

    Each round is in a session of its own, as where the memory of one happens to lie is worth up to 17 % of a small
    model's time, in all its rounds: their `median`.
    """
    inputs = [random_feeds(signature, batch, 0) for batch in batches]
    return median([_in_a_session(model, inputs, target) for _ in range(rounds)])


def median(timings: Sequence[Timing]) -> Timing:
    """Of the quiet ones, or of all if none was; quiet: if most were."""
    quiet = [timing for timing in timings if timing.quiet]
    p50, p95 = np.median([(timing.p50_ms, timing.p95_ms) for timing in quiet or timings], axis=0)
    return Timing(float(p50), float(p95), quiet=2 * len(quiet) > len(timings))


def _in_a_session(model: Path | bytes, inputs: Sequence[Feeds], target: Target) -> Timing:
    ready = session(model, target.threads)
    return measure(lambda feeds: ready.run(None, feeds), inputs, rounds=1, pin=target.threads == 1)


def batches_like(lengths: npt.ArrayLike, batch: int) -> list[list[int]]:
    """Lengths of a few batches that stand for these: evenly spaced quantiles, dealt at random."""
    quantiles = (np.arange(INPUTS * batch) + 0.5) / (INPUTS * batch)
    typical = np.quantile(np.asarray(lengths), quantiles, method="inverted_cdf").astype(int)
    dealt = np.random.default_rng(0).permutation(typical).reshape(INPUTS, batch)
    return [list(map(int, row)) for row in dealt]


def _round(run: Callable[[Feeds], object], inputs: Sequence[Feeds], clock: Clock) -> tuple[list[float], float]:
    """Seconds of every run, after one to warm up, and the share of the round in which this thread ran."""
    run(inputs[-1])
    times: list[float] = []
    ran = clock.ran()
    first = now = clock.wall()
    while now - first < ROUND_S or len(times) % len(inputs):
        run(inputs[len(times) % len(inputs)])
        before, now = now, clock.wall()
        times.append(now - before)
    return times, (clock.ran() - ran) / (now - first)


@contextlib.contextmanager
def _pinning(pin: bool) -> Iterator[Callable[[int], None]]:
    """A function that puts this thread on the core whose turn it is; afterwards all is as before."""
    if not pin or not hasattr(os, "sched_setaffinity"):
        yield lambda turn: None
        return
    allowed = os.sched_getaffinity(0)
    cores = sorted(allowed, reverse=True)  # the first serves most interrupts, so it comes last
    try:
        yield lambda turn: os.sched_setaffinity(0, {cores[turn % len(cores)]})
    finally:
        os.sched_setaffinity(0, allowed)
