"""What each compressor takes out, beside what it should; what all have in common is in tests/contracts."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from torch.nn import functional as F

from models.architecture import Architecture
from models.compression.compressor import Context, Network, Ranked, Share, best, chosen
from models.compression.embedding import Embedding, components
from models.compression.heads import Heads
from models.compression.hidden import Hidden
from models.compression.layers import Layers
from models.compression.low_rank import LowRankProducts, truncated
from models.compression.units import Units
from models.compression.vocabulary import Vocabulary, trimmed
from models.encoder import build
from models.slicing import axes

TEXT: dict[str, Any] = {"input": "tokens", "vocab_size": 30, "max_length": 9, "pad_id": 0, "n_classes": 4}
SIZES: dict[str, Any] = {"n_layers": 3, "d_model": 16, "n_heads": 3, "d_head": 4, "d_ff": 24}


@pytest.fixture(autouse=True)
def _exact():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def network(**values) -> Network:
    architecture = Architecture(**{**SIZES, **values})
    torch.manual_seed(0)
    model = build(architecture, TEXT).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return Network(model, architecture, TEXT)


def batch():
    torch.manual_seed(1)
    keep = torch.arange(9) < torch.tensor([4, 9, 7, 2])[:, None]
    return {"tokens": torch.randint(0, 30, (4, 9)), "keep": keep}, torch.tensor([0, 1, 2, 3])


CONTEXT = Context([batch()], lambda model, examples: F.cross_entropy(model(**examples[0]), examples[1]))


def logits(found: Network) -> torch.Tensor:
    return found.model(**batch()[0])


@pytest.mark.parametrize(
    ("share", "there", "kept"),
    [
        (Share(ratio=0.5), 12, 6),
        (Share(ratio=0.4), 12, 8),  # 7.2 at least
        (Share(ratio=0.9), 4, 1),
        (Share(ratio=0.5, round_to=8), 20, 16),
        (Share(ratio=0.1, round_to=8), 20, 20),
        (Share(ratio=0.3), 10, 7),  # 0.7 * 10 is a little above 7 in floating point
        (Share(keep=3, round_to=8), 12, 3),
    ],
    ids=str,
)
def test_how_many_are_kept(share, there, kept):
    assert share.kept(there, "units") == kept


def test_the_best_of_equal_ones_are_the_first():
    assert best(torch.tensor([1.0, 3.0, 1.0, 2.0]), 3) == (0, 1, 3)


def test_of_each_layer_or_of_the_whole_network():
    scores = [torch.tensor([9.0, 8.0, 7.0, 6.0]), torch.tensor([1.0, 4.0, 2.0, 3.0])]
    assert chosen(scores, Ranked(ratio=0.5), "units") == ((0, 1), (1, 3))
    assert chosen(scores, Ranked(ratio=0.5, spread="network"), "units") == ((0, 1, 2, 3), (1,))
    assert chosen(scores, Ranked(ratio=0.5, spread="network", round_to=2), "units") == ((0, 1, 2, 3), (1, 3))


@pytest.mark.parametrize(("kind", "module", "width"), [(Heads, "attention.out", 4), (Units, "feed_forward.outer", 1)])
def test_what_does_nothing_goes_first_and_leaves_no_trace(kind, module, width):
    given = network()
    with torch.no_grad():
        for block, place in zip(given.model.blocks, (0, 2, 1), strict=True):
            block.get_submodule(module).weight[:, place * width : (place + 1) * width] = 0
    there = getattr(given.architecture, {Heads: "n_heads", Units: "d_ff"}[kind])
    found = kind(kind.Config(keep=there - 1, importance="taylor")).compress(given, CONTEXT)
    torch.testing.assert_close(logits(found), logits(given), rtol=0, atol=1e-12)


def test_hidden_dimensions_that_nothing_writes_go_first():
    given = network()
    with torch.no_grad():
        for name, parameter in given.model.named_parameters():
            along = axes(given.model, name)
            if "hidden" in along and "head" not in name:
                parameter.index_fill_(along.index("hidden"), torch.tensor([3, 8]), 0.0)
    found = Hidden(Hidden.Config(keep=14)).compress(given, CONTEXT)
    kept = [i for i in range(16) if i not in (3, 8)]
    assert torch.equal(found.model.head.linear.weight, given.model.head.linear.weight[:, kept])


def test_layers_evenly_spaced_or_the_most_important():
    given = network()
    with torch.no_grad():
        for parameter in given.model.blocks[0].parameters():
            parameter.mul_(1e-6)
    spaced = Layers(Layers.Config(keep=2)).compress(given, CONTEXT)
    important = Layers(Layers.Config(ratio=0.34, importance="activation")).compress(given, CONTEXT)
    weights = [block.attention.qkv.weight for block in given.model.blocks]
    for found, layers in ((spaced, (0, 1)), (important, (1, 2))):
        for block, layer in zip(found.model.blocks, layers, strict=True):
            assert torch.equal(block.attention.qkv.weight, weights[layer])


def test_truncated_is_the_nearest_of_that_rank():
    """Eckart and Young 1936: the error is that of the singular values left out."""
    torch.manual_seed(0)
    weight, x = torch.randn(7, 5), torch.randn(40, 5) * torch.tensor([3.0, 0.1, 2.0, 0.3, 1.0])
    up, down = truncated(weight, 2)
    left_out = torch.linalg.svdvals(weight)[2:]
    torch.testing.assert_close((weight - up @ down).norm(), left_out.norm())
    up, down = truncated(weight, 2, x.T @ x)
    left_out = torch.linalg.svdvals(weight @ x.T)[2:]
    torch.testing.assert_close(((weight - up @ down) @ x.T).norm(), left_out.norm(), rtol=1e-5, atol=1e-5)


def test_products_of_low_rank_lose_nothing():
    given = network()
    with torch.no_grad():
        for block in given.model.blocks:
            for module in (block.feed_forward.inner, block.feed_forward.outer):
                module.weight.copy_(torch.randn(module.weight.shape[0], 4) @ torch.randn(4, module.weight.shape[1]))
    for importance in ("magnitude", "activation"):
        config = LowRankProducts.Config(keep=4, of="feed_forward", importance=importance)
        found = LowRankProducts(config).compress(given, CONTEXT)
        assert (found.architecture.feed_forward_rank, found.architecture.attention_rank) == (4, None)
        torch.testing.assert_close(logits(found), logits(given), rtol=0, atol=1e-5)


def test_for_real_inputs_it_is_nearer_with_whitened_ones():
    given = network()
    with torch.no_grad():  # most directions of the inputs are hardly ever taken
        given.model.blocks[0].feed_forward_norm.weight.copy_(torch.logspace(0, -3, 16))
    x_NI: list[torch.Tensor] = []
    product = given.model.blocks[0].feed_forward.inner
    product.register_forward_pre_hook(lambda _, inputs: x_NI.append(inputs[0][batch()[0]["keep"]]))
    logits(given)
    error = {}
    for importance in ("magnitude", "activation"):
        config = LowRankProducts.Config(keep=5, of="feed_forward", importance=importance)
        factored = LowRankProducts(config).compress(given, CONTEXT).model.blocks[0].feed_forward.inner
        error[importance] = (factored(x_NI[0]) - F.linear(x_NI[0], product.weight, product.bias)).norm().item()
    assert error["activation"] < 0.7 * error["magnitude"]


def test_a_ratio_that_no_rank_reaches():
    with pytest.raises(
        ValueError, match=r"^low_rank: ratio is 0.99, which rank 1 in attention of layer 0 does not reach"
    ):
        LowRankProducts(LowRankProducts.Config(ratio=0.99)).compress(network(), CONTEXT)


def test_an_embedding_of_low_rank_loses_nothing():
    given = network()
    with torch.no_grad():
        table = given.model.front_end.embedding.weight
        table.copy_(torch.randn(30, 3) @ torch.randn(3, 16))
    found = Embedding(Embedding.Config(keep=3)).compress(given, CONTEXT)
    assert found.architecture.embedding_rank == 3
    torch.testing.assert_close(logits(found), logits(given), rtol=0, atol=1e-12)


def test_components_lose_least_and_of_frequent_tokens_less():
    torch.manual_seed(0)
    table, counts = torch.randn(30, 8), torch.arange(30) ** 2
    for weights in (None, counts):
        basis = components(table, 3, weights)
        rest = table - table @ basis @ basis.T
        scale = torch.ones(30) if weights is None else weights.sqrt()
        left_out = torch.linalg.svdvals(scale[:, None] * table)[3:]
        torch.testing.assert_close((scale[:, None] * rest).norm(), left_out.norm())


def test_images_have_no_embedding():
    image = {"input": "pixels", "height": 4, "width": 4, "channels": 1, "scale": 0.1, "n_classes": 4}
    architecture = Architecture(**SIZES, patch=2)
    given = Network(build(architecture, image), architecture, image)
    with pytest.raises(
        ValueError, match="^embedding: the network reads images, must read tokens to have one; leave it"
    ):
        Embedding(Embedding.Config(ratio=0.5)).compress(given, CONTEXT)
    with pytest.raises(ValueError, match="^vocabulary: a tokenizer and counts of tokens are needed; give both"):
        Vocabulary(Vocabulary.Config(ratio=0.5)).compress(given, CONTEXT)


TEXTS = ["banana bandana", "ban and an anna", "bandana banana band", "nab a bad dab"] * 3


def wordpiece() -> Tokenizer:
    words = ["[PAD]", "[UNK]", "[CLS]", *"abdn", *(f"##{c}" for c in "abdn"), "banana", "band", "##ana", "and", "ban"]
    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 2)])
    made.add_special_tokens(["[PAD]", "[UNK]", "[CLS]"])
    made.enable_padding(pad_id=0, pad_token="[PAD]")
    return made


def byte_pairs() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = sorted({c for text in TEXTS for c in text.replace(" ", "Ġ")})
    made.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=30, special_tokens=["[PAD]", "[CLS]"], initial_alphabet=alphabet)
    )
    made.post_processor = processors.RobertaProcessing(("[CLS]", 1), ("[CLS]", 1))
    return made


def vocabulary(tokenizer: Tokenizer, keep: int) -> tuple[Network, Network, Tokenizer]:
    """The network before and after, and the new tokenizer."""
    size = tokenizer.get_vocab_size()
    tokenizer.no_padding()
    counted = Counter(number for text in TEXTS for number in tokenizer.encode(text).ids)
    signature = {**TEXT, "vocab_size": size}
    architecture = Architecture(**SIZES)
    given = Network(build(architecture, signature).eval(), architecture, signature, tokenizer.to_str())
    context = Context(token_counts=lambda: np.array([counted[i] for i in range(size)]))
    found = Vocabulary(Vocabulary.Config(keep=keep)).compress(given, context)
    assert found.tokenizer is not None
    return given, found, Tokenizer.from_str(found.tokenizer)


@pytest.mark.parametrize(("make", "keep"), [(wordpiece, 13), (byte_pairs, 12)])
def test_what_stays_is_read_as_before_and_what_went_is_split_into_pieces(make, keep):
    before = make()
    given, found, after = vocabulary(before, keep)
    assert after.get_vocab_size() == keep == found.signature["vocab_size"]
    assert set(after.get_vocab().values()) == set(range(keep))
    split = 0
    for word in ["banana", "band", "ban", "and", "anna", "bandana"]:
        old, new = before.encode(word), after.encode(word)
        assert "".join(new.tokens).replace("##", "") == "".join(old.tokens).replace("##", "")
        assert "[UNK]" not in new.tokens
        split += len(new.tokens) > len(old.tokens)
        if set(old.tokens) <= set(after.get_vocab()):
            assert new.tokens == old.tokens
            logits = [n.model(torch.tensor([e.ids])) for n, e in ((given, old), (found, new))]
            torch.testing.assert_close(*logits, rtol=0, atol=0)
    assert 0 < split < 6


def test_special_tokens_have_their_new_numbers_everywhere():
    _, _, after = vocabulary(wordpiece(), 13)
    settings = json.loads(trimmed(wordpiece().to_str(), [0, 1, 2, *range(7, 16)]))
    assert [token["id"] for token in settings["added_tokens"]] == [0, 1, 2]
    turned = json.loads(trimmed(wordpiece().to_str(), [*range(3, 16), 2, 1, 0]))
    assert [token["id"] for token in turned["added_tokens"]] == [15, 14, 13]
    assert turned["post_processor"]["special_tokens"]["[CLS]"]["ids"] == [13]
    assert turned["padding"]["pad_id"] == 15
    assert after.encode("ban").ids[0] == after.token_to_id("[CLS]")


def test_a_vocabulary_without_its_characters_is_refused():
    with pytest.raises(
        ValueError, match="^vocabulary: 9 tokens are kept, must be at least 11, the special ones and single"
    ):
        vocabulary(wordpiece(), 9)


def test_a_tokenizer_of_another_kind_is_refused():
    unigram = Tokenizer(models.Unigram([("a", -1.0), ("b", -2.0)], unk_id=0))
    with pytest.raises(
        ValueError, match="^vocabulary: the tokenizer is Unigram, must be WordPiece or BPE; leave it out$"
    ):
        vocabulary(unigram, 1)
