import copy
import json
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from trainables.parsing import ParseError, dotted, parse, shown, suggestion


class Loss(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    temperature: float = Field(1.0, gt=0)
    weight: float = Field(0.5, ge=0, le=1)


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    data: Path = Field(description="where the examples are")
    layers: int = Field(2, ge=1, lt=9)
    sizes: int | tuple[int, ...] = 4
    rate: float = 1e-3
    fast: bool = False
    kind: Literal["mean", "max"] = "mean"
    share: Literal["auto"] | float = "auto"
    loss: Loss = Loss()
    losses: dict[str, Loss] = {}
    tags: tuple[str, ...] = Field((), max_length=2)

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        if self.rate > 1:
            raise ValueError("rate is 2, must be below layers\nsizes do not fit")
        return self


def faults(values, subject="train"):
    with pytest.raises(ParseError) as raised:
        parse(Config, values, subject)
    assert str(raised.value) == "\n".join(raised.value.faults)
    return raised.value.faults


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"layers": 0}, "train.layers must be at least 1, got 0"),
        ({"layers": 9}, "train.layers must be below 9, got 9"),
        ({"layers": True}, "train.layers must be an integer, got true"),
        ({"layers": 2.0}, "train.layers must be an integer, got 2.0"),
        ({"layers": "ten"}, "train.layers must be an integer, got 'ten'"),
        ({"layers": None}, "train.layers must be an integer, got null"),
        ({"rate": "1e-4"}, "train.rate must be a number, got '1e-4'"),
        ({"rate": True}, "train.rate must be a number, got true"),
        ({"fast": 1}, "train.fast must be true or false, got 1"),
        ({"fast": "yes"}, "train.fast must be true or false, got 'yes'"),
        ({"kind": "avg"}, "train.kind must be 'mean' or 'max', got 'avg'"),
        ({"share": "all"}, "train.share must be 'auto' or a number, got 'all'"),
        ({"sizes": 1.5}, "train.sizes must be an integer or a list, got 1.5"),
        ({"sizes": [1, "x"]}, "train.sizes[1] must be an integer, got 'x'"),
        ({"loss": {"temperature": -1.0}}, "train.loss.temperature must be above 0, got -1.0"),
        ({"loss": {"weight": 2}}, "train.loss.weight must be at most 1, got 2"),
        ({"loss": {"temprature": 1}}, "train.loss has no 'temprature'; did you mean 'temperature'?"),
        ({"loss": 3}, "train.loss must be a mapping of names to values, got 3"),
        ({"losses": {"kl": {"wieght": 1}}}, "train.losses.kl has no 'wieght'; did you mean 'weight'?"),
        ({"tags": ["a", "b", "c"]}, 'train.tags must have at most 2 entries, got ["a", "b", "c"]'),
        ({"zzz": 1}, "train has no 'zzz'; known: data, layers, sizes, rate, fast, kind, share, loss, losses, tags"),
        ({"data": 3}, "train.data must be text, got 3"),
    ],
)
def test_one_line_with_path_rule_and_value(values, line):
    assert faults({"data": "x", **values}) == [line]


def test_every_fault_at_once_and_a_missing_value_says_what_it_is_for():
    assert faults({"layers": 0, "laxers": 1}, subject="") == [
        "data is missing (where the examples are)",
        "layers must be at least 1, got 0",
        "the experiment has no 'laxers'; did you mean 'layers'?",
    ]


def test_each_line_of_a_models_own_check_is_a_fault():
    assert faults({"data": "x", "rate": 2}) == ["train: rate is 2, must be below layers", "train: sizes do not fit"]


def test_values_that_are_not_plain_are_refused():
    assert faults({"data": Path("x")}) == [
        "train must hold plain values (numbers, text, lists): Object of type PosixPath is not JSON serializable"
    ]
    assert faults([1]) == ["train must be a mapping of names to values, got [1]"]


def test_plain_values_become_typed_ones():
    config = parse(Config, {"data": "a/b", "sizes": [1, 2], "rate": 1, "loss": {"weight": 0}})
    assert config == Config(data=Path("a/b"), sizes=(1, 2), rate=1.0, loss=Loss(weight=0.0))
    assert parse(Config, json.loads(config.model_dump_json())) == config


def test_dotted_paths_name_list_entries_that_have_a_name():
    values = {"stages": [{"name": "search", "trials": 0}, {"trials": 1}]}
    assert dotted(values, ("stages", 0, "trials")) == "stages.search.trials"
    assert dotted(values, ("stages", 1, "trials"), "x") == "x.stages[1].trials"


def test_suggestions_name_the_nearest_or_list_what_is_known():
    assert suggestion("schedular", ["searcher", "scheduler"]) == "; did you mean 'scheduler'?"
    assert suggestion("q", ["a", "b"]) == "; known: a, b"
    assert suggestion("q", map(str, range(20))) == "; known: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, …"
    assert suggestion("q", []) == ""


def test_shown_values_are_short():
    assert shown("x" * 100) == "'" + "x" * 58 + "…"
    assert shown({"a": None, "b": True}) == '{"a": null, "b": true}'


def test_a_fault_list_is_carried_over_whole():
    error = copy.copy(ParseError(["one", "two"]))
    assert (error.faults, str(error)) == (["one", "two"], "one\ntwo")
