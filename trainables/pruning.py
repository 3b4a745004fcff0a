"""What a network loses, round by round: the settings of routine `compress`, and what they come to."""

from typing import Any, Self

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from models.architecture import Architecture
from models.compression import compressor
from models.compression.compressor import Compressor, Context, Network
from models.importance import KINDS, Kind
from trainables.optimization import Optimization
from trainables.parsing import ParseError, parse, suggestion

_RATIO = "_ratio"
_LAST = ("embedding", "low_rank")  # what is factored is not sliced any more
_ONCE = ("vocabulary",)  # the data are read anew for it


class CompressConfig(Optimization):
    """What it begins as, what it loses, and how it recovers."""

    task: dict[str, Any] = Field(description="name of a task, and that task's own settings")
    seed: int = Field(default=0, ge=0, lt=2**63, description="decides the order of samples and the dropout")
    start: str = Field(
        description="folder of an artifact, a trial's checkpoint or a pretrained model, or its Hugging Face name"
    )
    ratios: dict[str, float] = Field(
        default={}, description="by compressor the share that is removed; in a space by name, such as units_ratio"
    )
    settings: dict[str, dict[str, Any]] = Field(
        default={}, description="by compressor its other settings, such as units: {round_to: 32}"
    )
    importance: Kind = Field(
        default="taylor",
        description="what the least important heads, units and dimensions are told by; layers go evenly spaced",
    )
    examples: int = Field(default=512, ge=1, description="training examples that tell what is important")
    rounds: int = Field(default=1, ge=1, description="in how many rounds parts are removed, the first before training")
    prune_until: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of the epochs that the rounds are spread over; each falls on a report",
    )
    teacher: str | None = Field(
        default=None,
        description="folder of an artifact or of a trial's checkpoint that it learns from; null: labels alone",
    )
    temperature: float = Field(default=2.0, gt=0, description="of the teacher's answers (Hinton et al. 2015)")
    soft_weight: float = Field(
        default=0.8, ge=0, le=1, description="of the teacher's answers; the labels have the rest"
    )

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, values: Any) -> Any:
        """`units_ratio: 0.5` is `ratios: {units: 0.5}`: what a space draws is flat."""
        if not isinstance(values, dict):
            return values
        known = {f"{name}{_RATIO}" for name in compressor.find()}
        flat = {name.removesuffix(_RATIO): value for name, value in values.items() if name in known}
        rest = {name: value for name, value in values.items() if name not in known}
        return {**rest, "ratios": {**rest.get("ratios", {}), **flat}} if flat else rest

    @model_validator(mode="after")
    def _known_compressors(self) -> Self:
        faults = [
            f"{field} has no {name!r}{suggestion(name, compressor.find())}"
            for field in ("ratios", "settings")
            for name in getattr(self, field)
            if name not in compressor.find()
        ]
        for name in [] if faults else [*self.ratios, *self.settings]:
            try:
                _compressor(self, name, self.ratios.get(name, 0.0))
            except ParseError as error:
                faults += [fault for fault in error.faults if fault not in faults]
        if faults:
            raise ValueError("\n".join(faults))
        return self


def sizes(config: CompressConfig, network: Network) -> dict[str, float]:
    """By compressor what its ratio is a share of."""
    return {name: _compressor(config, name, 0.0).size(network) for name in _names(config)}


def step(config: CompressConfig, name: str, number: int, network: Network, began: dict[str, float]) -> Compressor:
    """A compressor for round `number` (from 0), which takes from the network as it is what then has to be gone.

    began: the sizes at the start. What rounding left in one round goes in the next.
    """
    rounds = 1 if name in _ONCE else config.rounds
    left = 1 - config.ratios.get(name, 0.0) * min(1.0, (number + 1) / rounds)
    now = _compressor(config, name, 0.0).size(network) / began[name]
    return _compressor(config, name, max(0.0, 1 - left / now))


def shape(config: CompressConfig, network: Network) -> Architecture:
    """What will be left in the end, by sizes alone: where layers are compared with each other, as if all lost alike."""
    settings = {name: _plain(values) for name, values in config.settings.items()}
    at_once = config.model_copy(update={"rounds": 1, "importance": "magnitude", "settings": settings})
    began = sizes(at_once, network)
    context = Context(token_counts=lambda: np.zeros(network.signature["vocab_size"], np.int64))
    for name in began:
        if name not in _ONCE or network.tokenizer is not None:  # no part of an architecture, but it may keep too few
            network = step(at_once, name, 0, network, began).compress(network, context)
    return network.architecture


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Without what needs examples."""
    kept = {name: value for name, value in settings.items() if name != "importance"}
    return kept | ({"spread": "layer"} if "spread" in kept else {})


def _names(config: CompressConfig) -> list[str]:
    return sorted({*config.ratios, *config.settings}, key=lambda name: (name in _LAST, name not in _ONCE, name))


def _compressor(config: CompressConfig, name: str, ratio: float) -> Compressor:
    kind = compressor.load(name)
    field = kind.Config.model_fields.get("importance")
    values: dict[str, Any] = {"ratio": ratio}
    if field is not None and field.default in KINDS and _allows(field.annotation, config.importance):
        values["importance"] = config.importance
    return kind(parse(kind.Config, values | config.settings.get(name, {}), name))


def _allows(annotation: Any, value: str) -> bool:
    try:
        TypeAdapter(annotation).validate_python(value)
    except ValidationError:
        return False
    return True
