"""A narrower residual stream (Minitron, Muralidharan et al. 2024, arXiv:2407.14679)."""

from pydantic import Field

from models.architecture import Size
from models.compression.compressor import Context, Network, Share, best
from models.importance import Kind
from models.slicing import Keep


class HiddenConfig(Share):
    """How much of the width goes, and by which importance."""

    round_to: Size = Field(8, description="what a ratio keeps is rounded up to a multiple of this")
    importance: Kind = Field("taylor", description="what tells the least important ones (see models.importance)")


class Hidden:
    """Takes the least important hidden dimensions out of embeddings, norms, products and head alike."""

    Config = HiddenConfig

    def __init__(self, config: HiddenConfig) -> None:
        self.config = config

    def size(self, network: Network) -> float:
        """d_model."""
        return network.architecture.d_model

    def compress(self, network: Network, context: Context) -> Network:
        """See `models.compression.compressor.Compressor`."""
        if self.config.nothing:
            return network
        kept = self.config.kept(network.architecture.d_model, "hidden")
        return network.sliced(Keep(hidden=best(context.scores(network, self.config.importance).hidden, kept)))


COMPRESSOR = Hidden
