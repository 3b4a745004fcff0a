"""What turns an input into vectors at positions: token embeddings for text, patches for images."""

import torch
from torch import Tensor, nn

from models.architecture import Architecture, PixelSignature, TokenSignature


class TokenFrontEnd(nn.Module):
    """One vector a token, from a table that may be factored through a low rank."""

    def __init__(self, architecture: Architecture, signature: TokenSignature) -> None:
        super().__init__()
        rank, d_model = architecture.embedding_rank, architecture.d_model
        self.embedding = nn.Embedding(signature.vocab_size, rank or d_model)
        self.expand = nn.Linear(rank, d_model, bias=False) if rank else None

    def forward(self, tokens_BL: Tensor) -> Tensor:
        x_BLD: Tensor = self.embedding(tokens_BL)
        if self.expand is not None:
            x_BLD = self.expand(x_BLD)
        return x_BLD


class PixelFrontEnd(nn.Module):
    """One vector a square patch, row by row (Dosovitskiy et al. 2020, arXiv:2010.11929).

    For `cls` pooling a trained vector stands before the patches.
    """

    def __init__(self, architecture: Architecture, signature: PixelSignature) -> None:
        super().__init__()
        assert architecture.patch is not None
        self.patch, d_model = architecture.patch, architecture.d_model
        self.project = nn.Linear(self.patch**2 * signature.channels, d_model)
        self.cls = nn.Parameter(torch.empty(d_model)) if architecture.pooling == "cls" else None

    def forward(self, pixels_BHWC: Tensor) -> Tensor:
        x_BLD: Tensor = self.project(_patches(pixels_BHWC, self.patch))
        if self.cls is not None:
            cls_B1D = self.cls.expand(x_BLD.shape[0], 1, -1)
            x_BLD = torch.cat((cls_B1D.type_as(x_BLD), x_BLD), dim=1)
        return x_BLD


def _patches(pixels_BHWC: Tensor, patch: int) -> Tensor:
    height, width, channels = pixels_BHWC.shape[1:]
    grid = pixels_BHWC.reshape(-1, height // patch, patch, width // patch, patch, channels)
    return grid.transpose(2, 3).flatten(3).flatten(1, 2)
