import pytest
import torch
from torch import nn
from torch.nn import functional as F

from trainables import optimizers
from trainables.optimization import Optimization
from trainables.optimizers import Optimizer, RowAdamW

ROWS, STEPS = 60, 250
CLOSE = 2e-5  # the one liberty that RowAdamW takes, with epsilon


@pytest.fixture(autouse=True)
def _every_table_is_large(monkeypatch):
    monkeypatch.setattr(optimizers, "_LARGE", 0)


class Model(nn.Module):
    def __init__(self, tied=False):
        super().__init__()
        self.embedding, self.linear = nn.Embedding(ROWS, 8), nn.Linear(8, ROWS if tied else 5)
        if tied:
            self.linear.weight = self.embedding.weight

    def forward(self, tokens_BL):
        return self.linear(self.embedding(tokens_BL).mean(1))


def batches(steps=STEPS):
    """Low tokens often, high ones seldom, some never."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        yield (
            (torch.rand(4, 5, generator=generator) ** 4 * (ROWS - 5)).long(),
            torch.randint(0, 5, (4,), generator=generator),
        )


def pair(tied=False):
    torch.manual_seed(0)
    ours, theirs = Model(tied).double(), Model(tied).double()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def reference(model, *, beta2=0.999, decay=0.1):
    embedding, linear = model.embedding, model.linear
    kept = {"params": [embedding.weight, linear.bias], "weight_decay": 0.0}
    decayed = [] if linear.weight is embedding.weight else [{"params": [linear.weight], "weight_decay": decay}]
    return torch.optim.AdamW([*decayed, kept], betas=(0.9, beta2))


def train(model, step, steps=STEPS):
    for number, (tokens, targets) in enumerate(batches(steps)):
        F.cross_entropy(model(tokens), targets).backward()
        step(1e-2 * (1 - number / (2 * STEPS)))


def stepper(optimizer, clip=None):
    def step(rate):
        if clip is not None:
            nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], clip)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()

    return step


def difference(ours, theirs):
    """Largest difference of two models' weights, as a share of the largest weight."""
    pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)


@pytest.mark.parametrize("beta2", [0.9, 0.99, 0.999])
def test_by_rows_equals_torch_adamw(beta2):
    ours, theirs = pair()
    optimizer = Optimizer(ours, Optimization(beta2=beta2, weight_decay=0.1, clip_norm=None))
    assert [type(table) for table in optimizer.tables] == [RowAdamW]
    train(ours, optimizer.step)
    optimizer.settle()
    expected = reference(theirs, beta2=beta2)
    train(theirs, stepper(expected))
    assert difference(ours, theirs) < CLOSE
    for key, value in optimizer.tables[0].state().items():
        torch.testing.assert_close(value.double(), expected.state[theirs.embedding.weight][key].double())


def test_a_row_is_up_to_date_when_it_is_looked_up():
    ours, theirs = pair()
    optimizer = Optimizer(ours, Optimization(weight_decay=0.1, clip_norm=None))
    train(ours, optimizer.step)
    train(theirs, stepper(reference(theirs)))
    assert difference(ours, theirs) > 1e-4
    tokens = torch.arange(ROWS)[None]
    torch.testing.assert_close(ours(tokens), theirs(tokens), rtol=CLOSE, atol=1e-7)
    assert difference(ours, theirs) < CLOSE


def test_clips_the_norm_of_all_gradients():
    ours, theirs = pair()
    optimizer = Optimizer(ours, Optimization(weight_decay=0.1, clip_norm=0.2))
    train(ours, optimizer.step)
    optimizer.settle()
    train(theirs, stepper(reference(theirs), clip=0.2))
    assert difference(ours, theirs) < 1e-4  # the norm is rounded to float32


def test_a_table_with_a_second_use():
    ours, theirs = pair(tied=True)
    optimizer = Optimizer(ours, Optimization(clip_norm=None))
    train(ours, optimizer.step)
    optimizer.settle()
    train(theirs, stepper(reference(theirs)))
    assert difference(ours, theirs) < 1e-6


def test_dense_where_the_second_moment_fades_too_fast():
    ours, theirs = pair()
    optimizer = Optimizer(ours, Optimization(beta2=0.8, weight_decay=0.1, clip_norm=None))
    assert optimizer.tables == []
    train(ours, optimizer.step)
    train(theirs, stepper(reference(theirs, beta2=0.8)))
    assert difference(ours, theirs) < 1e-9


def test_small_tables_are_dense(monkeypatch):
    monkeypatch.setattr(optimizers, "_LARGE", ROWS * 8 + 1)
    assert Optimizer(pair()[0], Optimization()).tables == []


def test_sgd_equals_torch():
    ours, theirs = pair()
    optimizer = Optimizer(ours, Optimization(optimizer="sgd", weight_decay=0.0, clip_norm=None))
    train(ours, optimizer.step)
    train(theirs, stepper(torch.optim.SGD(theirs.parameters(), momentum=0.9, nesterov=True)))
    assert difference(ours, theirs) < 1e-9


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_goes_on_from_its_state(name):
    settings = Optimization(optimizer=name)
    whole, _ = pair()
    uninterrupted = Optimizer(whole, settings)
    train(whole, uninterrupted.step, 30)
    state = {key: value.clone() for key, value in uninterrupted.state().items()}
    other, _ = pair()
    other.load_state_dict(whole.state_dict())
    resumed = Optimizer(other, settings)
    resumed.load_state(state)
    for model, optimizer in ((whole, uninterrupted), (other, resumed)):
        torch.manual_seed(3)
        train(model, optimizer.step, 30)
        optimizer.settle()
    assert difference(whole, other) == 0


def test_only_matrices_decay():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 4), nn.LayerNorm(4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = Optimizer(model, Optimization(weight_decay=0.5))
    (0 * model(torch.tensor([[1, 2]])).sum()).backward()
    optimizer.step(0.1)
    optimizer.settle()
    after = model.state_dict()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed == {"1.weight"}
    torch.testing.assert_close(after["1.weight"], 0.95 * before["1.weight"])


def test_frozen_parameters_stay():
    model, _ = pair()
    model.embedding.weight.requires_grad_(False)
    before = model.embedding.weight.clone()
    optimizer = Optimizer(model, Optimization())
    train(model, optimizer.step, 3)
    optimizer.settle()
    assert torch.equal(model.embedding.weight, before)
