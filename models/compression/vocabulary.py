"""Fewer entries of the vocabulary (Abdaoui et al. 2020, arXiv:2010.05609); a word that goes is split into pieces."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.architecture import Size
from models.compression.compressor import Context, Network, Share
from models.slicing import Keep

Json = dict[str, Any]


class VocabularyConfig(Share):
    """How much of the vocabulary goes."""

    round_to: Size = Field(8, description="what a ratio keeps is rounded up to a multiple of this")


class Vocabulary:
    """Takes the tokens out that occur least, in the table and in the tokenizer.

    Special tokens, single characters and single characters that go on a word stay, so that whatever could be read
    before can be read afterwards. Knows WordPiece and BPE.
    """

    Config = VocabularyConfig

    def __init__(self, config: VocabularyConfig) -> None:
        self.config = config

    def size(self, network: Network) -> float:
        """How many entries there are. Raises ValueError where the network reads none."""
        if network.signature["input"] != "tokens":
            raise ValueError("vocabulary: the network reads images, must read tokens to have one; leave it out")
        return float(network.signature["vocab_size"])

    def compress(self, network: Network, context: Context) -> Network:
        """See `models.compression.compressor.Compressor`."""
        if self.config.nothing:
            return network
        if network.tokenizer is None or context.token_counts is None:
            raise ValueError("vocabulary: a tokenizer and counts of tokens are needed; give both, or leave it out")
        settings = json.loads(network.tokenizer)
        kept = self.config.kept(network.signature["vocab_size"], "vocabulary")
        tokens = _chosen(settings, context.token_counts(), kept, network.signature["pad_id"])
        return network.sliced(Keep(tokens=tokens))._replace(tokenizer=trimmed(network.tokenizer, tokens))


def trimmed(tokenizer: str, tokens: Sequence[int]) -> str:
    """A tokenizer.json with these entries only, numbered in their order."""
    settings, number = json.loads(tokenizer), {old: new for new, old in enumerate(tokens)}
    model = settings["model"]
    model["vocab"] = {token: number[old] for token, old in model["vocab"].items() if old in number}
    if "merges" in model:
        model["merges"] = [merge for merge in model["merges"] if "".join(_pair(merge)) in model["vocab"]]
    for part in ("added_tokens", "post_processor", "padding"):
        settings[part] = _renumbered(settings.get(part), number)
    return json.dumps(settings, ensure_ascii=False)


def _chosen(settings: Json, counts_V: NDArray[np.int64], kept: int, pad_id: int) -> tuple[int, ...]:
    model = settings["model"]
    known = {"WordPiece": _pieces, "BPE": _merged}
    if model.get("type") not in known:
        raise ValueError(
            f"vocabulary: the tokenizer is {model.get('type')}, must be {' or '.join(known)}; leave it out"
        )
    needed, often_V = known[model["type"]](model, counts_V)
    needed |= {pad_id, *(token["id"] for token in settings["added_tokens"])}
    if kept < len(needed):
        raise ValueError(
            f"vocabulary: {kept} tokens are kept, must be at least {len(needed)}, the special ones and single "
            "characters; keep more"
        )
    often_V[list(needed)] = np.iinfo(np.int64).max
    return tuple(sorted(np.argsort(-often_V, kind="stable")[:kept].tolist()))


def _pieces(model: Json, counts_V: NDArray[np.int64]) -> tuple[set[int], NDArray[np.int64]]:
    """Which tokens of a WordPiece model have to stay, and how often each occurs."""
    prefix = model.get("continuing_subword_prefix", "##")
    needed = {number for token, number in model["vocab"].items() if len(token.removeprefix(prefix)) == 1}
    return needed | {model["vocab"][model["unk_token"]]}, counts_V.copy()


def _merged(model: Json, counts_V: NDArray[np.int64]) -> tuple[set[int], NDArray[np.int64]]:
    """The same for byte pairs: what is merged from nothing stays, and a part is needed as often as its wholes."""
    vocab, often_V = model["vocab"], counts_V.copy()
    merges = [_pair(merge) for merge in model["merges"]]
    for left, right in reversed(merges):
        for part in (left, right):
            often_V[vocab[part]] += often_V[vocab[left + right]] + 1
    return set(vocab.values()) - {vocab[left + right] for left, right in merges}, often_V


def _pair(merge: str | list[str]) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _renumbered(value: Any, number: dict[int, int]) -> Any:
    """The same with new numbers wherever the tokenizers library keeps the number of a token."""
    if isinstance(value, list):
        return [_renumbered(each, number) for each in value]
    if not isinstance(value, dict):
        return value
    found = {key: _renumbered(each, number) for key, each in value.items()}
    for key in ("id", "pad_id"):
        if isinstance(found.get(key), int):
            found[key] = number[found[key]]
    if "ids" in found:
        found["ids"] = [number[old] for old in found["ids"]]
    for key in ("sep", "cls"):
        if key in found:
            found[key] = [found[key][0], number[found[key][1]]]
    return found


COMPRESSOR = Vocabulary
