"""How weights are changed: the typed settings of training, its schedule, its precision. Searched, so flat."""

import math
from functools import cache
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

OptimizerName = Literal["adamw", "sgd"]
Schedule = Literal["linear", "cosine", "constant"]
Precision = Literal["auto", "fp32", "bf16"]


class Optimization(BaseModel):
    """Settings of the one training loop."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    optimizer: OptimizerName = Field(default="adamw", description="AdamW, or SGD with Nesterov momentum 0.9")
    learning_rate: float = Field(default=1e-3, gt=0, description="highest rate, reached after the warm-up")
    batch_size: int = Field(default=32, ge=1, description="examples a step")
    weight_decay: float = Field(
        default=0.01, ge=0, description="decoupled decay of matrices; embeddings, norms, biases: none"
    )
    beta2: float = Field(default=0.999, gt=0, lt=1, description="decay of AdamW's second moment")
    warmup: float = Field(default=0.1, ge=0, lt=1, description="share of all steps during which the rate rises from 0")
    schedule: Schedule = Field(
        default="linear", description="what the rate does after the warm-up; linear and cosine end at 0"
    )
    clip_norm: float | None = Field(default=1.0, gt=0, description="largest norm of the gradient; null: not clipped")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="share of the target spread over all classes")
    precision: Precision = Field(
        default="auto", description="auto: bf16 autocast where the hardware computes in it, else fp32"
    )
    epochs: float = Field(default=3.0, gt=0, description="whole budget, which the schedule spans")
    report_every: float = Field(default=1.0, gt=0, description="epochs from one report to the next")


def rate_scale(optimization: Optimization, progress: float) -> float:
    """The learning rate's factor when a share `progress` of all steps is done: warm-up, then the schedule."""
    if progress < optimization.warmup:
        return progress / optimization.warmup
    rest = min(1.0, (progress - optimization.warmup) / (1 - optimization.warmup))
    match optimization.schedule:
        case "linear":
            return 1 - rest
        case "cosine":
            return (1 + math.cos(math.pi * rest)) / 2
        case _:
            return 1.0


def autocast(precision: str, device: str) -> torch.autocast:
    """The context in which matrix products run in bfloat16, or in which nothing changes."""
    kind = torch.device(device).type
    enabled = precision == "bf16" or (precision == "auto" and computes_in_bf16(kind))
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=enabled)


@cache
def computes_in_bf16(kind: str) -> bool:
    """Whether the hardware ("cpu", "cuda") multiplies bfloat16 natively; emulated it is slower than float32."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
