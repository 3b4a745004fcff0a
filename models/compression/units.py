"""Fewer units in the feed-forward (Kim and Awadalla 2020, arXiv:2010.13382)."""

import numpy as np
from pydantic import Field

from models.architecture import Size
from models.compression.compressor import Context, Network, Ranked, chosen
from models.slicing import Keep


class UnitsConfig(Ranked):
    """As for heads, in multiples that suit the processor."""

    round_to: Size = Field(8, description="what a ratio keeps is rounded up to a multiple of this")


class Units:
    """Takes the least important feed-forward units out of every layer."""

    Config = UnitsConfig

    def __init__(self, config: UnitsConfig) -> None:
        self.config = config

    def size(self, network: Network) -> float:
        """Mean number of units in a layer."""
        return float(np.mean([layer.d_ff for layer in network.architecture.layers]))

    def compress(self, network: Network, context: Context) -> Network:
        """See `models.compression.compressor.Compressor`."""
        if self.config.nothing:
            return network
        scores = context.scores(network, self.config.importance).units
        return network.sliced(Keep(units=chosen(scores, self.config, "units")))


COMPRESSOR = Units
