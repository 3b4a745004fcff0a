"""What a student is compared with its teacher by. The teacher's side never receives a gradient.

A feature is what a model computes in one layer, at every position: "hidden.3", the states that leave the third layer
(B, L, d_model), with "hidden.0" what enters the first; or "qkv.3", the third layer's queries, keys and values
(B, L, 3 * n_heads * d_head), as they come from their product, before rotary or ALiBi turn or lean them.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle


@contextmanager
def observed(model: nn.Module, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """The features `names` of what an encoder of ours computes inside, with their gradients."""
    seen: dict[str, Tensor] = {}
    handles = [_watch(model, name, seen) for name in names]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _watch(model: nn.Module, name: str, seen: dict[str, Tensor]) -> RemovableHandle:
    kind, layer = name.split(".")
    if int(layer) == 0:
        return model.get_submodule("blocks.0").register_forward_pre_hook(
            lambda _, inputs: seen.update({name: inputs[0]})
        )
    place = f"blocks.{int(layer) - 1}" + (".attention.qkv" if kind == "qkv" else "")
    return model.get_submodule(place).register_forward_hook(lambda _, inputs, output: seen.update({name: output}))


def soft_targets(student_BC: Tensor, teacher_BC: Tensor, temperature: float) -> Tensor:
    """T² times the divergence of the student's answers from the teacher's, of each example (B,).

    Hinton et al. 2015, arXiv:1503.02531, whose cross-entropy differs by the teacher's entropy: this is 0 at its best.
    """
    student, teacher = (F.log_softmax(_precise(x) / temperature, dim=-1) for x in (student_BC, teacher_BC.detach()))
    return temperature**2 * F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)


def hidden(student_BLD: Tensor, teacher_BLD: Tensor, keep_BL: Tensor) -> Tensor:
    """Mean square difference at the positions that are kept; both of the teacher's width."""
    difference_BL = (_precise(student_BLD) - _precise(teacher_BLD.detach())).square().mean(-1)
    return _mean(difference_BL, keep_BL)


def attention(student_BLE: Tensor, teacher_BLE: Tensor, keep_BL: Tensor, n_heads: int) -> Tensor:
    """Mean square difference of the attention scores, before their softmax, of pairs of kept positions."""
    own, theirs = _heads(student_BLE, n_heads), _heads(teacher_BLE.detach(), n_heads)
    student_BHLL, teacher_BHLL = _scores(own[0], own[1]), _scores(theirs[0], theirs[1])
    difference_BLL = (student_BHLL - teacher_BHLL).square().mean(1)
    return _mean(difference_BLL, keep_BL[:, :, None] & keep_BL[:, None, :])


def relation(student_BLE: Tensor, teacher_BLE: Tensor, keep_BL: Tensor, n_heads: int) -> Tensor:
    """How far the student's relations are from the teacher's: of query to query, key to key, value to value.

    All heads are joined and split anew into `n_heads`; a relation is a softmax over kept positions. The divergence
    is a mean over heads and kept positions, summed over the three.
    """
    apart = ~keep_BL[:, None, None, :]
    own, theirs = _heads(student_BLE, n_heads), _heads(teacher_BLE.detach(), n_heads)
    return torch.stack([_divergence(own[i], theirs[i], apart, keep_BL) for i in range(3)]).sum()


def _divergence(student_BHLK: Tensor, teacher_BHLK: Tensor, apart_B11L: Tensor, keep_BL: Tensor) -> Tensor:
    # Not -inf: a difference of two infinities would be NaN, and its gradient, too.
    scores = [_scores(x, x) for x in (student_BHLK, teacher_BHLK)]
    low = torch.finfo(scores[0].dtype).min
    student, teacher = (F.log_softmax(score.masked_fill(apart_B11L, low), dim=-1) for score in scores)
    divergence_BHL = F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)
    return _mean(divergence_BHL.mean(1), keep_BL)


def _heads(qkv_BLE: Tensor, n_heads: int) -> Tensor:
    """Queries, keys and values by head, (3, B, n_heads, L, width of a head)."""
    batch, length, _ = qkv_BLE.shape
    return _precise(qkv_BLE).reshape(batch, length, 3, n_heads, -1).permute(2, 0, 3, 1, 4)


def _scores(one_BHLK: Tensor, other_BHLK: Tensor) -> Tensor:
    """Products of each position with each, scaled, (B, heads, L, L)."""
    scale: float = one_BHLK.shape[-1] ** -0.5
    return _precise(one_BHLK @ other_BHLK.transpose(-1, -2)) * scale


def _mean(values: Tensor, keep: Tensor) -> Tensor:
    """Of those that are kept; 0 of none."""
    return values.masked_fill(~keep, 0.0).sum() / keep.sum().clamp(min=1)


def _precise(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
