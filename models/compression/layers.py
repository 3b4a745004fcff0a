"""Fewer layers (Sajjad et al. 2020, arXiv:2004.03844)."""

from typing import Literal

from pydantic import Field

from models.compression.compressor import Context, Network, Share, best
from models.importance import Kind
from models.slicing import Keep, evenly_spaced


class LayersConfig(Share):
    """How many layers go, and which."""

    importance: Kind | Literal["spaced"] = Field(
        "spaced", description="spaced: what is kept is evenly spaced; else the least important go"
    )


class Layers:
    """Takes whole layers out."""

    Config = LayersConfig

    def __init__(self, config: LayersConfig) -> None:
        self.config = config

    def size(self, network: Network) -> float:
        """How many there are."""
        return network.architecture.n_layers

    def compress(self, network: Network, context: Context) -> Network:
        """See `models.compression.compressor.Compressor`."""
        there = network.architecture.n_layers
        kept = self.config.kept(there, "layers")
        if kept == there:
            return network
        if self.config.importance == "spaced":
            return network.sliced(Keep(layers=evenly_spaced(kept, there)))
        return network.sliced(Keep(layers=best(context.scores(network, self.config.importance).layers, kept)))


COMPRESSOR = Layers
