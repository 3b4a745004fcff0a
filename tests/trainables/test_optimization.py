import pytest
import torch
from transformers import get_constant_schedule, get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from trainables.optimization import Optimization, autocast, computes_in_bf16, rate_scale
from trainables.parsing import ParseError, parse

STEPS, WARMUP = 80, 16


@pytest.mark.parametrize("warmup", [0, WARMUP])
@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_schedule_is_that_of_transformers(schedule, warmup):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = {
        "linear": lambda: get_linear_schedule_with_warmup(optimizer, warmup, STEPS),
        "cosine": lambda: get_cosine_schedule_with_warmup(optimizer, warmup, STEPS),
        "constant": lambda: get_constant_schedule(optimizer),
    }[schedule]()
    settings = Optimization(schedule=schedule, warmup=warmup / STEPS)
    for step in range(STEPS):
        expected = reference.get_last_lr()[0]
        if schedule == "constant":  # ours warms up in any case
            expected = min(1.0, step / warmup) if warmup else 1.0
        assert rate_scale(settings, step / STEPS) == pytest.approx(expected, abs=1e-12)
        optimizer.step()
        reference.step()


def test_after_the_budget_the_rate_stays_where_it_ended():
    assert rate_scale(Optimization(schedule="linear"), 1.5) == 0
    assert rate_scale(Optimization(schedule="cosine"), 1.5) == pytest.approx(0)
    assert rate_scale(Optimization(schedule="constant"), 1.5) == 1


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("learning_rate", 0.0, "learning_rate must be above 0, got 0.0"),
        ("batch_size", 0, "batch_size must be at least 1, got 0"),
        ("warmup", 1.0, "warmup must be below 1, got 1.0"),
        ("optimizer", "adam", "optimizer must be 'adamw' or 'sgd', got 'adam'"),
        ("epochs", 0, "epochs must be above 0, got 0"),
        ("clip_norm", -1.0, "clip_norm must be above 0, got -1.0"),
        ("learnig_rate", 1.0, "the experiment has no 'learnig_rate'; did you mean 'learning_rate'?"),
    ],
)
def test_faults(field, value, rule):
    with pytest.raises(ParseError) as error:
        parse(Optimization, {field: value})
    assert error.value.faults == [rule]


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_precision_of_products(precision, dtype):
    x = torch.ones(4, 4)
    with autocast(precision, "cpu"):
        assert (x @ x).dtype == dtype


def test_auto_follows_the_hardware():
    x = torch.ones(4, 4)
    with autocast("auto", "cpu"):
        assert (x @ x).dtype == (torch.bfloat16 if computes_in_bf16("cpu") else torch.float32)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_auto_on_a_gpu():
    x = torch.ones(4, 4, device="cuda")
    with autocast("auto", "cuda"):
        assert (x @ x).dtype == (torch.bfloat16 if torch.cuda.get_device_capability() >= (8, 0) else torch.float32)
