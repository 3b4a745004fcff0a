"""A matrix product with a bias, whole or through a lower rank."""

from torch import Tensor, nn

from models.architecture import Product


class LowRank(nn.Module):
    """Two thin products instead of a wide one, as a truncated singular value decomposition gives them.

    Sainath et al. 2013, "Low-rank matrix factorization for deep neural network training".
    """

    def __init__(self, n_in: int, n_out: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(n_in, rank, bias=False)
        self.up = nn.Linear(rank, n_out)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.up(self.down(x))
        return y


def linear(product: Product) -> nn.Linear | LowRank:
    """The module of a product, from `n_in` to `n_out` numbers along the last axis."""
    if product.rank is not None and product.factored:
        return LowRank(product.n_in, product.n_out, product.rank)
    return nn.Linear(product.n_in, product.n_out)
