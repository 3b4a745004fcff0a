"""Batches whose embeddings are mixtures of two examples (Liang et al. 2020, arXiv:2011.00593)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tasks.augmentation import mixture
from trainables.loop import Examples


@dataclass(frozen=True)
class Mixed:
    """A batch, some of whose examples are mixed: `share` (B,) of the example itself, the rest of its `partner` (B,).

    inputs: with keep True where either of the two has a position; `keep` (B, L) is the examples' own.
    """

    inputs: dict[str, Tensor]
    keep: Tensor | None
    partner: Tensor
    share: Tensor

    @property
    def alone(self) -> Tensor:
        """Which examples are not mixed, (B,)."""
        return self.share == 1

    @contextmanager
    def within(self, model: nn.Module) -> Iterator[None]:
        """While it lasts, the model mixes what leaves its front end."""
        handle = model.get_submodule("front_end").register_forward_hook(lambda _, inputs, x_BLD: self.mix(x_BLD))
        try:
            yield
        finally:
            handle.remove()

    def mix(self, x_BLD: Tensor) -> Tensor:
        """Padding adds nothing to a mixture."""
        share_B11 = self.share[:, None, None].type_as(x_BLD)
        own_BLD = x_BLD if self.keep is None else x_BLD.masked_fill(~self.keep[..., None], 0.0)
        mixed_BLD = share_B11 * own_BLD + (1 - share_B11) * own_BLD[self.partner]
        return torch.where(self.alone[:, None, None], x_BLD, mixed_BLD)


def mixed(examples: Examples, rate: float, *, seed: int, epoch: int) -> Mixed:
    """The batch with a share `rate` of its examples mixed."""
    partner, share = mixture(examples.rows, rate, seed=seed, epoch=epoch)
    device = examples.targets.device
    places, share_B = torch.from_numpy(partner).to(device), torch.from_numpy(share).to(device)
    inputs, keep_BL = dict(examples.inputs), examples.inputs.get("keep")
    if keep_BL is not None:
        inputs["keep"] = keep_BL | (keep_BL[places] & (share_B < 1)[:, None])
    return Mixed(inputs, keep_BL, places, share_B)
