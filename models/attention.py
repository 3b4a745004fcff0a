"""Multi-head self-attention over all positions (Vaswani et al. 2017, arXiv:1706.03762)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.architecture import Positions, Product
from models.linear import linear
from models.positions import alibi_bias, alibi_slopes, rotary_tables, rotate


class Attention(nn.Module):
    """Softmax attention, all heads' queries, keys and values from one product.

    The output rows of `qkv` are ordered (query, key, value), then by head, then within a head.
    """

    slopes: Tensor
    cosines: Tensor
    sines: Tensor

    def __init__(
        self,
        *,
        d_model: int,
        n_heads: int,
        d_head: int,
        positions: Positions,
        n_positions: int,
        rank: int | None = None,
    ) -> None:
        super().__init__()
        self.n_heads, self.d_head, self.positions = n_heads, d_head, positions
        self.qkv = linear(Product(d_model, 3 * n_heads * d_head, rank))
        self.out = linear(Product(n_heads * d_head, d_model, rank))
        if positions == "rotary":
            cos_LK, sin_LK = rotary_tables(n_positions, d_head)
            self.register_buffer("cosines", cos_LK, persistent=False)
            self.register_buffer("sines", sin_LK, persistent=False)
        if positions == "alibi":
            self.register_buffer("slopes", alibi_slopes(n_heads))  # kept: a slice has some heads of a larger network

    def forward(self, x_BLD: Tensor, mask_B11L: Tensor | None) -> Tensor:
        """Attend from every position to those where the mask is True (None: to all)."""
        batch, length, _ = x_BLD.shape
        qkv_BLTHK = self.qkv(x_BLD).view(batch, length, 3, self.n_heads, self.d_head)
        q_BHLK, k_BHLK, v_BHLK = qkv_BLTHK.permute(2, 0, 3, 1, 4).unbind(0)
        if self.positions == "rotary":
            q_BHLK, k_BHLK = self._turn(q_BHLK), self._turn(k_BHLK)
        mask = mask_B11L if self.positions != "alibi" else self._lean(q_BHLK, mask_B11L)
        attend = _attend_plainly if _is_small(q_BHLK) else F.scaled_dot_product_attention
        y_BHLK = attend(q_BHLK, k_BHLK, v_BHLK, mask)
        y_BLD: Tensor = self.out(y_BHLK.transpose(1, 2).flatten(2))
        return y_BLD

    def _turn(self, x_BHLK: Tensor) -> Tensor:
        length = x_BHLK.shape[2]
        return rotate(x_BHLK, self.cosines[:length], self.sines[:length]).type_as(x_BHLK)

    def _lean(self, q_BHLK: Tensor, mask_B11L: Tensor | None) -> Tensor:
        bias = alibi_bias(self.slopes, q_BHLK.shape[2]).type_as(q_BHLK)[None]
        return bias if mask_B11L is None else bias.masked_fill(~mask_B11L, float("-inf"))


# Up to these lengths the plain form is faster than PyTorch's fused kernel on a CPU. Forward and backward of one
# layer of MiniLM, 32 examples of 16 positions, 2 threads of a Zen 4, torch 2.13: 1.4 ms instead of 14 ms in
# bfloat16, 1.7 instead of 3.1 in float32; equal near 300 and 50 positions.
_SMALL = {torch.bfloat16: 256, torch.float32: 32}


def _is_small(q_BHLK: Tensor) -> bool:
    # An exported graph has a dynamic length and must not branch on it.
    if q_BHLK.device.type != "cpu" or torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting():
        return False
    length: int = q_BHLK.shape[2]
    return length <= _SMALL.get(q_BHLK.dtype, 0)


def _attend_plainly(q_BHLK: Tensor, k_BHLK: Tensor, v_BHLK: Tensor, mask: Tensor | None) -> Tensor:
    """scaled_dot_product_attention in three steps; a bool mask is True where to attend, any other is added.

    Scale and mask go with the first product. The softmax is in float32: that of bfloat16 takes twice as long forward
    and up to five times backward at lengths that are no multiple of a vector.
    """
    batch, heads, length, _ = q_BHLK.shape
    q_NLK, k_NLK, v_NLK = (x.flatten(0, 1) for x in (q_BHLK, k_BHLK, v_BHLK))
    if mask is None:
        bias, kept = q_NLK.new_zeros(1), 0
    else:
        bias, kept = _added(mask, q_BHLK).expand(batch, heads, length, length).flatten(0, 1), 1
    scores_NLL = torch.baddbmm(bias, q_NLK, k_NLK.transpose(1, 2), beta=kept, alpha=q_NLK.shape[-1] ** -0.5)
    precise = torch.promote_types(scores_NLL.dtype, torch.float32)
    y_NLK = scores_NLL.to(precise).softmax(-1).type_as(v_NLK) @ v_NLK
    return y_NLK.view(q_BHLK.shape)


def _added(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(~mask, float("-inf"))
