"""Matrices of a layer through a lower rank, by truncated singular value decomposition.

Plain, or with the inputs whitened first, which leaves the least error in what the product gives for real inputs
(SVD-LLM, Wang et al. 2024, arXiv:2403.07378).
"""

from contextlib import ExitStack
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from models.architecture import Architecture, Layer, Product, products
from models.compression.compressor import Context, Network, Share
from models.slicing import assembled

Part = Literal["attention", "feed_forward"]
_MODULES: dict[Part, tuple[str, str]] = {"attention": ("qkv", "out"), "feed_forward": ("inner", "outer")}


class LowRankConfig(Share):
    """How much of the layers' weights goes; keep is the rank."""

    of: Part | Literal["both"] = Field("both", description="which products: around attention, feed-forward, or both")
    importance: Literal["magnitude", "activation"] = Field(
        "magnitude", description="magnitude: least error in the weights; activation: in what they give for examples"
    )


class LowRankProducts:
    """Factors the products of every layer; a ratio is the share of their weights that goes, layer by layer."""

    Config = LowRankConfig

    def __init__(self, config: LowRankConfig) -> None:
        self.config = config

    def size(self, network: Network) -> float:
        """Weights of the products, as a share of those that they would have unfactored."""
        return self._weights(network.architecture) / self._weights(network.architecture, whole=True)

    def compress(self, network: Network, context: Context) -> Network:
        """See `models.compression.compressor.Compressor`."""
        if self.config.nothing:
            return network
        ranks = {f"{part}_rank": self._ranks(network.architecture, part) for part in self._chosen()}
        architecture = Architecture(**{**network.architecture.model_dump(), **ranks})
        if self._weights(architecture) == self._weights(network.architecture):
            return network
        moments = _moments(network, context) if self.config.importance == "activation" else {}
        tensors = _factored(network, architecture, moments)
        return network._replace(
            model=assembled(architecture, network.signature, tensors, network.model), architecture=architecture
        )

    def _chosen(self) -> list[Part]:
        return ["attention", "feed_forward"] if self.config.of == "both" else [self.config.of]

    def _weights(self, architecture: Architecture, whole: bool = False) -> int:
        return sum(
            product.weights
            for layer in architecture.layers
            for part in self._chosen()
            for product in _of_part(architecture, layer, part, None if whole else getattr(layer, f"{part}_rank"))
        )

    def _ranks(self, architecture: Architecture, part: Part) -> int | tuple[int, ...]:
        ranks = tuple(self._rank(architecture, layer, part) for layer in range(architecture.n_layers))
        return ranks[0] if len(set(ranks)) == 1 else ranks

    def _rank(self, architecture: Architecture, layer: int, part: Part) -> int:
        sizes = architecture.layers[layer]
        whole = _of_part(architecture, sizes, part, None)
        most = min(getattr(sizes, f"{part}_rank") or architecture.d_model, *(min(p.n_in, p.n_out) for p in whole))
        if self.config.keep is not None:
            return self.config.kept(most, f"rank of {part} in layer {layer}")
        now = _of_part(architecture, sizes, part, getattr(sizes, f"{part}_rank"))
        allowed = (1 - self.config.ratio) * sum(product.weights for product in now)
        fitting = [rank for rank in range(most, 0, -1) if rank % self.config.round_to == 0 or rank == 1]
        for rank in fitting:
            if sum(product.weights for product in _of_part(architecture, sizes, part, rank)) <= allowed:
                return rank
        raise ValueError(
            f"low_rank: ratio is {self.config.ratio}, which rank 1 in {part} of layer {layer} does not reach; lower it"
        )


def _of_part(architecture: Architecture, layer: Layer, part: Part, rank: int | None) -> list[Product]:
    """The two products of a part if they had this rank."""
    ranked = layer._replace(attention_rank=rank, feed_forward_rank=rank)
    matrices = products(architecture.d_model, ranked, architecture.gated)
    return [getattr(matrices, name) for name in _MODULES[part]]


def _factored(network: Network, architecture: Architecture, moments: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the network, with those products replaced that have another rank in `architecture`."""
    tensors = network.model.state_dict()
    for layer, sizes in enumerate(architecture.layers):
        matrices = products(architecture.d_model, sizes, architecture.gated)
        for part, names in _MODULES.items():
            for name in names:
                product, module = getattr(matrices, name), f"blocks.{layer}.{part}.{name}"
                if product.factored:
                    _replace(tensors, module, product.rank, moments.get(module))
    return tensors


def _replace(tensors: dict[str, Tensor], module: str, rank: int, moment: Tensor | None) -> None:
    if f"{module}.down.weight" in tensors:
        if len(tensors[f"{module}.down.weight"]) == rank:
            return
        whole = tensors[f"{module}.up.weight"] @ tensors[f"{module}.down.weight"]
    else:
        whole = tensors.pop(f"{module}.weight")
        tensors[f"{module}.up.bias"] = tensors.pop(f"{module}.bias")
    up, down = truncated(whole, rank, moment)
    tensors[f"{module}.up.weight"], tensors[f"{module}.down.weight"] = up, down


def truncated(weight: Tensor, rank: int, moment: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Two matrices (outputs, rank) and (rank, inputs) whose product is nearest to weight (outputs, inputs).

    Nearest in the Frobenius norm; with the inputs' second moment (inputs, inputs) in the mean squared error of the
    outputs instead.
    """
    root = torch.eye(weight.shape[1], dtype=torch.float64, device=weight.device) if moment is None else _root(moment)
    u, s, v = torch.linalg.svd(weight.double() @ root, full_matrices=False)
    scale = s[:rank].sqrt()
    down = torch.linalg.solve_triangular(root, scale[:, None] * v[:rank], upper=False, left=False)
    return (u[:, :rank] * scale).to(weight.dtype), down.to(weight.dtype)


def _root(moment: Tensor) -> Tensor:
    """Its Cholesky factor; what never occurs gets a trace of weight, so that there is one."""
    trace = 1e-6 * moment.diagonal().mean().clamp(min=1e-12)
    root: Tensor = torch.linalg.cholesky(moment + trace * torch.eye(len(moment)).to(moment))
    return root


def _moments(network: Network, context: Context) -> dict[str, Tensor]:
    """Of the inputs of every product, by its module, the sum of their outer products over all kept positions."""
    if context.loss is None or not context.batches:
        raise ValueError("low_rank: importance is activation, which needs examples; give them, or choose magnitude")
    found: dict[str, Tensor] = {}
    model, training = network.model, network.model.training
    names = [f"{part}.{name}" for part, pair in _MODULES.items() for name in pair]
    inputs: dict[str, Any] = {}
    with ExitStack() as hooks, torch.no_grad():
        hooks.callback(model.register_forward_pre_hook(lambda *given: inputs.update(given[2]), with_kwargs=True).remove)
        for layer, block in enumerate(model.blocks):
            for name in names:
                hook = partial(_add, found, f"blocks.{layer}.{name}", inputs)
                hooks.callback(block.get_submodule(name).register_forward_pre_hook(hook).remove)
        model.eval()
        for batch in context.batches:
            context.loss(model, batch)
    model.train(training)
    return found


def _add(found: dict[str, Tensor], name: str, inputs: dict[str, Any], _: nn.Module, given: tuple[Tensor]) -> None:
    keep_BL = inputs.get("keep")
    x_NI = (given[0].flatten(0, -2) if keep_BL is None else given[0][keep_BL]).double()
    found[name] = found.get(name, 0) + x_NI.T @ x_NI


COMPRESSOR = LowRankProducts
