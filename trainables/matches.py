"""Which layers of a student shall be like which of its teacher: declared, resolved for two shapes, and as one loss.

Layers are counted as hidden states are: 0 is what enters the first layer, l what leaves layer l, -1 the last.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from models.architecture import Architecture
from trainables.losses import attention, hidden, relation

Kind = Literal["hidden", "attention", "relation"]
Features = Mapping[str, Tensor]  # see trainables.losses


class Match(BaseModel):
    """Layers of the student that shall be like layers of the teacher."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = Field(
        description="hidden: states, through a learned projection, and attention: scores of query and key, a head to a "
        "head (Jiao et al. 2019, arXiv:1909.10351); relation: of queries, of keys and of values among themselves, for "
        "any two shapes (Wang et al. 2020, arXiv:2012.15828)"
    )
    student_layer: int | None = Field(default=None, description="0: embeddings; -1: last; null: each layer")
    teacher_layer: int | None = Field(default=None, description="the same; null: the one at the same relative depth")
    weight: float = Field(default=1.0, ge=0, description="beside the other matches of the kind")


STANDARD = (
    Match(kind="hidden"),
    Match(kind="attention"),
    Match(kind="relation", student_layer=-1, teacher_layer=-1),
)


class Pair(NamedTuple):
    """A match of one layer with one layer, both counted from 0."""

    kind: Kind
    student: int
    teacher: int
    weight: float


def pairs(matches: Iterable[Match], weights: Mapping[Kind, float], student: int, teacher: int) -> list[Pair]:
    """The matches between models of so many layers, those without weight left out.

    weights: of each kind. Raises ValueError, a line a fault, where a model has no such layer.
    """
    found, faults = [], []
    for match in matches:
        weight = match.weight * weights[match.kind]
        each = range(1, student + 1) if match.student_layer is None else [match.student_layer]
        for own in each if weight > 0 else []:
            place = own if own >= 0 else own + student + 1
            given = round(place * teacher / student) if match.teacher_layer is None else match.teacher_layer
            partner = given if given >= 0 else given + teacher + 1
            faults += _layer_faults(match.kind, "student", own, place, student)
            faults += _layer_faults(match.kind, "teacher", given, partner, teacher)
            found.append(Pair(match.kind, place, partner, weight))
    if faults:
        raise ValueError("\n".join(dict.fromkeys(faults)))
    return found


def _layer_faults(kind: Kind, side: str, given: int, place: int, n_layers: int) -> list[str]:
    lowest = 0 if kind == "hidden" else 1
    if lowest <= place <= n_layers:
        return []
    return [
        f"matches: {side}_layer of {kind} is {given}, must be from {lowest} to {n_layers}, or negative from the last "
        f"on; the {side} has {n_layers} layers"
    ]


def feature(kind: Kind, layer: int) -> str:
    """What a match of a kind looks at in a layer."""
    return f"{'hidden' if kind == 'hidden' else 'qkv'}.{layer}"


class Matching(nn.Module):
    """The weighted sum of all matches, and the projections that are learned with it.

    A projection leads from the student's width to the teacher's and begins as the identity, as far as both reach.
    relation_heads: None: as many as the teacher's layer has, or the next lower number that divides both inner widths.
    Raises ValueError, a line a fault, where two layers cannot be matched so.
    """

    def __init__(
        self, pairs: Sequence[Pair], student: Architecture, teacher: Architecture, relation_heads: int | None = None
    ) -> None:
        super().__init__()
        self.pairs, self.heads, faults = list(pairs), [], list[str]()
        for pair in self.pairs:
            try:
                self.heads.append(_n_heads(pair, student, teacher, relation_heads))
            except ValueError as fault:
                faults.append(str(fault))
        if faults:
            raise ValueError("\n".join(faults))
        matched = [pair for pair in self.pairs if pair.kind == "hidden"]
        self.projections = nn.ModuleDict({_name(pair): _projection(student, teacher) for pair in matched})

    @property
    def of_student(self) -> set[str]:
        """Features of the student that are needed."""
        return {feature(pair.kind, pair.student) for pair in self.pairs}

    @property
    def of_teacher(self) -> set[str]:
        """Features of the teacher that are needed."""
        return {feature(pair.kind, pair.teacher) for pair in self.pairs}

    def forward(self, student: Features, teacher: Features, keep_BL: Tensor) -> Tensor:
        """The loss, of positions that are kept."""
        if not self.pairs:
            return keep_BL.new_zeros((), dtype=torch.float32)
        terms = [self._term(index, student, teacher, keep_BL) for index in range(len(self.pairs))]
        return torch.stack(terms).sum()

    def _term(self, index: int, student: Features, teacher: Features, keep_BL: Tensor) -> Tensor:
        pair = self.pairs[index]
        own, theirs = student[feature(pair.kind, pair.student)], teacher[feature(pair.kind, pair.teacher)]
        if pair.kind == "hidden":
            return pair.weight * hidden(self.projections[_name(pair)](own), theirs, keep_BL)
        loss = attention if pair.kind == "attention" else relation
        return pair.weight * loss(own, theirs, keep_BL, self.heads[index])


def _name(pair: Pair) -> str:
    return f"{pair.student}_to_{pair.teacher}"


def _projection(student: Architecture, teacher: Architecture) -> nn.Linear:
    projection = nn.Linear(student.d_model, teacher.d_model, bias=False)
    nn.init.eye_(projection.weight)
    return projection


def width(name: str, architecture: Architecture) -> int:
    """How many numbers a feature has at each position."""
    kind, layer = name.split(".")
    return architecture.d_model if kind == "hidden" else 3 * _inner(architecture, int(layer))


def _n_heads(pair: Pair, student: Architecture, teacher: Architecture, relation_heads: int | None) -> int:
    """Into how many heads queries, keys and values are split for a match (0: they are not)."""
    if pair.kind == "hidden":
        return 0
    own, theirs = student.layers[pair.student - 1], teacher.layers[pair.teacher - 1]
    if pair.kind == "attention" and own.n_heads != theirs.n_heads:
        raise ValueError(
            f"matches: attention of the student's layer {pair.student} has {own.n_heads} heads, must have "
            f"{theirs.n_heads} as the teacher's layer {pair.teacher}; match relation instead"
        )
    if pair.kind == "attention":
        return own.n_heads
    widths = _inner(student, pair.student), _inner(teacher, pair.teacher)
    if relation_heads is None:
        return next(n for n in range(theirs.n_heads, 0, -1) if not any(inner % n for inner in widths))
    if any(inner % relation_heads for inner in widths):
        raise ValueError(
            f"relation_heads is {relation_heads}, must divide n_heads * d_head of both layers ({widths[0]} and "
            f"{widths[1]}); choose a common divisor, or null"
        )
    return relation_heads


def _inner(architecture: Architecture, layer: int) -> int:
    sizes = architecture.layers[layer - 1]
    return sizes.n_heads * sizes.d_head
