"""The token embedding through a lower rank (Lan et al. 2019, arXiv:1909.11942), by principal components."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from models.architecture import Architecture
from models.compression.compressor import Context, Network, Share
from models.slicing import assembled


class EmbeddingConfig(Share):
    """How much of the embedding's weights goes; keep is the rank."""

    importance: Literal["magnitude", "activation"] = Field(
        "magnitude", description="magnitude: every token counts alike; activation: as often as it occurs"
    )


class Embedding:
    """Factors the table of tokens into one of lower rank and a projection."""

    Config = EmbeddingConfig

    def __init__(self, config: EmbeddingConfig) -> None:
        self.config = config

    def size(self, network: Network) -> float:
        """Its rank, as a share of the full one."""
        return (network.architecture.embedding_rank or network.architecture.d_model) / network.architecture.d_model

    def compress(self, network: Network, context: Context) -> Network:
        """See `models.compression.compressor.Compressor`."""
        if self.config.nothing:
            return network
        rank = self._rank(network)
        tensors = network.model.state_dict()
        table_VD = tensors["front_end.embedding.weight"]
        if network.architecture.embedding_rank is not None:
            table_VD = table_VD @ tensors["front_end.expand.weight"].T
        basis_DR = components(table_VD, rank, self._weights(network, context))
        tensors |= {"front_end.embedding.weight": table_VD @ basis_DR, "front_end.expand.weight": basis_DR}
        architecture = Architecture(**{**network.architecture.model_dump(), "embedding_rank": rank})
        return network._replace(
            model=assembled(architecture, network.signature, tensors, network.model), architecture=architecture
        )

    def _rank(self, network: Network) -> int:
        if network.signature["input"] != "tokens":
            raise ValueError("embedding: the network reads images, must read tokens to have one; leave it out")
        d_model, vocab_size = network.architecture.d_model, network.signature["vocab_size"]
        most = (network.architecture.embedding_rank or d_model) - 1
        if self.config.keep is not None:
            return self.config.kept(most, "rank of the embedding")
        allowed = (1 - self.config.ratio) * (most + 1) * vocab_size
        rank = min(most, int(allowed / (vocab_size + d_model)) // self.config.round_to * self.config.round_to)
        if rank < 1:
            raise ValueError(f"embedding: ratio is {self.config.ratio}, which leaves rank {rank}; lower it")
        return rank

    def _weights(self, network: Network, context: Context) -> Tensor | None:
        if self.config.importance == "magnitude":
            return None
        if context.token_counts is None:
            raise ValueError("embedding: importance is activation, which needs counts of tokens; choose magnitude")
        return torch.from_numpy(context.token_counts())


def components(table_VD: Tensor, rank: int, counts_V: Tensor | None) -> Tensor:
    """The basis_DR on which the rows of the table, each counted so many times, lose the least squared length."""
    rows_VD = table_VD.double()
    weighted_VD = rows_VD if counts_V is None else rows_VD * counts_V.to(rows_VD)[:, None]
    basis_DD: Tensor = torch.linalg.eigh(rows_VD.T @ weighted_VD).eigenvectors
    return basis_DD[:, -rank:].flip(1).to(table_VD.dtype).contiguous()


COMPRESSOR = Embedding
