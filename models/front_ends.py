"""What turns an input into vectors at positions: token embeddings for text, patches for images."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.architecture import Architecture, PixelSignature, TokenSignature, n_positions
from models.blocks import make_norm
from models.positions import LearnedPositions, SinusoidalPositions


class Tail(nn.Module):
    """What both front ends end with: positions added, an optional norm, dropout."""

    def __init__(self, architecture: Architecture, n_positions: int) -> None:
        super().__init__()
        self.dropout = architecture.dropout
        self.positions = _added_positions(architecture, n_positions)
        self.norm = make_norm(architecture) if architecture.embedding_norm else None

    def forward(self, x_BLD: Tensor) -> Tensor:
        if self.positions is not None:
            x_BLD = self.positions(x_BLD)
        if self.norm is not None:
            x_BLD = self.norm(x_BLD)
        return F.dropout(x_BLD, self.dropout) if self.training and self.dropout else x_BLD


class TokenFrontEnd(nn.Module):
    """One vector a token, from a table that may be factored through a low rank."""

    def __init__(self, architecture: Architecture, signature: TokenSignature) -> None:
        super().__init__()
        rank, d_model = architecture.embedding_rank, architecture.d_model
        self.embedding = nn.Embedding(signature.vocab_size, rank or d_model)
        self.expand = nn.Linear(rank, d_model, bias=False) if rank else None
        self.tail = Tail(architecture, n_positions(architecture, signature))

    def forward(self, tokens_BL: Tensor) -> Tensor:
        x_BLD = self.embedding(tokens_BL)
        if self.expand is not None:
            x_BLD = self.expand(x_BLD)
        y_BLD: Tensor = self.tail(x_BLD)
        return y_BLD


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
        self.tail = Tail(architecture, n_positions(architecture, signature))

    def forward(self, pixels_BHWC: Tensor) -> Tensor:
        x_BLD = self.project(_patches(pixels_BHWC, self.patch))
        if self.cls is not None:
            cls_B1D = self.cls.expand(x_BLD.shape[0], 1, -1)
            x_BLD = torch.cat((cls_B1D.type_as(x_BLD), x_BLD), dim=1)
        y_BLD: Tensor = self.tail(x_BLD)
        return y_BLD


def _patches(pixels_BHWC: Tensor, patch: int) -> Tensor:
    height, width, channels = pixels_BHWC.shape[1:]
    grid = pixels_BHWC.reshape(-1, height // patch, patch, width // patch, patch, channels)
    return grid.transpose(2, 3).flatten(3).flatten(1, 2)


def _added_positions(architecture: Architecture, n_positions: int) -> nn.Module | None:
    match architecture.positions:
        case "learned":
            return LearnedPositions(n_positions, architecture.d_model)
        case "sinusoidal":
            return SinusoidalPositions(n_positions, architecture.d_model)
        case _:
            return None
