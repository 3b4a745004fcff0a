"""Latency of a model during a search: the sum of its parts, each measured once, alone, on the target.

A layer's time is that of a stack of like layers less that of the ends, as in the lookup tables of ProxylessNAS (Cai
et al. 2019, arXiv:1812.00332). Each is measured on the lengths that the model will meet: the p50 of the parts add up,
as all of them grow with the length, while one length alone would hide what a change of shape costs (5 to 15 %). What
weights cost beyond the caches depends on the whole model (on a Zen 4 with 32 MB a layer of 5 MB took twice as long in a
stack of six): it is measured on stacks of a reference layer, by the megabyte.
"""

import hashlib
import json
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from models.architecture import Architecture, Signature, TokenSignature, n_positions, parse_signature
from models.encoder import Classifier
from models.export import random_feeds, to_onnx
from models.latency import Target, batches_like, measure_model
from models.latency_parts import Part, megabytes, memory_parts, parts, stack, work
from models.quantize import quantized

ROUNDS = 5
# What an exported graph depends on: figures of other code do not count.
CODE = (
    "attention",
    "blocks",
    "encoder",
    "export",
    "front_ends",
    "heads",
    "latency_parts",
    "linear",
    "positions",
    "quantize",
    "symbolics",
)

Json = dict[str, Any]


class LayerTable:
    """Measured parts, kept in one JSON file a target and machine in `folder`, shared by all experiments.

    lengths: of the split that the latency is about (validation), positions per example.
    """

    def __init__(self, folder: Path, target: Target, lengths: npt.ArrayLike) -> None:
        self.target, self.batches = target, batches_like(lengths, target.batch)
        self.length = int(np.median([max(batch) for batch in self.batches]))
        self.about = {"target": target.model_dump(), "lengths": self.batches, **machine()}
        name = hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()[:12]
        self.path = folder / f"latency-{name}.json"
        self.parts: dict[str, Json] = self._stored()

    @classmethod
    def given(cls, target: Target, length: int, parts: Iterable[Json]) -> Self:
        """The table of another process, to predict with: its target, its `length`, the values of its `parts`."""
        table = cls.__new__(cls)
        table.target, table.length, table.parts = target, length, {_key(part["shape"]): part for part in parts}
        return table

    def measure(self, architectures: Iterable[Architecture], signature: dict[str, Any]) -> int:
        """Measure what these are made of and the table lacks (or has from a disturbed machine); how much it was."""
        parsed, all_of_them = parse_signature(signature), list(architectures)
        lacking: dict[str, Part] = {}
        for architecture in all_of_them:
            for part in parts(architecture, parsed, self._positions(architecture, parsed)):
                lacking.setdefault(_key(part.shape), part)  # of the first that has it, whose ends come before it
        for part in self._memory_parts(all_of_them, parsed):
            lacking.setdefault(_key(part.shape), part)
        for known in [key for key in lacking if self.parts.get(key, {"quiet": False})["quiet"]]:
            del lacking[known]
        for part in lacking.values():
            self._measure(part, parsed)
        return len(lacking)

    def predict(self, architecture: Architecture, signature: dict[str, Any]) -> float:
        """p50 in milliseconds. Parts not in the table (see `missing`) are interpolated from those that are.

        Raises ValueError while nothing of the kind is measured.
        """
        ends_and_layers = sum(map(self._ms, self._shapes(architecture, signature)))
        size = megabytes(architecture)
        return ends_and_layers + size * self._ms_per_megabyte(size)

    def missing(self, architecture: Architecture, signature: dict[str, Any]) -> list[str]:
        """The parts of this architecture that `predict` interpolates."""
        keys = map(_key, self._shapes(architecture, signature))
        return [key for key in dict.fromkeys(keys) if key not in self.parts]

    def _shapes(self, architecture: Architecture, signature: dict[str, Any]) -> list[Json]:
        parsed = parse_signature(signature)
        return [part.shape for part in parts(architecture, parsed, self._positions(architecture, parsed))]

    def _positions(self, architecture: Architecture, signature: Signature) -> int:
        return self.length if isinstance(signature, TokenSignature) else n_positions(architecture, signature)

    def _memory_parts(self, architectures: list[Architecture], signature: Signature) -> Iterable[Part]:
        if not architectures:
            return []
        first, largest = architectures[0], max(map(megabytes, architectures))
        return memory_parts(first.patch, signature, self._positions(first, signature), largest)

    def _ms(self, shape: Json) -> float:
        part = self.parts.get(_key(shape))
        return float(part["ms"]) if part else self._interpolated(shape)

    def _interpolated(self, shape: Json) -> float:
        """By non-negative least squares of the relative error, over the parts of the same kind."""
        from scipy.optimize import nnls  # slow to import, seldom needed

        known = self._of_kind(shape["part"])
        if not known:
            raise ValueError(f"the latency table is empty ({shape['part']}); measure some architectures first")
        work_NW = np.array([work(part["shape"]) for part in known])
        ms_N = np.array([part["ms"] for part in known])
        cost_W, _ = nnls(work_NW / ms_N[:, None], np.ones(len(known)))
        return float(work(shape) @ cost_W)

    def _ms_per_megabyte(self, size: float) -> float:
        points = sorted((part["shape"]["megabytes"], part["ms"]) for part in self._of_kind("memory"))
        sizes, ms = zip((points[0][0] / 2, 0.0), *points, strict=True) if points else ((0.0,), (0.0,))
        return float(np.interp(size, sizes, ms))

    def _of_kind(self, kind: str) -> list[Json]:
        return [part for part in self.parts.values() if part["shape"]["part"] == kind]

    def _measure(self, part: Part, signature: Signature) -> None:
        whole, quiet = self._time(stack(part.architecture, signature, part.n_layers))
        less = [self.parts[_key(shape)] for shape in part.less]
        rest = max(whole - sum(known["ms"] for known in less), whole / 1000)
        quiet = quiet and all(known["quiet"] for known in less)
        self.parts[_key(part.shape)] = {"shape": part.shape, "ms": rest / part.divisor, "quiet": quiet}
        self._store()

    def _time(self, model: Classifier) -> tuple[float, bool]:
        data = quantized(to_onnx(model, random_feeds(model.signature, self.batches[0], 0)), self.target.precision)
        timing = measure_model(data, model.signature, self.batches, self.target, ROUNDS)
        return timing.p50_ms, timing.quiet

    def _stored(self) -> dict[str, Json]:
        if not self.path.is_file():
            return {}
        return {_key(part["shape"]): part for part in json.loads(self.path.read_bytes())["parts"]}

    def _store(self) -> None:
        """Written beside and renamed, with what other processes have stored meanwhile."""
        self.parts = self._stored() | self.parts
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(self.about | {"parts": list(self.parts.values())}, indent=1))
        draft.replace(self.path)


def machine() -> dict[str, str]:
    """What a figure holds for besides its target: processor, versions, code."""
    folder = Path(__file__).parent
    code = hashlib.sha256(b"".join((folder / f"{name}.py").read_bytes() for name in CODE))
    return {
        "processor": processor(),
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
        "code": code.hexdigest()[:12],
    }


def processor() -> str:
    """The processor's name, as the system gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _key(shape: Json) -> str:
    return json.dumps(shape, sort_keys=True)
