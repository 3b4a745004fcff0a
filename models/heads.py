"""What turns vectors at positions into the answer."""

from torch import Tensor, nn

from models.architecture import Pooling
from models.dropout import dropout


def pool(x_BLD: Tensor, keep_BL: Tensor | None, pooling: Pooling) -> Tensor:
    """One vector an example: of the first position, or the mean or maximum of those that are kept (None: all)."""
    if pooling == "cls":
        return x_BLD[:, 0]
    if pooling == "max":
        return (x_BLD if keep_BL is None else x_BLD.masked_fill(~keep_BL[..., None], float("-inf"))).amax(1)
    if keep_BL is None:
        return x_BLD.mean(1)
    weight_BL1 = keep_BL[..., None].type_as(x_BLD)
    return (x_BLD * weight_BL1).sum(1) / weight_BL1.sum(1)


class ClassificationHead(nn.Module):
    """Pool the positions, then one product: logits_BC."""

    def __init__(self, *, d_model: int, n_classes: int, pooling: Pooling, dropout: float) -> None:
        super().__init__()
        self.pooling, self.dropout = pooling, dropout
        self.linear = nn.Linear(d_model, n_classes)

    def forward(self, x_BLD: Tensor, keep_BL: Tensor | None) -> Tensor:
        x_BD = pool(x_BLD, keep_BL, self.pooling)
        if self.training and self.dropout:
            x_BD = dropout(x_BD, self.dropout)
        logits_BC: Tensor = self.linear(x_BD)
        return logits_BC
