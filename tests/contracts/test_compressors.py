"""What every compressor keeps, found and not listed: a new file is tested without touching this one."""

import json
from typing import Any, get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch.nn import functional as F

from models import artifact, cost
from models.architecture import Architecture
from models.compression import compressor
from models.compression.compressor import Context, Network
from models.encoder import build
from models.predictor import Predictor

WORDS = ["[PAD]", "[UNK]", "[CLS]", *"abcdef", *(f"##{c}" for c in "abcdef")]
WORDS += [a + b for a in "abcd" for b in "abcdef"] + [f"##{a}{b}" for a in "ab" for b in "abcdef"]
TEXT = {"input": "tokens", "vocab_size": len(WORDS), "max_length": 12, "pad_id": 0, "n_classes": 5}
IMAGE = {"input": "pixels", "height": 4, "width": 6, "channels": 2, "scale": 0.1, "n_classes": 5}
SIZES: dict[str, Any] = {"n_layers": 3, "d_model": 24, "n_heads": (2, 4, 3), "d_head": (4, 8, 6), "d_ff": (32, 24, 40)}
KINDS: list[dict[str, Any]] = [
    {"norm_placement": "post", "embedding_norm": True},
    {"positions": "alibi", "activation": "swiglu", "norm": "rms"},
    {"positions": "sinusoidal", "embedding_rank": 12, "attention_rank": 5},
    {"patch": 2, "pooling": "cls"},
]


@pytest.fixture(params=compressor.find())
def kind(request):
    return compressor.load(request.param)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tokenizer() -> str:
    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 2)])
    made.add_special_tokens(["[PAD]", "[UNK]", "[CLS]"])
    return made.to_str()


def network(**values) -> Network:
    signature = IMAGE if "patch" in values else TEXT
    architecture = Architecture(**{**SIZES, **values})
    torch.manual_seed(0)
    model = build(architecture, signature)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return Network(model, architecture, signature, tokenizer() if signature is TEXT else None)


def context(signature) -> Context:
    def loss(model, batch):
        inputs, targets = batch
        return F.cross_entropy(model(**inputs), targets)

    batches = [(inputs(signature), torch.tensor([0, 1, 2]))]
    return Context(batches, loss, lambda: np.random.default_rng(0).integers(0, 99, len(WORDS)))


def inputs(signature) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    if signature["input"] == "pixels":
        return {"pixels": torch.rand(3, 4, 6, 2)}
    keep = torch.arange(9) < torch.tensor([4, 9, 7])[:, None]
    return {"tokens": torch.randint(0, signature["vocab_size"], (3, 9)), "keep": keep}


def compressed(kind, given: Network, **values) -> Network:
    return kind(kind.Config(**values)).compress(given, context(given.signature))


def has(kind, given: Network) -> bool:
    """Whether this network has what the compressor removes; if not, the compressor says so in a line."""
    if given.signature["input"] == "tokens":
        return True
    try:
        compressed(kind, given, ratio=0.5)
    except ValueError as error:
        assert len(str(error).splitlines()) == 1
        return False
    return True


@pytest.mark.parametrize("values", KINDS, ids=str)
def test_it_is_smaller_and_gives_logits_of_the_same_shape(kind, values):
    given = network(**values)
    if not has(kind, given):
        return
    found = compressed(kind, given, ratio=0.5)
    before, after = (cost.params(n.architecture, n.signature) for n in (given, found))
    assert sum(p.numel() for p in found.model.parameters()) == after < before
    operations = [cost.flops(n.architecture, n.signature, 9) for n in (given, found)]
    assert operations[1] <= operations[0] or found.architecture.embedding_rank != given.architecture.embedding_rank
    assert found.model(**inputs(found.signature)).shape == (3, 5)
    assert kind(kind.Config()).size(found) < kind(kind.Config()).size(given)


def test_its_artifact_has_the_same_logits(kind, tmp_path):
    ship(compressed(kind, network(**KINDS[0]), ratio=0.5), tmp_path)


def ship(found: Network, folder) -> None:
    """The artifact has the very logits in torch, equal ones in ONNX, and predicts with the tokenizer."""
    files = {}
    if found.tokenizer is not None:
        (folder / "t").write_text(found.tokenizer)
        files = {"tokenizer.json": folder / "t"}
    artifact.save(
        folder / "a",
        found.model,
        architecture=found.architecture,
        signature=found.signature,
        labels=list("vwxyz"),
        files=files,
        metrics={},
        origin=artifact.Origin(name="toy", task="toy", data="toy", fingerprint="0"),
    )
    loaded, config = artifact.load(folder / "a")
    assert config["architecture"] == json.loads(found.architecture.model_dump_json())
    batch = inputs(found.signature)
    assert torch.equal(loaded(**batch), found.model.eval()(**batch))
    if found.tokenizer is not None:
        assert Predictor(folder / "a").logits(["ab fa", "dd"]).shape == (2, 5)


def test_without_a_ratio_it_is_the_very_network(kind):
    given = network()
    assert compressed(kind, given) is given
    assert compressed(kind, given, ratio=0.0) is given


def test_the_given_network_is_left_as_it_was(kind):
    given = network().model.train()
    before = {name: value.clone() for name, value in given.state_dict().items()}
    whole = Network(given, given.architecture, TEXT, tokenizer())
    found = compressed(kind, whole, ratio=0.5)
    with torch.no_grad():
        for parameter in found.model.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())
    assert given.training
    assert found.model.training


def test_more_is_removed_at_a_higher_ratio(kind):
    found = [compressed(kind, network(), ratio=ratio) for ratio in (0.25, 0.6)]
    sizes = [cost.params(n.architecture, n.signature) for n in found]
    assert sizes[0] > sizes[1]


def test_a_number_instead_of_a_ratio(kind):
    found = compressed(kind, network(), keep=2 if "vocab" not in kind.__name__.lower() else 20)
    assert cost.params(found.architecture, found.signature) < cost.params(network().architecture, TEXT)


def test_every_importance_there_is(kind):
    field = kind.Config.model_fields.get("importance")
    for name in options(field.annotation) if field else []:
        found = compressed(kind, network(), ratio=0.5, importance=name)
        assert found.architecture != network().architecture
        if name in ("taylor", "activation"):
            with pytest.raises(ValueError, match=f"importance is {name}, which needs [^\n]*choose magnitude$"):
                kind(kind.Config(ratio=0.5, importance=name)).compress(network(), Context())


def options(annotation) -> list[str]:
    return [o for member in get_args(annotation) for o in ([member] if isinstance(member, str) else options(member))]


@pytest.mark.parametrize("values", [{"ratio": 1.0}, {"ratio": -0.1}, {"keep": 0}, {"rate": 0.1}], ids=str)
def test_what_would_leave_nothing_or_is_no_share_is_refused(kind, values):
    with pytest.raises(ValidationError):
        kind.Config(**values)


def test_more_than_there_is_is_refused(kind):
    with pytest.raises(ValueError, match=r"keep is 5000, must be at most \d+, all there are; lower it$"):
        compressed(kind, network(), keep=5000)


def test_every_setting_is_explained(kind):
    assert [name for name, field in kind.Config.model_fields.items() if not field.description] == []
    assert kind.Config.model_config["frozen"] is True


def test_an_unknown_compressor_is_refused_with_what_there_is():
    with pytest.raises(
        ValueError, match="compressor is 'head', must be one of embedding, heads, hidden, layers, low_rank"
    ):
        compressor.load("head")
