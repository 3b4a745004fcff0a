"""A Transformer layer: attention and feed-forward, each with a residual sum and a norm."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from models.architecture import Activation, Architecture, Layer, Product
from models.attention import Attention
from models.dropout import dropout
from models.linear import linear

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "geglu": F.gelu,
    "swiglu": F.silu,
}


def make_norm(architecture: Architecture) -> nn.Module:
    """A fresh norm of the architecture's kind over the last axis."""
    kind = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}[architecture.norm]
    norm: nn.Module = kind(architecture.d_model, eps=architecture.norm_eps)
    return norm


class FeedForward(nn.Module):
    """Two products with an activation between; a gated kind (arXiv:2002.05202) multiplies by a third.

    The output rows of `inner` are the activated half, then the gated half.
    """

    def __init__(
        self, *, d_model: int, d_ff: int, activation: Activation, gated: bool, rank: int | None = None
    ) -> None:
        super().__init__()
        self.gated, self.activate = gated, ACTIVATIONS[activation]
        self.inner = linear(Product(d_model, d_ff * (2 if gated else 1), rank))
        self.outer = linear(Product(d_ff, d_model, rank))

    def forward(self, x_BLD: Tensor) -> Tensor:
        h_BLF = self.inner(x_BLD)
        if self.gated:
            active_BLF, gate_BLF = h_BLF.chunk(2, dim=-1)
            h_BLF = self.activate(active_BLF) * gate_BLF
        else:
            h_BLF = self.activate(h_BLF)
        y_BLD: Tensor = self.outer(h_BLF)
        return y_BLD


class Block(nn.Module):
    """One layer, with the norm before each branch (pre) or after each sum (post).

    Post-norm: Vaswani et al. 2017; pre-norm: Xiong et al. 2020, arXiv:2002.04745.
    """

    def __init__(self, architecture: Architecture, layer: Layer, n_positions: int) -> None:
        super().__init__()
        self.pre, self.dropout = architecture.norm_placement == "pre", architecture.dropout
        self.attention = Attention(
            d_model=architecture.d_model,
            n_heads=layer.n_heads,
            d_head=layer.d_head,
            positions=architecture.positions,
            n_positions=n_positions,
            rank=layer.attention_rank,
        )
        self.attention_norm = make_norm(architecture)
        self.feed_forward = FeedForward(
            d_model=architecture.d_model,
            d_ff=layer.d_ff,
            activation=architecture.activation,
            gated=architecture.gated,
            rank=layer.feed_forward_rank,
        )
        self.feed_forward_norm = make_norm(architecture)

    def forward(self, x_BLD: Tensor, mask_B11L: Tensor | None) -> Tensor:
        if self.pre:
            x_BLD = x_BLD + self._drop(self.attention(self.attention_norm(x_BLD), mask_B11L))
            return x_BLD + self._drop(self.feed_forward(self.feed_forward_norm(x_BLD)))
        x_BLD = self.attention_norm(x_BLD + self._drop(self.attention(x_BLD, mask_B11L)))
        y_BLD: Tensor = self.feed_forward_norm(x_BLD + self._drop(self.feed_forward(x_BLD)))
        return y_BLD

    def _drop(self, x_BLD: Tensor) -> Tensor:
        return dropout(x_BLD, self.dropout) if self.training and self.dropout else x_BLD
