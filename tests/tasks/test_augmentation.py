import json

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from tasks.augmentation import UNLABELLED, Augmentation, Vocabulary, augment, mixture, nearest, special_tokens
from tasks.texts import TextSplit

START, END, WORDS = 1, 2, np.arange(10, 1010)  # of the padding token, 0, a split holds none
LONGEST = 40
RATES = ("deletion", "replacement", "neighbours", "swap", "insertion", "crop", "splice")


def split_of(texts):
    """[CLS] a text [SEP] each."""
    rows = [[START, *text, END] for text in texts]
    lengths = np.array([len(row) for row in rows], np.int32)
    return TextSplit(
        ids=np.concatenate(rows).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        lengths=lengths,
        targets=np.arange(len(rows)) % 5,
        texts=pa.array([""] * len(rows)),
        pad_id=0,
    )


def random_texts(n=2000, longest=30):
    rng = np.random.default_rng(0)
    return [rng.choice(WORDS, rng.integers(1, longest + 1), replace=False).tolist() for _ in range(n)]


# The neighbours of a word are the two next ones.
NEAREST = np.full((1010, 2), -1, np.int32)
NEAREST[10:1008] = np.arange(10, 1008)[:, None] + [1, 2]
VOCABULARY = Vocabulary(np.array([0, START, END]), NEAREST)


def augmented(texts, max_length=LONGEST, seed=0, epoch=0, **rates):
    return augment(split_of(texts), Augmentation(**rates), VOCABULARY, max_length=max_length, seed=seed, epoch=epoch)


def texts_of(split):
    return [split.ids[split.offsets[i] + 1 : split.offsets[i + 1] - 1].tolist() for i in range(len(split))]


def share(values):
    return sum(values) / len(values)


def test_rates_of_zero_change_nothing():
    texts = random_texts(50)
    split, changed = augmented(texts)
    assert texts_of(split) == texts
    assert not changed.any()
    assert split.targets.tolist() == split_of(texts).targets.tolist()
    split, changed = augmented(texts, deletion=0.5, splice=0.5, augmented=0.0)
    assert texts_of(split) == texts


@pytest.mark.parametrize("name", RATES)
def test_special_tokens_stay_and_no_text_is_empty(name):
    texts = [*random_texts(300, 5), []]  # one without a word has nothing to change
    split, _ = augmented(texts, **{name: 1.0})
    assert (split.ids[split.offsets[:-1]] == START).all()
    assert (split.ids[split.offsets[1:] - 1] == END).all()
    assert np.isin(split.ids, [0, START, END]).sum() == 2 * len(texts)
    found = texts_of(split)
    assert min(map(len, found[:-1])) >= 1
    assert found[-1] == []
    assert (np.diff(split.offsets) == split.lengths).all()


@pytest.mark.parametrize("name", RATES)
def test_drawn_by_seed_and_epoch(name):
    texts = random_texts(100)
    first, same = (texts_of(augmented(texts, seed=1, epoch=2, **{name: 0.5}).split) for _ in range(2))
    assert first == same != texts
    for other in ({"seed": 2, "epoch": 2}, {"seed": 1, "epoch": 3}):
        assert texts_of(augmented(texts, **other, **{name: 0.5}).split) != first


@pytest.mark.parametrize("name", RATES)
def test_what_has_changed_is_told(name):
    texts = random_texts(200)
    split, changed = augmented(texts, augmented=0.6, **{name: 0.3})
    assert changed.tolist() == [new != old for new, old in zip(texts_of(split), texts, strict=True)]
    assert 0 < changed.sum() < 0.65 * len(texts)


@pytest.mark.parametrize("name", RATES)
def test_no_text_grows_beyond_the_longest(name):
    texts = random_texts(100)
    split, _ = augmented(texts, max_length=32, **{name: 1.0})
    assert split.lengths.max() <= 32


def test_deletion():
    texts = random_texts()
    found = texts_of(augmented(texts, deletion=0.2).split)
    long = [i for i, text in enumerate(texts) if len(text) > 10]
    assert share([1 - len(found[i]) / len(texts[i]) for i in long]) == pytest.approx(0.2, abs=0.01)
    assert all(new == [token for token in old if token in set(new)] for new, old in zip(found, texts, strict=True))
    assert all(len(text) == 1 for text in texts_of(augmented(texts, deletion=1.0).split))


def test_replacement_is_as_frequent_as_in_the_data():
    texts = [[10, 10, 10, 11]] * 3000
    found = np.array(texts_of(augmented(texts, replacement=0.4).split))
    # A token is drawn as it was in 3 (or 1) of 4 cases.
    assert (found[:, :3] != 10).mean() == pytest.approx(0.4 / 4, abs=0.01)
    assert (found[:, 3] != 11).mean() == pytest.approx(0.4 * 3 / 4, abs=0.02)


def test_neighbours():
    texts = random_texts()
    found = texts_of(augmented(texts, neighbours=0.3).split)
    steps = np.concatenate(found) - np.concatenate(texts)
    assert (steps == 1).mean() == pytest.approx(0.15, abs=0.01)
    assert (steps == 2).mean() == pytest.approx(0.15, abs=0.01)
    assert set(steps) == {0, 1, 2}


def test_without_neighbours_a_token_stays():
    texts = [[1008, 1009]] * 10
    assert texts_of(augmented(texts, neighbours=1.0).split) == texts


def test_swap():
    texts = random_texts()
    found = texts_of(augmented(texts, swap=0.3).split)
    assert all(sorted(new) == sorted(old) for new, old in zip(found, texts, strict=True))
    long = [i for i, text in enumerate(texts) if len(text) > 20]
    moved = [np.mean(np.array(found[i]) != texts[i]) for i in long]
    assert share(moved) == pytest.approx(0.3, abs=0.02)


def test_insertion():
    texts = random_texts()
    found = texts_of(augmented(texts, max_length=100, insertion=0.25).split)
    added = sum(map(len, found)) / sum(map(len, texts)) - 1
    assert added == pytest.approx(0.25, abs=0.01)
    for new, old in zip(found, texts, strict=True):
        rest = iter(new)
        assert all(token in rest for token in old)  # in their order
        assert new[0] == old[0]


def test_crop():
    texts = random_texts()
    found = texts_of(augmented(texts, crop=0.5).split)
    for new, old in zip(found, texts, strict=True):
        start = old.index(new[0])
        assert new == old[start : start + len(new)]
        assert len(new) >= len(old) / 2
    long = [i for i, text in enumerate(texts) if len(text) > 10]
    assert share([len(found[i]) < len(texts[i]) for i in long]) == pytest.approx(0.5, abs=0.06)


def test_splice():
    texts = random_texts(400)
    split, changed = augmented(texts, splice=0.5)
    assert share(split.targets == UNLABELLED) == pytest.approx(0.5, abs=0.06)
    assert not (changed & (split.targets != UNLABELLED)).any()
    for new, old in zip(texts_of(split), texts, strict=True):
        same = next(
            (i for i, pair in enumerate(zip(new, old, strict=False)) if pair[0] != pair[1]), min(map(len, (new, old)))
        )
        tail = new[same:]
        assert same >= 1
        assert not tail or any(tail == other[len(other) - len(tail) :] for other in texts)


def test_a_special_token_within_a_text_stays_in_its_place():
    texts = [[10, 11, END, 12, 13]] * 50
    split, _ = augmented(texts, deletion=0.5, swap=0.5, replacement=0.5)
    for text in texts_of(split):
        assert text.count(END) == 1
    split, _ = augmented(texts, swap=1.0)
    assert all(text.index(END) == 2 for text in texts_of(split))


def test_batches_of_what_was_augmented():
    texts = random_texts(20)
    split, _ = augmented(texts, insertion=0.5)
    batch = split.batch(np.array([3, 7]))
    assert batch.inputs["tokens"][0, : split.lengths[3]].tolist() == [START, *texts_of(split)[3], END]
    assert batch.inputs["keep"].sum(1).tolist() == split.lengths[[3, 7]].tolist()


def test_nearest_embeddings():
    table = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    among = np.arange(5, 55, dtype=np.int32)
    found = nearest(table, among, 4)
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    for token in among:
        others = sorted(set(among) - {token}, key=lambda other: -unit[token] @ unit[other])
        assert set(found[token]) == set(others[:4])
    assert (found[:5] == -1).all()
    assert (found[55:] == -1).all()
    assert nearest(table, among[:3], 15).shape == (60, 2)
    alone = Vocabulary(VOCABULARY.special, nearest(table, among[:0]))
    assert alone.nearest.shape == (60, 0)
    split = augment(split_of([[10, 11]]), Augmentation(neighbours=1.0), alone, max_length=9, seed=0, epoch=0).split
    assert texts_of(split) == [[10, 11]]


def test_special_tokens_of_a_tokenizer(tmp_path):
    added = [
        {"id": 0, "content": "[PAD]", "special": True},
        {"id": 1, "content": "[UNK]", "special": True},
        {"id": 3, "content": "[CLS]", "special": True},
        {"id": 9, "content": "word", "special": False},
    ]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"added_tokens": added, "model": {"unk_token": "[UNK]"}}))
    assert special_tokens(path).tolist() == [0, 3]


def test_mixture():
    rows = np.arange(5000)
    partner, own = mixture(rows, 0.3, seed=0, epoch=1)
    assert sorted(partner) == rows.tolist()
    assert share(own < 1) == pytest.approx(0.3, abs=0.03)
    assert own.min() >= 0.5
    assert (mixture(rows, 0.3, seed=0, epoch=1)[1] == own).all()
    assert (mixture(rows, 0.3, seed=0, epoch=2)[1] != own).any()
    assert (mixture(rows, 0.0, seed=0, epoch=1)[1] == 1).all()


def test_a_rate_beyond_one_is_refused():
    with pytest.raises(ValidationError, match=r"(?s)deletion.*less than or equal to 1.*input_value=1.5"):
        Augmentation(deletion=1.5)
