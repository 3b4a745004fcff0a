import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertForSequenceClassification,
    BertModel,
    DistilBertForSequenceClassification,
)

from models.pretrained_classifier import describe, load
from tests.models.test_pretrained import BERT, DISTILBERT, padded, saved

NAMES = {0: "sad", 1: "happy", 2: "10", 3: "9"}
ORDER = [3, 2, 1, 0]  # 9, 10, happy, sad


@pytest.fixture(params=[(BertForSequenceClassification, BERT), (DistilBertForSequenceClassification, DISTILBERT)])
def theirs(request):
    kind, config = request.param
    config = type(config).from_dict({**config.to_dict(), "id2label": NAMES, "label2id": None, "num_labels": 4})
    torch.manual_seed(0)
    return kind(config).eval()


def test_answers_as_that_of_transformers(theirs, tmp_path):
    found = describe(saved(theirs, tmp_path))
    assert found.labels == ["9", "10", "happy", "sad"]
    tokens, keep = padded(5, 16, 60)
    with torch.no_grad():
        expected = theirs(tokens, attention_mask=keep.long()).logits[:, ORDER]
        torch.testing.assert_close(load(found)(tokens, keep), expected, rtol=0, atol=1e-5)
    assert found.signature == {"input": "tokens", "vocab_size": 60, "max_length": 16, "pad_id": 0, "n_classes": 4}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, "id2label names no labels, must name each class; write them"),
        ({"problem_type": "regression"}, "problem_type is 'regression', must be one class an example; choose another"),
    ],
)
def test_faults_of_its_config(theirs, tmp_path, change, fault):
    with pytest.raises(ValueError, match=fault):
        describe(saved(theirs, tmp_path, **change))


def test_an_encoder_without_a_head(tmp_path):
    with pytest.raises(ValueError, match="has no classification head, must be fine-tuned: give it to routine train"):
        describe(saved(BertModel(BERT), tmp_path))


def test_weights_without_the_head(theirs, tmp_path):
    found = describe(saved(theirs, tmp_path))
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["classifier.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"lacks classifier\.bias, must hold its whole head; fetch it again"):
        load(found)


def test_config_without_labels(theirs, tmp_path):
    saved(theirs, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "id2label": {}}))
    with pytest.raises(ValueError, match="id2label names no labels"):
        describe(tmp_path)
