"""One stage of an experiment file, as typed and frozen models: its space, its strategy, what it takes of others."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

import searchspaces
from searchspaces import Space
from trainables.parsing import shown

_NAME = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}"


def _name(value: str) -> str:
    if not re.fullmatch(_NAME, value):
        raise ValueError(f"must be 1 to 64 of A-Z a-z 0-9 _ - and open with a letter or digit, got {shown(value)}")
    return value


def _part(value: Any) -> Any:
    """`asha` is short for {name: asha}, null for {name: none}."""
    return {"name": value or "none"} if value is None or isinstance(value, str) else value


def listed(value: Any) -> Any:
    """One name is short for a list of it."""
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


class Model(BaseModel):
    """A part of an experiment file; its attributes' docstrings are what the schema tells."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Part(BaseModel):
    """Something found by name, and its own options (checked by whoever has that name)."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)
    name: str = Field(min_length=1)
    """A name that is found, or file.py:OBJECT."""

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})


Named = Annotated[Part, BeforeValidator(_part, json_schema_input_type=str | Part | None)]


class Search(Model):
    """The strategy: a searcher proposes configurations, a scheduler stops trials. bohb goes with hyperband, asha or
    promotion, pbt and replay (of the schedule that pbt found) with no scheduler; all others go together."""

    searcher: Named = Part(name="random")
    """random, grid, greedy, evolution, reinforce, tpe, bohb, optuna, pbt or replay, or {name: …, options}."""
    scheduler: Named = Part(name="none")
    """none, asha, promotion, hyperband, or {name: asha, eta: 3, grace_period: 1}."""


class Each(Model):
    """One trial for each pick of an earlier stage, at the default point of the space, in place of a search."""

    stage: str = Field(min_length=1)
    """The stage whose frontier is taken from, the best by `choose` first."""
    option: str = Field(min_length=1)
    """The routine's option that a pick's checkpoint is given as, such as student."""
    count: int = Field(default=4, ge=1)
    """How many, at most."""
    apart: float = Field(default=1.0, ge=1, allow_inf_nan=False)
    """How far apart the latencies of two picks are at least, as a ratio."""


class Stage(Model):
    """One search."""

    name: Annotated[str, AfterValidator(_name), Field(json_schema_extra={"pattern": f"^{_NAME}$"})]
    """Addresses the stage: --set stages.NAME.trials=5."""
    routine: str = Field(default="train", min_length=1)
    """What a trial does: a name in trainables/, or file.py:CLASS."""
    space: Annotated[tuple[str, ...], BeforeValidator(listed, json_schema_input_type=str | list[str])] = ()
    """A name in searchspaces/, file.py:SPACE, or a list of them; left out: one trial, of what options says."""
    fix: dict[str, Any] = {}
    """Parameters of the space held at one value."""
    narrow: dict[str, list[Any]] = {}
    """Parameters of the space limited to [lowest, highest], or to some of their values."""
    initial: tuple[dict[str, Any], ...] = ()
    """Points to try after the default one; what a point leaves out takes its default."""
    options: dict[str, Any] = {}
    """Fields of the routine that no space has, such as pretrained; stages.NAME: an earlier stage's best checkpoint."""
    each: Each | None = None
    """Which picks of an earlier stage are taken up, one trial each; null: none, the space is searched."""
    search: Search = Search()
    """The strategy."""
    trials: Annotated[int, Field(ge=1)] | None = None
    """How many; null: until the experiment's time is up."""
    epochs: int = Field(ge=1)
    """The most epochs a trial trains."""

    def search_space(self) -> Space:
        """The space with `fix` and `narrow` applied, of no parameter without one. Raises searchspaces.SpaceError."""
        return searchspaces.load(self.space).narrow(self.narrow).fix(self.fix) if self.space else Space.empty()

    @property
    def most(self) -> int | None:
        """How many trials there are at most; None: until the time is up."""
        return self.each.count if self.each else self.trials if self.space else 1
