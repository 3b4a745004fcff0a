"""Other texts out of given ones, token by token, and examples that are mixtures of two. No torch.

Deletion, swap, insertion, replacement: Wei and Zou 2019, arXiv:1901.11196; nearest neighbours for a student to learn
from: Jiao et al. 2019, arXiv:1909.10351; mixup: Zhang et al. 2017, arXiv:1710.09412, of embeddings for a student:
Liang et al. 2020, arXiv:2011.00593. What is drawn follows from (seed, epoch) and an example's row. Special tokens
stay where they are, and of each text at least one token remains.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tasks.texts import TextSplit

Ids = NDArray[np.int32]
Places = NDArray[np.int64]
Mask = NDArray[np.bool_]
Rate = Annotated[float, Field(ge=0, le=1)]

UNLABELLED = -1
NEIGHBOURS = 15  # as many as TinyBERT's authors took
_SHORTEST_CROP = 0.5  # share of a text
_MIXUP = 0.4  # of Beta(α, α), as in both papers
_BLOCK = 1024  # tokens compared at once


class Augmentation(BaseModel):
    """Rates, of tokens or of examples. All 0: nothing changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    augmented: Rate = Field(default=1.0, description="share of an epoch's texts that the rates below apply to")
    deletion: Rate = Field(default=0.0, description="share of a text's tokens that are dropped")
    replacement: Rate = Field(default=0.0, description="share of tokens that give way to one drawn from the data")
    neighbours: Rate = Field(default=0.0, description="share that give way to one of the 15 nearest embeddings")
    swap: Rate = Field(default=0.0, description="share of tokens that change places among each other")
    insertion: Rate = Field(default=0.0, description="share of tokens that a token of the data is put behind")
    crop: Rate = Field(default=0.0, description="share of texts of which a run of at least half the tokens remains")
    splice: Rate = Field(default=0.0, description="share of texts that end as another text does, and lose their label")
    mixup: Rate = Field(default=0.0, description="share of examples whose embeddings are mixed with another example's")

    @property
    def of_texts(self) -> bool:
        """Whether any text changes."""
        rates = self.deletion, self.replacement, self.neighbours, self.swap, self.insertion, self.crop, self.splice
        return self.augmented > 0 and any(rates)


class Vocabulary(NamedTuple):
    """What must be known of the tokens: those that stay, and for each its nearest (V, k), -1 where there is none."""

    special: Ids
    nearest: Ids | None = None


class Augmented(NamedTuple):
    """A split in another form, its rows the same examples, and which of them are no longer what they were."""

    split: TextSplit
    changed: Mask


class _Flat(NamedTuple):
    """The tokens of all texts in a row: which, of which text, and whether they may change."""

    ids: Ids
    row: Places
    free: Mask
    n: int  # texts


def special_tokens(tokenizer: Path) -> Ids:
    """Tokens of a tokenizer.json that stand for no text; the one for unknown words does."""
    known = json.loads(tokenizer.read_bytes())
    unknown = known["model"].get("unk_token")
    found = [token["id"] for token in known["added_tokens"] if token["special"] and token["content"] != unknown]
    return np.array(sorted(found), np.int32)


def nearest(table_VD: NDArray[np.float32], among: Ids, k: int = NEIGHBOURS) -> Ids:
    """For each token of `among` the k others with the nearest embeddings by cosine, (V, k); -1 for all the rest."""
    k = max(0, min(k, len(among) - 1))
    found = np.full((len(table_VD), k), -1, np.int32)
    unit_ND = table_VD[among] / np.maximum(np.linalg.norm(table_VD[among], axis=1, keepdims=True), 1e-12)
    for start in range(0, len(among), _BLOCK):
        likeness = unit_ND[start : start + _BLOCK] @ unit_ND.T
        here = np.arange(len(likeness))
        likeness[here, start + here] = -np.inf
        found[among[start + here]] = among[np.argpartition(-likeness, k - 1, axis=1)[:, :k]]
    return found


def augment(
    split: TextSplit, rates: Augmentation, vocabulary: Vocabulary, *, max_length: int, seed: int, epoch: int
) -> Augmented:
    """The split as an epoch sees it; texts that were spliced have the target UNLABELLED."""
    rng = np.random.default_rng([seed, epoch])
    row = np.repeat(np.arange(len(split)), split.lengths)
    ordinary = ~np.isin(split.ids, vocabulary.special)
    words = _Flat(split.ids[ordinary], row[ordinary], ordinary[ordinary], len(split))
    chosen = rng.random(len(split)) < rates.augmented
    flat = _Flat(split.ids, row, ordinary & chosen[row], len(split))
    flat, spliced = _splice(flat, rates.splice, words, rng)
    for change, rate in ((_crop, rates.crop), (_swap, rates.swap)):
        flat = change(flat, rate, rng) if rate else flat
    flat = _replace(flat, rates.replacement, words.ids, rng) if rates.replacement else flat
    if rates.neighbours and vocabulary.nearest is not None:
        flat = _near(flat, rates.neighbours, vocabulary.nearest, rng)
    flat = _insert(flat, rates.insertion, words.ids, rng) if rates.insertion else flat
    flat = _delete(flat, rates.deletion, rng) if rates.deletion else flat
    return _result(split, _cut(flat, max_length), spliced)


def mixture(rows: Places, rate: float, *, seed: int, epoch: int) -> tuple[Places, NDArray[np.float32]]:
    """For each example of a batch another one of it (its place), and its own share in the mixture: 1 is not mixed."""
    rng = np.random.default_rng([seed, epoch, *rows.tolist()])
    share = rng.beta(_MIXUP, _MIXUP, len(rows))
    share = np.where(rng.random(len(rows)) < rate, np.maximum(share, 1 - share), 1.0)
    return rng.permutation(len(rows)), share.astype(np.float32)


def _replace(flat: _Flat, rate: float, pool: Ids, rng: np.random.Generator) -> _Flat:
    places = _some(flat, rate, rng)
    return _put(flat, places, rng.choice(pool, len(places)) if len(places) else pool[:0])


def _near(flat: _Flat, rate: float, nearest_VK: Ids, rng: np.random.Generator) -> _Flat:
    places = _some(flat, rate, rng)
    places = places[nearest_VK[flat.ids[places]].max(axis=1, initial=-1) >= 0]
    return _put(flat, places, nearest_VK[flat.ids[places], rng.integers(nearest_VK.shape[1], size=len(places))])


def _swap(flat: _Flat, rate: float, rng: np.random.Generator) -> _Flat:
    """The chosen tokens of a text move on by one place among themselves, the last to the first."""
    places = _some(flat, rate, rng)
    row = flat.row[places]
    first = np.searchsorted(row, row, side="left")
    last = np.searchsorted(row, row, side="right") - 1
    here = np.arange(len(places))
    return _put(flat, places, flat.ids[places[np.where(here == first, last, here - 1)]])


def _insert(flat: _Flat, rate: float, pool: Ids, rng: np.random.Generator) -> _Flat:
    places = _some(flat, rate, rng)
    return _inserted(flat, places + 1, rng.choice(pool, len(places)), flat.row[places]) if len(places) else flat


def _delete(flat: _Flat, rate: float, rng: np.random.Generator) -> _Flat:
    luck = np.where(flat.free, rng.random(len(flat.ids)), -1.0)
    best = np.zeros(flat.n)
    np.maximum.at(best, flat.row, luck)
    return _kept(flat, ~flat.free | (luck >= rate) | (luck == best[flat.row]))


def _crop(flat: _Flat, rate: float, rng: np.random.Generator) -> _Flat:
    rank, count = _ranks(flat)
    length = np.ceil(count * rng.uniform(_SHORTEST_CROP, 1, flat.n)).astype(np.int64)
    start = rng.integers(count - length + 1)
    whole = rng.random(flat.n) >= rate
    inside = (rank >= start[flat.row]) & (rank < (start + length)[flat.row])
    return _kept(flat, ~flat.free | whole[flat.row] | inside)


def _splice(flat: _Flat, rate: float, words: _Flat, rng: np.random.Generator) -> tuple[_Flat, Mask]:
    """Texts that go on, from some point on, as another does from the same point of its own; and which these are.

    words: the tokens of all texts that are not special.
    """
    if not rate:
        return flat, np.zeros(flat.n, bool)
    rank, count = _ranks(flat)
    point, partner = rng.random(flat.n), rng.integers(flat.n, size=flat.n)
    spliced = (rng.random(flat.n) < rate) & (count > 0)
    head = np.maximum(1, np.round(point * count))[flat.row]
    stays = ~flat.free | ~spliced[flat.row] | (rank < head)
    last = np.flatnonzero(flat.free & spliced[flat.row] & (rank == head - 1))  # one of each spliced text
    row = flat.row[last]
    begins = np.searchsorted(words.row, np.arange(flat.n + 1))
    skipped = np.round(point * np.diff(begins)[partner]).astype(np.int64)
    first, end = (begins[partner] + skipped)[row], begins[partner + 1][row]
    n_added = end - first
    source = np.repeat(end - np.cumsum(n_added), n_added) + np.arange(n_added.sum())
    behind = np.repeat(np.cumsum(stays, dtype=np.int64)[last], n_added)  # where the tails were
    return _inserted(_kept(flat, stays), behind, words.ids[source], np.repeat(row, n_added)), spliced


def _cut(flat: _Flat, max_length: int) -> _Flat:
    """Without the last changeable tokens of texts that grew too long."""
    excess = np.maximum(np.bincount(flat.row, minlength=flat.n) - max_length, 0)
    rank, count = _ranks(flat)
    return _kept(flat, ~flat.free | (rank < (count - excess)[flat.row]))


def _some(flat: _Flat, rate: float, rng: np.random.Generator) -> Places:
    return np.flatnonzero(flat.free & (rng.random(len(flat.ids)) < rate))


def _ranks(flat: _Flat) -> tuple[Places, Places]:
    """How many changeable tokens of its text stand before each token, and how many each text has."""
    count = np.bincount(flat.row[flat.free], minlength=flat.n)
    before: Places = np.cumsum(flat.free) - flat.free
    return before - (np.cumsum(count) - count)[flat.row], count


def _put(flat: _Flat, places: Places, values: Ids) -> _Flat:
    ids = flat.ids.copy()
    ids[places] = values
    return flat._replace(ids=ids)


def _kept(flat: _Flat, kept: Mask) -> _Flat:
    return flat._replace(ids=flat.ids[kept], row=flat.row[kept], free=flat.free[kept])


def _inserted(flat: _Flat, places: Places, ids: Ids, row: Places) -> _Flat:
    return flat._replace(
        ids=np.insert(flat.ids, places, ids),
        row=np.insert(flat.row, places, row),
        free=np.insert(flat.free, places, values=True),
    )


def _result(split: TextSplit, flat: _Flat, spliced: Mask) -> Augmented:
    lengths = np.bincount(flat.row, minlength=len(split)).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    changed = lengths != split.lengths
    same = np.repeat(~changed, split.lengths), np.repeat(~changed, lengths)
    differs = split.ids[same[0]] != flat.ids[same[1]]
    changed[flat.row[same[1]][differs]] = True
    targets = np.where(spliced, UNLABELLED, split.targets)
    return Augmented(replace(split, ids=flat.ids, offsets=offsets, lengths=lengths, targets=targets), changed)
