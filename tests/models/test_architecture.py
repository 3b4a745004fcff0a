import subprocess
import sys

import pytest
from pydantic import ValidationError

from models.architecture import (
    Architecture,
    Layer,
    PixelSignature,
    TokenSignature,
    check_fit,
    n_positions,
    parse_signature,
)

TEXT = {"input": "tokens", "vocab_size": 100, "max_length": 20, "pad_id": 0, "n_classes": 3}
IMAGE = {"input": "pixels", "height": 8, "width": 12, "channels": 3, "scale": 0.1, "n_classes": 3}


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture(),
        Architecture(n_layers=3, n_heads=(1, 2, 4), d_head=(8, 8, 6), d_ff=(10, 20, 30), positions="rotary"),
        Architecture(embedding_rank=8, embedding_norm=True, norm="rms", activation="swiglu", pooling="cls"),
    ],
)
def test_json_and_back(architecture):
    assert Architecture.model_validate_json(architecture.model_dump_json()) == architecture
    assert Architecture.model_validate_json(architecture.model_dump_json(), strict=True) == architecture


def test_every_field_is_described():
    fields = Architecture.model_json_schema()["properties"]
    assert [name for name, field in fields.items() if not field.get("description")] == []


def test_sizes_of_each_layer():
    architecture = Architecture(n_layers=2, n_heads=(2, 3), d_head=8, d_ff=(16, 32))
    assert architecture.layers == (Layer(2, 8, 16), Layer(3, 8, 32))


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("n_layers", 0, "greater than or equal to 1"),
        ("n_layers", True, "valid integer"),
        ("d_model", "128", "valid integer"),
        ("n_heads", (4, 0), "greater than or equal to 1"),
        ("d_ff", 1.5, "valid integer"),
        ("activation", "tanh", "'gelu', 'gelu_tanh', 'relu', 'silu', 'geglu' or 'swiglu'"),
        ("dropout", 1.0, "less than 1"),
        ("dropout", -0.1, "greater than or equal to 0"),
        ("norm_eps", 0.0, "greater than 0"),
        ("n_head", 4, "Extra inputs are not permitted"),
    ],
)
def test_a_bad_value_is_refused_by_name(field, value, rule):
    with pytest.raises(ValidationError) as caught:
        Architecture(**{field: value})
    (fault,) = caught.value.errors()
    assert fault["loc"][0] == field
    assert rule in fault["msg"]


def test_all_faults_between_fields_at_once():
    with pytest.raises(ValidationError) as caught:
        Architecture(n_layers=3, n_heads=(1, 2), d_head=(4, 5, 6), positions="rotary", embedding_rank=128)
    assert caught.value.errors()[0]["msg"].removeprefix("Value error, ").splitlines() == [
        "n_heads has 2 values, must have one for each of the 3 layers; give 3 values or one number for all layers",
        "d_head is (4, 5, 6), must be even for rotary positions; choose an even d_head",
        "embedding_rank is 128, must be less than d_model (128); lower it, or set it to null for a full embedding",
    ]


def test_sinusoids_need_an_even_width():
    with pytest.raises(ValidationError, match="d_model is 7, must be even for sinusoidal positions; choose an even"):
        Architecture(d_model=7, positions="sinusoidal")


def test_a_signature_is_parsed_by_its_input():
    assert parse_signature(TEXT) == TokenSignature(**TEXT)
    assert parse_signature(IMAGE) == PixelSignature(**IMAGE)
    with pytest.raises(ValidationError, match="'sound' found using 'input' does not match any"):
        parse_signature({**TEXT, "input": "sound"})
    with pytest.raises(ValidationError, match=r"vocab\n  Extra inputs are not permitted"):
        parse_signature({**TEXT, "vocab": 3})


def test_a_patch_must_divide_the_image():
    with pytest.raises(ValueError) as caught:
        check_fit(Architecture(patch=3, embedding_rank=4), parse_signature(IMAGE))
    assert str(caught.value).splitlines() == [
        "patch is 3, must divide the image's height 8 and width 12; choose one of 1, 2, 4",
        "embedding_rank is 4, must be null for images, which have no token embedding; leave it out",
    ]
    with pytest.raises(ValueError, match="patch is null, must divide the image's height 8 and width 12"):
        check_fit(Architecture(), parse_signature(IMAGE))


def test_text_has_no_patches():
    with pytest.raises(ValueError, match="patch is 2, must be null for text; leave it out"):
        check_fit(Architecture(patch=2), parse_signature(TEXT))


@pytest.mark.parametrize(
    ("fields", "signature", "expected"),
    [({}, TEXT, 20), ({"patch": 4}, IMAGE, 6), ({"patch": 4, "pooling": "cls"}, IMAGE, 7)],
)
def test_positions_are_counted(fields, signature, expected):
    assert n_positions(Architecture(**fields), parse_signature(signature)) == expected


def test_describing_and_costing_need_no_torch():
    code = "import sys, models, models.architecture, models.cost; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
