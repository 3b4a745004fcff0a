"""What a distillation is made of: its settings, the student that they begin with, the matches that they ask for."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator
from torch import nn

from models.architecture import Architecture, Size, check_fit, parse_signature
from models.encoder import Classifier, build
from models.importance import Kind
from models.own import Own
from tasks.task import Data
from trainables import lessons, students, teacher
from trainables.data import default_cache
from trainables.lessons import LessonSettings
from trainables.matches import STANDARD, Match, Matching, pairs
from trainables.matches import Kind as MatchKind
from trainables.teacher import Teacher
from trainables.train import Train, TrainConfig, make_model

BEGUN = ("scratch", "slices")  # what a student can begin as, beside a folder


class DistillConfig(TrainConfig, LessonSettings):
    """A student, its training as by labels alone, and what its teacher adds."""

    teacher: str = Field(
        description="folder of an artifact, of a trial's checkpoint or of a Hugging Face classifier, or the name of one"
    )
    student: str = Field(
        default="scratch",
        min_length=1,
        description="scratch: of the architecture given; slices: evenly spaced layers of the teacher and their most "
        "important heads, units and hidden dimensions, as many as given; else the folder of a checkpoint or artifact, "
        "whose embedding is factored where embedding_rank is less than its rank",
    )
    like: str | None = Field(
        default=None,
        description="folder of a checkpoint or artifact: slices have as many layers, hidden dimensions, heads, units; "
        "a student from scratch has its whole architecture",
    )
    importance: Kind = Field(default="taylor", description="what slices are chosen by (see models.importance)")
    freeze_embeddings: bool = Field(default=False, description="whether the token embeddings stay as they begin")
    hidden_weight: float = Field(default=0.0, ge=0, description="of all matches of hidden states")
    attention_weight: float = Field(default=0.0, ge=0, description="of all matches of attention")
    relation_weight: float = Field(default=0.0, ge=0, description="of all matches of relations")
    relation_heads: Size | None = Field(
        default=None, description="heads that relations are split into; null: the most that fit, up to the teacher's"
    )
    match_until: float = Field(
        default=1.0, ge=0, le=1, description="share of all steps during which matches count; then the answers alone do"
    )
    matches: tuple[Match, ...] = Field(default=STANDARD, description="which layers are compared with which")

    def _faults(self) -> list[str]:
        faults = super()._faults()
        if self.student == "scratch":
            return faults
        return [fault for fault in faults if not fault.startswith("embedding_rank")]  # the width is not known here

    @property
    def _giving_architecture(self) -> tuple[str, ...]:
        return ("pretrained", "like") if self.student == "scratch" else ("pretrained",)

    @model_validator(mode="after")
    def _one_beginning(self) -> Self:
        if self.student == "scratch":
            return self
        near = difflib.get_close_matches(self.student, BEGUN, n=1, cutoff=0.8)  # stages.slices is another
        if near and self.student not in BEGUN and not Path(self.student).exists():
            raise ValueError(f"student is {self.student!r}, which is no folder here; did you mean {near[0]!r}?")
        if self.like is not None:
            self._check_like(self.like)
        free = {"dropout", *(students.SIZES if self.student == "slices" else ("embedding_rank",))}
        given = self.model_fields_set & {*Architecture.model_fields, "pretrained", "model"} - free
        if given:
            source = "the teacher" if self.student == "slices" else "that folder"
            raise ValueError(
                f"student is {self.student!r}, which takes all but {', '.join(sorted(free))} from {source}; leave out "
                f"{', '.join(sorted(given))}"
            )
        return self

    def _check_like(self, like: str) -> None:
        what = f"like is {like!r}, which gives slices their sizes"
        if self.student != "slices":
            raise ValueError(f"{what}; set student to slices or scratch, or leave it out")
        if given := sorted(self.model_fields_set & students.OF_LAYERS):
            raise ValueError(f"{what}; leave out {', '.join(given)}")


def sizes(config: DistillConfig, cache: Path) -> dict[str, Any]:
    """What a student that begins with a teacher's or another's weights is to have less of. Raises ValueError."""
    given = config.model_dump(include=config.model_fields_set & {*students.SIZES})
    if config.like is None:
        return given
    like = teacher.read(config.like, cache, "like").architecture
    return {**like.model_dump(include=students.OF_LAYERS), **given}


def architecture(config: DistillConfig, whole: Architecture, cache: Path) -> Architecture | Own:
    """What a config's student is built from, where its teacher is `whole`."""
    if config.student == "scratch":
        return Train.architecture(config)
    given = sizes(config, cache)
    dropout = config.model_dump(include=config.model_fields_set & {"dropout"})
    if config.student == "slices":
        begun = students.shape(whole, given)
    else:
        begun = students.with_rank(teacher.read(config.student, cache, "student").architecture, given)
    return begun.model_copy(update=dropout)


def student(config: DistillConfig, data: Data, found: Teacher, cache: Path) -> nn.Module:
    """A config's student, as it begins."""
    scratch = config.student == "scratch"
    model: nn.Module = make_model(config, data.signature) if scratch else _begun(config, data, found, cache)
    if config.freeze_embeddings:
        model.get_submodule("front_end").requires_grad_(False)
    return model


def _begun(config: DistillConfig, data: Data, found: Teacher, cache: Path) -> Classifier:
    """With the weights of the teacher's slices, or of another checkpoint, and the config's own dropout."""
    given = sizes(config, cache)
    if config.student == "slices":
        like = students.slices(found, given, students.scores(found, data, config.importance, cache))
    else:
        like = students.factored(teacher.read(config.student, cache, "student").model, given)
    kind = architecture(config, found.architecture, cache)
    assert isinstance(kind, Architecture)
    model = build(kind, like.signature.model_dump())
    model.load_state_dict(like.state_dict())
    return model


def matching(config: DistillConfig, student: Architecture | Own, found: Teacher) -> Matching:
    """The matches of a config, as a loss."""
    whole = found.architecture
    weights: dict[MatchKind, float] = {
        "hidden": config.hidden_weight,
        "attention": config.attention_weight,
        "relation": config.relation_weight,
    }
    if isinstance(student, Own):
        return Matching([], whole, whole)
    resolved = pairs(config.matches, weights, student.n_layers, whole.n_layers)
    return Matching(resolved, student, whole, config.relation_heads)


def check(config: DistillConfig, data: Data, found: Teacher, cache: Path) -> None:
    """Everything that can be told without training; ValueError with all of it."""
    parts: list[Callable[[], object]] = [
        partial(teacher.check, found, config.task, data, cache),
        partial(_check_student, config, data, found, cache),
    ]
    _all_told(lessons.faults(config, data), parts)


def check_early(config: DistillConfig, data: Data, shapes: Mapping[str, Architecture]) -> None:
    """What can be told before the teacher is there, from its architecture if `shapes` has it; as `check` does."""
    whole = shapes.get(config.teacher)
    parts: list[Callable[[], object]] = []
    if whole is not None and config.student == "slices" and config.like is None:
        parts.append(partial(architecture, config, whole, default_cache()))
    _all_told(lessons.faults(config, data), parts)


def _all_told(faults: list[str], parts: Iterable[Callable[[], object]]) -> None:
    """Raises ValueError with these faults and those of the parts."""
    for part in parts:
        try:
            part()
        except ValueError as error:
            faults += str(error).splitlines()
    if faults:
        raise ValueError("\n".join(faults))


def _check_student(config: DistillConfig, data: Data, found: Teacher, cache: Path) -> None:
    if config.student == "slices" and found.kind == "pretrained":
        raise ValueError(
            "student is 'slices', must be scratch for a teacher of Hugging Face, whose head is not ours; or fine-tune "
            "that with routine train, and let the result be the teacher"
        )
    kind = architecture(config, found.architecture, cache)
    if config.student == "scratch":
        Train.check(config, data)
    else:
        _check_begun(config, data, found, cache)
    if isinstance(kind, Own):
        _check_own(config)
    matching(config, kind, found)


def _check_begun(config: DistillConfig, data: Data, found: Teacher, cache: Path) -> None:
    begun = found if config.student == "slices" else teacher.read(config.student, cache, "student")
    if begun is not found:
        if begun.weights == found.weights:
            raise ValueError(f"student: {config.student} is the teacher itself; choose another one, or slices")
        teacher.check(begun, config.task, data, cache)
    kind = architecture(config, found.architecture, cache)
    assert isinstance(kind, Architecture)
    check_fit(kind, parse_signature(begun.config["signature"]))


def _check_own(config: DistillConfig) -> None:
    given = [
        name for name in ("hidden_weight", "attention_weight", "relation_weight", "mixup") if getattr(config, name)
    ]
    given += ["freeze_embeddings"] if config.freeze_embeddings else []
    if given:
        raise ValueError(
            f"{', '.join(given)} must be left out: of the network {config.model!r}, your own, no layers are known"
        )
