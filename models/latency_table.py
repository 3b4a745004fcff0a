"""Latency of a model during a search: the sum of its parts, each measured once, alone, on the target.

The parts are the two ends (front end and head) and every layer. A layer's time is that of a stack of like layers
less that of the ends, as in the lookup tables of ProxylessNAS (Cai et al. 2019, arXiv:1812.00332). Each is measured
on the lengths that the model will meet: the p50 of the parts add up, as all of them grow with the length, while
one length alone would hide what a change of shape costs (5 to 15 %).
"""

import hashlib
import json
import math
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import nn

from models.architecture import Architecture, Layer, Signature, TokenSignature, n_positions, parse_signature
from models.encoder import Classifier
from models.export import random_feeds, to_onnx
from models.latency import Target, batches_like, measure_model

STACK = 4  # layers in a stack: several, so that they share the caches as those of a model do
VOCABULARY = 4096  # rows of the embedding table in a measured model; more change nothing but the time to export
ROUNDS = 3
# What an exported graph depends on: figures of other code do not count.
CODE = ("attention", "blocks", "encoder", "export", "front_ends", "heads", "positions", "symbolics")

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
        parsed = parse_signature(signature)
        parts = [(architecture, *part) for architecture in architectures for part in self._shapes(architecture, parsed)]
        lacking: dict[str, tuple[Architecture, Json, Layer | None]] = {}
        for architecture, shape, layer in parts:  # with the first architecture that has it, whose ends come before it
            lacking.setdefault(_key(shape), (architecture, shape, layer))
        for known in [key for key in lacking if self.parts.get(key, {"quiet": False})["quiet"]]:
            del lacking[known]
        for architecture, shape, layer in lacking.values():
            self._measure(architecture, parsed, shape, layer)
        return len(lacking)

    def predict(self, architecture: Architecture, signature: dict[str, Any]) -> float:
        """p50 in milliseconds. Parts not in the table (see `missing`) are interpolated from those that are.

        Raises ValueError while nothing of the kind is measured.
        """
        shapes = self._shapes(architecture, parse_signature(signature))
        return sum(self._ms(shape) for shape, _ in shapes)

    def missing(self, architecture: Architecture, signature: dict[str, Any]) -> list[str]:
        """The parts of this architecture that `predict` interpolates."""
        keys = [_key(shape) for shape, _ in self._shapes(architecture, parse_signature(signature))]
        return [key for key in dict.fromkeys(keys) if key not in self.parts]

    def _shapes(self, architecture: Architecture, signature: Signature) -> list[tuple[Json, Layer | None]]:
        """What a part's time depends on: of the ends (no layer), then of every layer."""
        length = self.length if isinstance(signature, TokenSignature) else n_positions(architecture, signature)
        ends = (_ends(architecture, signature, length), None)
        return [ends, *((_layer(architecture, signature, layer, length), layer) for layer in architecture.layers)]

    def _ms(self, shape: Json) -> float:
        part = self.parts.get(_key(shape))
        return float(part["ms"]) if part else self._interpolated(shape)

    def _interpolated(self, shape: Json) -> float:
        """By non-negative least squares of the relative error, over the parts of the same kind."""
        from scipy.optimize import nnls  # slow to import, seldom needed

        known = [part for part in self.parts.values() if part["shape"]["part"] == shape["part"]]
        if not known:
            raise ValueError(f"the latency table is empty ({shape['part']}); measure some architectures first")
        work_NW = np.array([_work(part["shape"]) for part in known])
        ms_N = np.array([part["ms"] for part in known])
        cost_W, _ = nnls(work_NW / ms_N[:, None], np.ones(len(known)))
        return float(_work(shape) @ cost_W)

    def _measure(self, architecture: Architecture, signature: Signature, shape: Json, layer: Layer | None) -> None:
        n_layers = STACK if layer else 0
        ms, quiet = self._time(_stack(architecture, signature, layer or architecture.layers[0], n_layers))
        if layer:
            ends = self.parts[_key(_ends(architecture, signature, shape["length"]))]
            ms, quiet = max(ms - ends["ms"], ms / 100) / STACK, quiet and ends["quiet"]
        self.parts[_key(shape)] = {"shape": shape, "ms": ms, "quiet": quiet}
        self._store()

    def _time(self, model: Classifier) -> tuple[float, bool]:
        data = to_onnx(model, random_feeds(model.signature, self.batches[0], 0))
        timing = measure_model(data, model.signature, self.batches, self.target, ROUNDS)
        return timing.p50_ms, timing.quiet

    def _stored(self) -> dict[str, Json]:
        if not self.path.is_file():
            return {}
        parts = json.loads(self.path.read_bytes())["parts"]
        return {_key(part["shape"]): part for part in parts}

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


def _ends(architecture: Architecture, signature: Signature, length: int) -> Json:
    fields = {"d_model", "embedding_rank", "embedding_norm", "norm", "norm_placement", "pooling", "patch"}
    added = architecture.positions in ("learned", "sinusoidal")
    size = signature.model_dump(include={"input", "n_classes", "height", "width", "channels"})
    return architecture.model_dump(include=fields) | size | {"part": "ends", "added": added, "length": length}


def _layer(architecture: Architecture, signature: Signature, layer: Layer, length: int) -> Json:
    shape = architecture.model_dump(include={"d_model", "activation", "norm", "norm_placement"})
    inside = architecture.positions if architecture.positions in ("rotary", "alibi") else "none"
    masked = isinstance(signature, TokenSignature)
    return shape | layer._asdict() | {"part": "layer", "positions": inside, "masked": masked, "length": length}


def _stack(architecture: Architecture, signature: Signature, layer: Layer, n_layers: int) -> Classifier:
    """A model of n_layers such layers; without any, only its ends."""
    like = architecture.model_dump() | layer._asdict() | {"n_layers": max(n_layers, 1)}
    if isinstance(signature, TokenSignature):
        size = {"vocab_size": min(signature.vocab_size, VOCABULARY), "pad_id": 0}
        signature = signature.model_copy(update=size)
    with torch.random.fork_rng(devices=[]):  # a search must not depend on what was measured
        model = Classifier(Architecture.model_validate(like), signature)
    if n_layers == 0:
        model.blocks = nn.ModuleList()
    return model


def _work(shape: Json) -> npt.NDArray[np.float64]:
    """What the time of a part grows with: nothing, its products, its activations, its heads."""
    length, d_model = shape["length"], shape["d_model"]
    if shape["part"] == "ends":
        inner = shape["embedding_rank"] or math.prod(shape.get(k, 0) or 0 for k in ("patch", "patch", "channels"))
        return np.array([1, length * d_model * inner, d_model * shape["n_classes"], length * d_model], dtype=float)
    n_heads, inner = shape["n_heads"], shape["n_heads"] * shape["d_head"]
    forward = shape["d_ff"] * (2 if shape["activation"] in ("geglu", "swiglu") else 1)
    products = [4 * d_model * inner, d_model * (forward + shape["d_ff"]), length * inner]
    return np.array([1, *(length * each for each in (*products, d_model, inner, forward, length * n_heads))])
