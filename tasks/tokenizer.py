"""Texts to token ids: WordPiece or byte-pair vocabularies trained on the data, or those of a pretrained model.

WordPiece: Schuster and Nakajima, 2012, as in BERT; byte-level byte pairs: Radford et al., 2019. The only file of
`tasks` that may look on the Hugging Face hub.
"""

import itertools
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tasks.task import DataError

PAD, UNKNOWN, START, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
SETTINGS = "tokenizer_config.json"
CHUNK = 10_000  # texts in flight at once, which bounds the memory
LONGEST_TEXT = 20_000  # characters of a text that a vocabulary is trained on
_LONG_WORD = re.compile(r"(\S{100})(?=\S)")  # where words are broken, since training takes the square of their length


def train(texts: Sequence[str], kind: str, vocab_size: int) -> Tokenizer:
    """A vocabulary of `vocab_size` tokens for the texts; the same one on every machine.

    Texts begin with [CLS], so that none is without a position and every kind of pooling works; without [SEP], which
    tells a classifier nothing.
    """
    texts = [_LONG_WORD.sub(r"\1 ", text[:LONGEST_TEXT]) for text in texts]
    tokenizer = _wordpiece(texts, vocab_size) if kind == "wordpiece" else _byte_pairs(texts, vocab_size)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, tokenizer.token_to_id(START))]
    )
    return tokenizer


def _wordpiece(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    trained = _bert(models.WordPiece(unk_token=UNKNOWN))
    # The trainer numbers the tokens "##x" as it meets them, in an order that changes from run to run, and breaks
    # ties by number. Given beforehand they have fixed ones; the tokenizer is then built anew without these as
    # special tokens.
    fixed = [f"##{letter}" for letter in _inner_letters(map(trained.normalizer.normalize_str, texts))]
    special = [PAD, UNKNOWN, START]
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=special + fixed, show_progress=False)
    trained.train_from_iterator(texts, trainer)
    tokenizer = _bert(models.WordPiece(trained.get_vocab(), unk_token=UNKNOWN))
    tokenizer.add_special_tokens(special)
    return tokenizer


def _bert(model: Any, lowercase: bool = True) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _inner_letters(texts: Iterable[str]) -> list[str]:
    """Every character that follows another one within a word (and some more, which does no harm)."""
    pairs = {pair for text in texts for pair in itertools.pairwise(text)}
    return sorted({after for before, after in pairs if not before.isspace() and not after.isspace()})


def _byte_pairs(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, START],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def locate(pretrained: str) -> list[Path]:
    """The files that make up the tokenizer of a folder, or of a model on the hub, the first to be opened.

    Either tokenizer.json, or vocab.txt with its settings. Raises DataError.
    """
    folder = Path(pretrained).expanduser()
    if folder.is_dir():
        return _in_folder(folder)
    if folder.is_absolute() or pretrained.startswith((".", "~")) or pretrained.count("/") > 1:
        raise DataError([f"tokenizer: the folder {pretrained} does not exist; give that of a pretrained model."])
    return [_from_hub(pretrained)]


def _in_folder(folder: Path) -> list[Path]:
    for names in (["tokenizer.json"], ["vocab.txt", SETTINGS]):
        found = [folder / name for name in names if (folder / name).is_file()]
        if folder / names[0] in found:
            return found
    raise DataError([f"tokenizer: the folder {folder} has neither tokenizer.json nor vocab.txt; add one."])


def _from_hub(name: str) -> Path:
    """From the hub's local cache if it is there, so that a trial needs no network."""
    try:
        import huggingface_hub as hub  # an extra: only names on the hub need it
    except ImportError as error:
        raise DataError(
            [
                f"tokenizer: {name!r} is no folder, and looking on the Hugging Face hub needs huggingface_hub; install "
                f"it (`pip install 'fitformer[pretrained]'`) or give a folder."
            ]
        ) from error
    for local in (True, False):
        try:
            return Path(hub.hf_hub_download(name, "tokenizer.json", local_files_only=local))
        except (OSError, ValueError, RuntimeError) as error:
            last = error
    reason = str(last).strip().splitlines()[0][:200]
    raise DataError(
        [f"tokenizer: {name!r} is no folder and could not be had from the Hugging Face hub: {reason}; give a folder."]
    )


def open_pretrained(path: Path) -> Tokenizer:
    """The tokenizer in the first file that `locate` found; texts go between [CLS] and [SEP], as the model expects."""
    try:
        tokenizer = _from_vocab(path) if path.name == "vocab.txt" else Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise DataError([f"tokenizer: {path} cannot be read: {str(error)[:200]}; give a tokenizer.json."]) from error
    ends = [(token, tokenizer.token_to_id(token)) for token in (START, END)]
    if tokenizer.post_processor is None and all(number is not None for _, number in ends):
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{START} $A {END}", special_tokens=ends)
    return tokenizer


def _from_vocab(path: Path) -> Tokenizer:
    """BERT's own tokenizer from its list of tokens, one a line."""
    settings = path.parent / SETTINGS
    lowercase = json.loads(settings.read_text()).get("do_lower_case", True) if settings.is_file() else True
    tokens = path.read_text(encoding="utf-8").splitlines()
    vocab = {token: number for number, token in enumerate(tokens)}
    tokenizer = _bert(models.WordPiece(vocab, unk_token=UNKNOWN), lowercase)
    tokenizer.add_special_tokens([token for token in (PAD, UNKNOWN, START, END, "[MASK]") if token in vocab])
    return tokenizer


def pad_id(tokenizer: Tokenizer) -> int:
    """The token that fills a batch up: what the tokenizer says, else the usual names, else 0."""
    if tokenizer.padding:
        return int(tokenizer.padding["pad_id"])
    found = [tokenizer.token_to_id(token) for token in (PAD, "<pad>")]
    return next((number for number in found if number is not None), 0)


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int32], int]:
    """(ids of all texts in a row, length of each, how many were cut to the tokenizer's maximum)."""
    pieces, lengths, cut = [], [], 0
    for start in range(0, len(texts), CHUNK):
        encodings = _encodings(tokenizer, texts[start : start + CHUNK])
        pieces += [np.asarray(encoding.ids, np.int32) for encoding in encodings]
        lengths += [len(encoding.ids) for encoding in encodings]
        cut += sum(bool(encoding.overflowing) for encoding in encodings)
    return np.concatenate(pieces), np.asarray(lengths, np.int32), cut


def _encodings(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Any]:
    """As of whole texts, but of long ones only the beginning is read if it has enough tokens."""
    assert tokenizer.truncation is not None
    reach = 16 * tokenizer.truncation["max_length"]
    encodings = tokenizer.encode_batch_fast([_beginning(text, reach) for text in texts])
    for row, encoding in enumerate(encodings):
        if len(texts[row]) > reach and not encoding.overflowing:
            encodings[row] = tokenizer.encode(texts[row])
    return list(encodings)


def _beginning(text: str, reach: int) -> str:
    """At most `reach` characters, and no part of a word, whose tokens would be others than those of the whole."""
    if len(text) <= reach:
        return text
    words = text[:reach].rsplit(maxsplit=1)
    return words[0] if len(words) == 2 else ""
