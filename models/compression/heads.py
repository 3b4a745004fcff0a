"""Fewer attention heads (Michel et al. 2019, arXiv:1905.10650)."""

import numpy as np

from models.compression.compressor import Context, Network, Ranked, chosen
from models.slicing import Keep


class Heads:
    """Takes the least important heads out of every layer; one at least is left in each."""

    Config = Ranked

    def __init__(self, config: Ranked) -> None:
        self.config = config

    def size(self, network: Network) -> float:
        """Mean number of heads in a layer."""
        return float(np.mean([layer.n_heads for layer in network.architecture.layers]))

    def compress(self, network: Network, context: Context) -> Network:
        """See `models.compression.compressor.Compressor`."""
        if self.config.nothing:
            return network
        scores = context.scores(network, self.config.importance).heads
        return network.sliced(Keep(heads=chosen(scores, self.config, "heads")))


COMPRESSOR = Heads
