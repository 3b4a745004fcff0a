"""What changes the weights after each batch: fused AdamW or SGD, and AdamW by rows for embedding tables.

AdamW: Loshchilov and Hutter 2019, arXiv:1711.05101.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables.optimization import Optimization

MOMENTUM = 0.9  # beta1 of AdamW, and the momentum of SGD
EPS = 1e-8
_NEGLIGIBLE = 1e-9  # what is left of a row's pending change when it is no longer followed
_LARGE = 1 << 20  # numbers in a table from which on it is worth it (4 MB, as much as a cache holds)
_SLOWEST = 0.99  # by rows only where a pending change fades at least as fast from step to step


class Optimizer:
    """Clips the gradients of a model's trained parameters, updates these, and drops the gradients.

    Matrices decay. Biases and norms do not, as usual, and neither do embeddings: a rare token's vector would shrink
    at every step and grow only at those few that contain it. On a CPU AdamW treats embedding tables by rows.
    """

    def __init__(self, model: nn.Module, optimization: Optimization) -> None:
        self.model, self.clip_norm = model, optimization.clip_norm
        self.tables = [RowAdamW(table, optimization.beta2) for table in _by_rows(model, optimization)]
        self.dense = _dense(model, optimization, {id(table.weight) for table in self.tables})

    def step(self, rate: float) -> None:
        """Update with the learning rate `rate`."""
        gradients = [table.gather() for table in self.tables] + _gradients(self.dense)
        excess = self._excess([gradient for gradient in gradients if gradient is not None])
        vars(self.dense)["grad_scale"] = (
            excess  # fused optimizers divide by it: no pass over the gradients for clipping
        )
        for group in self.dense.param_groups:
            group["lr"] = rate
        self.dense.step()
        for table in self.tables:
            table.step(rate, excess)
        self.model.zero_grad()

    def settle(self) -> None:
        """Bring every weight up to date: to be called before weights are read other than by the model's forward."""
        for table in self.tables:
            table.settle()

    def state(self) -> dict[str, Tensor]:
        """Its tensors, as "<parameter>/<name>"; settles. The same whether a table was treated by rows or not."""
        self.settle()
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.model.named_parameters()}
        entries: dict[Tensor, Mapping[str, Any]] = dict(self.dense.state)
        entries |= {table.weight: table.state() for table in self.tables if table.count}
        return {
            f"{names[parameter]}/{key}": value
            for parameter, tensors in entries.items()
            for key, value in tensors.items()
            if isinstance(value, Tensor)
        }

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from the tensors of `state`; those of parameters that are no longer there are left out."""
        parameters = dict(self.model.named_parameters())
        found: dict[str, dict[str, Tensor]] = {}
        for path, value in tensors.items():
            name, key = path.rsplit("/", 1)
            if name not in parameters:
                continue
            found.setdefault(name, {})[key] = value.to(parameters[name].device)
        tables = {id(table.weight): table for table in self.tables}
        for name, entries in found.items():
            table = tables.get(id(parameters[name]))
            if table is None:
                self.dense.state[parameters[name]] = dict(entries)
            else:
                table.load_state(entries)

    def _excess(self, gradients: list[Tensor]) -> Tensor | None:
        """By how much the norm of all gradients exceeds the largest one allowed, at least 1."""
        if self.clip_norm is None:
            return None
        return (nn.utils.get_total_norm(gradients).float() / self.clip_norm).clamp(min=1.0)


class RowAdamW:
    """AdamW without decay for an embedding table of which a batch touches few rows.

    The dense update would read and write the whole table and its moments for every batch, most of it for rows
    without a gradient, and these follow a rule in closed form: with s the last step that touched a row, m and v its
    moments then, the steps j = s + 1 … t move it by

        Σ_j rate_j · β1^(j-s) m / (1 - β1^j) / (√(β2^(j-s) v / (1 - β2^j)) + ε),

    in which all but m / (√(v / (1 - β2^s)) + ε) is one number for all rows of the same s (`pending`). So a row is
    brought up to date when it is next looked up, by a hook on the table, and the numbers are those of the dense
    AdamW. (The one liberty: ε scales with √v as it fades, which matters only where gradients are as small as ε.)
    """

    def __init__(self, table: nn.Embedding, beta2: float) -> None:
        self.weight, self.beta2 = table.weight, beta2
        self.average, self.square = torch.zeros_like(table.weight), torch.zeros_like(table.weight)
        self.count, self.settled = 0, True
        self.found: tuple[Tensor, Tensor] | None = None  # rows with a gradient, and it
        self.last = torch.zeros(len(table.weight), dtype=torch.int64)  # the step that each row is up to date with
        self.pending = torch.zeros(1, dtype=torch.float64)  # by the step s that a row is up to date with
        self.fading = _fading(beta2)
        table.sparse = True
        table.register_forward_pre_hook(lambda _, inputs: self.catch_up(inputs[0]))

    def gather(self) -> Tensor | None:
        """The gradient of the rows that have one, each row once."""
        gradient = self.weight.grad
        if gradient is None:
            self.found = None
        elif gradient.is_sparse:
            gradient = gradient.coalesce()
            self.found = gradient.indices()[0], gradient.values()
        else:  # the table has a second use, such as the output of a language model
            self.found = torch.arange(len(gradient)), gradient
        return None if self.found is None else self.found[1]

    @torch.no_grad()
    def step(self, rate: float, excess: Tensor | None) -> None:
        """One step of AdamW on the gathered gradient, divided by `excess`."""
        if self.found is None:
            return
        self.count, self.settled = self.count + 1, False
        rows, gradient = self.found
        gradient = gradient if excess is None else gradient / excess
        average = self.average.index_select(0, rows).lerp_(gradient, 1 - MOMENTUM)
        square = self.square.index_select(0, rows).mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
        self.average.index_copy_(0, rows, average)
        self.square.index_copy_(0, rows, square)
        change = average.div_(square.sqrt_().div_(math.sqrt(1 - self.beta2**self.count)).add_(EPS))
        self.weight.index_add_(0, rows, change, alpha=-rate / (1 - MOMENTUM**self.count))
        self.last[rows] = self.count
        self._follow(rate)

    @torch.no_grad()
    def catch_up(self, tokens: Tensor) -> None:
        """Bring the rows of some tokens up to date."""
        if self.settled:
            return
        rows = torch.unique(tokens)
        last = self.last[rows]
        average, square = self.average.index_select(0, rows), self.square.index_select(0, rows)
        root = (1 - self.beta2 ** last.clamp(min=1)).sqrt_()[:, None].to(average.dtype)
        pending = self.pending[last][:, None].to(average.dtype)
        self.weight.index_add_(0, rows, pending * average / (square.sqrt().div_(root).add_(EPS)), alpha=-1)
        gap = (self.count - last)[:, None]
        self.average.index_copy_(0, rows, average.mul_(MOMENTUM**gap))
        self.square.index_copy_(0, rows, square.mul_(self.beta2**gap))
        self.last[rows] = self.count

    def settle(self) -> None:
        """Bring all rows up to date."""
        self.catch_up(torch.arange(len(self.weight)))
        self.settled = True

    def state(self) -> dict[str, Tensor]:
        """As torch's AdamW names it."""
        return {"step": torch.tensor(float(self.count)), "exp_avg": self.average, "exp_avg_sq": self.square}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from the tensors of `state`."""
        self.average, self.square = tensors["exp_avg"], tensors["exp_avg_sq"]
        self.count, self.settled = int(tensors["step"]), True
        self.last.fill_(self.count)
        self.pending = torch.zeros(self.count + 1, dtype=torch.float64)

    def _follow(self, rate: float) -> None:
        """Add this step's part to what rows of earlier steps are behind by."""
        t = self.count
        first = max(0, t - len(self.fading))
        steps = torch.arange(first, t, dtype=torch.float64)
        root = ((1 - self.beta2**t) / (1 - self.beta2 ** steps.clamp(min=1))).sqrt_()
        self.pending[first:t] += root.mul_(self.fading[first - t :]).mul_(rate / (1 - MOMENTUM**t))
        if len(self.pending) == t:
            self.pending = torch.cat((self.pending, torch.zeros_like(self.pending)))


def _fading(beta2: float) -> Tensor:
    """β1^k / β2^(k/2) for k = n … 1: how a pending change fades until it is negligible."""
    ratio = MOMENTUM / math.sqrt(beta2)
    n = math.ceil(math.log(_NEGLIGIBLE) / math.log(ratio))
    return ratio ** torch.arange(n, 0, -1, dtype=torch.float64)


def _by_rows(model: nn.Module, optimization: Optimization) -> list[nn.Embedding]:
    """The tables that are worth it: an accelerator reads a whole table faster than it sorts tokens."""
    if optimization.optimizer != "adamw" or MOMENTUM / math.sqrt(optimization.beta2) > _SLOWEST:
        return []
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    return [table for table in tables if table.weight.requires_grad and _is_plain(table)]


def _is_plain(table: nn.Embedding) -> bool:
    if table.weight.device.type != "cpu" or table.weight.numel() < _LARGE:
        return False
    return table.max_norm is None and not table.scale_grad_by_freq


def _dense(model: nn.Module, optimization: Optimization, apart: set[int]) -> torch.optim.Optimizer:
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    trained = [p for p in model.parameters() if p.requires_grad and id(p) not in apart]
    decayed = [p for p in trained if p.ndim > 1 and id(p) not in tables]
    kept = [p for p in trained if p.ndim <= 1 or id(p) in tables]
    groups = [{"params": decayed, "weight_decay": optimization.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    if optimization.optimizer == "sgd":
        return torch.optim.SGD(groups, optimization.learning_rate, momentum=MOMENTUM, nesterov=True, fused=True)
    betas = (MOMENTUM, optimization.beta2)
    return torch.optim.AdamW(groups, optimization.learning_rate, betas, EPS, fused=True)


def _gradients(optimizer: torch.optim.Optimizer) -> list[Tensor | None]:
    return [parameter.grad for group in optimizer.param_groups for parameter in group["params"]]
