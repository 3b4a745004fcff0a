"""Artifacts beside the architecture of their teacher, in turns on one quiet core; and what they answer and weigh.

Baselines of that architecture, with random weights, which take as long as trained ones:
pytorch      float32 in torch: transformers' BertForSequenceClassification, eager, in inference mode
onnx         float32 in ONNX Runtime
onnx_int8    the same, its products and embedding quantized dynamically
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from torch import nn

from models import latency
from models.architecture import Architecture, parse_signature
from models.encoder import build
from models.export import random_feeds, to_onnx
from models.latency import INPUTS, Timing
from models.predictor import READERS, Feeds, Predictor, Tokens, read_config, session
from models.quantize import quantized
from tasks import glosses, sources, texts

PYTORCH, ONNX, INT8 = "pytorch", "onnx", "onnx_int8"
TOKENIZER = "tokenizer.json"
_FEWEST_BATCHES = 4


class Contender(NamedTuple):
    """One that takes turns.

    what: in words. read: texts to a batch as its runtime takes it. run: that batch to logits. label: one text to its
    label. size_bytes: of the files needed to predict.
    """

    what: str
    read: Callable[[Sequence[str]], Any]
    run: Callable[[Any], object]
    label: Callable[[Any], object]
    size_bytes: int


class Speed(NamedTuple):
    """p50 and p95 in milliseconds of a run; how often it goes into a run of two baselines; whether it was quiet.

    The ratios are medians of the ratios within a round. quiet: most rounds were undisturbed.
    """

    p50_ms: float
    p95_ms: float
    over_pytorch: float
    over_onnx: float
    quiet: bool


class Labelled(NamedTuple):
    """Texts and the label of each."""

    texts: list[str]
    labels: list[Any]


def glosses_test() -> Labelled:
    """The test split of the bundled glosses."""
    source = sources.read(sources.locate(glosses.PATH, None), None, None)
    drawn = texts.draw(source, {}, None, 0)
    targets = drawn.targets["test"]
    return Labelled(drawn.texts["test"].to_pylist(), [drawn.labels[target] for target in targets])


def baselines(architecture: Architecture, signature: Mapping[str, Any], tokenizer: Path) -> dict[str, Contender]:
    """The teacher's architecture in its three forms; tokenizer: the folder of its tokenizer.json."""
    signature = dict(signature)
    reader, text_bytes = Tokens(tokenizer, signature), (tokenizer / TOKENIZER).stat().st_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(architecture, signature).eval()
        rival = _bert(architecture, signature) or model
    data = to_onnx(model, random_feeds(parse_signature(signature), [5, 3], 0))
    return {
        PYTORCH: _in_torch(rival, reader, text_bytes),
        ONNX: _in_onnx("float32 in ONNX Runtime", data, reader, text_bytes),
        INT8: _in_onnx("int8 in ONNX Runtime", quantized(data, "int8"), reader, text_bytes),
    }


def shipped(folder: Path) -> Contender:
    """An artifact of texts. Raises ValueError where it cannot predict."""
    predictor = Predictor(folder)
    if not isinstance(predictor.reader, Tokens):
        raise ValueError(f"{folder} reads images, must read texts as its teacher does; choose another artifact")
    read = lambda batch: predictor.reader.batch(predictor.reader.read(batch))  # noqa: E731
    run = lambda feeds: predictor.session.run(["logits"], feeds)  # noqa: E731
    return Contender(folder.name, read, run, lambda text: predictor.predict([text]), size_bytes(folder))


def files(folder: Path) -> tuple[str, ...]:
    """Names of those that an artifact predicts with."""
    return ("config.json", "model.onnx", *READERS[read_config(folder)["signature"]["input"]].files)


def size_bytes(folder: Path) -> int:
    """Of the files that an artifact predicts with."""
    return sum((folder / name).stat().st_size for name in files(folder))


def right_answers(folder: Path, asked: Labelled, threads: int = 1) -> int:
    """How many labels an artifact gives as they are, from the text on."""
    predictor = Predictor(folder, threads=threads)
    said = predictor.logits(asked.texts).argmax(axis=-1)
    return sum(predictor.labels[number] == label for number, label in zip(said, asked.labels, strict=True))


def measure(
    contenders: Mapping[str, Contender], asked: Sequence[str], *, batch: int = 1, rounds: int = 9
) -> dict[str, Speed]:
    """Tokenized texts to logits, on one thread of one core, by contender; `pytorch` and `onnx` must be among them.

    asked: texts whose lengths the batches stand for (see `typical`). In each round every contender takes a turn on
    the same texts, each as its own tokenizer reads them.
    """
    batches = typical(asked, batch)
    with _one_thread():
        turns = {name: (each.run, [each.read(texts) for texts in batches]) for name, each in contenders.items()}
        return _speeds(_race(turns, rounds))


def measure_labels(contenders: Mapping[str, Contender], asked: Sequence[str], *, rounds: int = 5) -> dict[str, Speed]:
    """As `measure`, from a text to its label: one at a time, tokenizing included."""
    single = [text for (text,) in typical(asked, 1)]
    with _one_thread():
        return _speeds(_race({name: (each.label, single) for name, each in contenders.items()}, rounds))


def typical(asked: Sequence[str], batch: int) -> list[list[str]]:
    """A few batches of texts at evenly spaced quantiles of length in characters, dealt at random, always the same."""
    ordered, n = sorted(asked, key=lambda text: (len(text), text)), max(INPUTS // batch, _FEWEST_BATCHES) * batch
    places = ((np.arange(n) + 0.5) / n * len(ordered)).astype(int)
    dealt = np.random.default_rng(0).permutation(places).reshape(-1, batch)
    return [[ordered[place] for place in row] for row in dealt]


def _bert(architecture: Architecture, signature: Mapping[str, Any]) -> nn.Module | None:
    """transformers' model of this shape; None without transformers, or where BERT has no such shape."""
    if find_spec("transformers") is None or not _is_bert(architecture):
        return None
    from transformers import BertConfig, BertForSequenceClassification  # an extra, and slow to import

    config = BertConfig(
        num_hidden_layers=architecture.n_layers,
        hidden_size=architecture.d_model,
        num_attention_heads=architecture.n_heads,
        intermediate_size=architecture.d_ff,
        vocab_size=signature["vocab_size"],
        max_position_embeddings=signature["max_length"],
        num_labels=signature["n_classes"],
        attn_implementation="eager",  # here quicker than the default, so the harder rival
    )
    model: nn.Module = BertForSequenceClassification(config).eval()
    return model


def _is_bert(shape: Architecture) -> bool:
    """Whether BERT can have this shape: as many sizes for all layers, nothing factored, norms where BERT has them."""
    heads, width, inner = shape.n_heads, shape.d_head, shape.d_ff
    if isinstance(heads, tuple) or isinstance(width, tuple) or isinstance(inner, tuple):
        return False
    kind = (shape.activation, shape.norm, shape.norm_placement, shape.positions, shape.embedding_norm)
    ranks = {shape.embedding_rank, shape.attention_rank, shape.feed_forward_rank}
    return kind == ("gelu", "layer", "post", "learned", True) and ranks == {None} and heads * width == shape.d_model


def _in_torch(model: nn.Module, reader: Tokens, text_bytes: int) -> Contender:
    names = ("tokens", "keep") if hasattr(model, "architecture") else ("input_ids", "attention_mask")

    def read(batch: Sequence[str]) -> dict[str, torch.Tensor]:
        feeds = reader.batch(reader.read(batch))
        mask = feeds["keep"] if names[1] == "keep" else feeds["keep"].astype(np.int64)
        return {names[0]: torch.from_numpy(feeds["tokens"]), names[1]: torch.from_numpy(mask)}

    @torch.inference_mode()
    def run(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        found = model(**inputs)
        return found if isinstance(found, torch.Tensor) else found.logits

    weights = safetensors.torch.save({name: value.clone() for name, value in model.state_dict().items()})
    label = lambda text: int(run(read([text])).argmax())  # noqa: E731
    return Contender(f"float32 in PyTorch ({type(model).__name__})", read, run, label, len(weights) + text_bytes)


def _in_onnx(what: str, data: bytes, reader: Tokens, text_bytes: int) -> Contender:
    ready = session(data, threads=1)

    def read(batch: Sequence[str]) -> Feeds:
        return reader.batch(reader.read(batch))

    def run(feeds: Feeds) -> Any:
        return ready.run(["logits"], feeds)[0]

    return Contender(what, read, run, lambda text: int(run(read([text])).argmax()), len(data) + text_bytes)


def _race(turns: Mapping[str, tuple[Callable[[Any], object], list[Any]]], rounds: int) -> list[dict[str, Timing]]:
    """The timings of each round; every other round goes backwards, and each pair of rounds begins with another."""
    names, found = list(turns), []
    for number in range(rounds):
        first = number // 2 % len(names)
        order = [*names[first:], *names[:first]][:: -1 if number % 2 else 1]
        taken = {name: latency.measure(*turns[name], rounds=1) for name in order}
        found.append({name: taken[name] for name in names})
    return found


def _speeds(rounds: list[dict[str, Timing]]) -> dict[str, Speed]:
    return {name: _speed(rounds, name) for name in rounds[0]}


def _speed(rounds: list[dict[str, Timing]], name: str) -> Speed:
    """Of the rounds in which this one and both baselines were undisturbed, or of all if there was none."""
    kept = [each for each in rounds if all(each[one].quiet for one in (name, PYTORCH, ONNX))]
    used = kept or rounds
    over = {base: statistics.median(each[base].p50_ms / each[name].p50_ms for each in used) for base in (PYTORCH, ONNX)}
    return Speed(
        p50_ms=statistics.median(each[name].p50_ms for each in used),
        p95_ms=statistics.median(each[name].p95_ms for each in used),
        over_pytorch=over[PYTORCH],
        over_onnx=over[ONNX],
        quiet=2 * len(kept) > len(rounds),
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
