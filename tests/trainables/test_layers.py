"""The layer table before a search: what is measured, what is passed over."""

from trainables import layers, routine
from trainables.parsing import parse

SHAPE = {"n_layers": 1, "d_model": 16, "n_heads": 1, "d_head": 16, "d_ff": 16, "patch": 4}


def test_point_without_an_architecture_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(layers.LayerTable, "_time", lambda *_: (1.0, True))
    task = {"name": "image_classification", "data": "digits"}
    whole = {"routine": "train", "values": {"task": task, "epochs": 1, **SHAPE}}
    lacking = {"routine": "subnet", "values": {"task": task, "epochs": 1, "supernet": str(tmp_path / "none")}}
    config = parse(layers.LayersConfig, {"task": task, "configs": [lacking, whole]})
    report = layers.Layers(config, routine.Workspace(tmp_path / "cache", tmp_path)).advance()
    assert report["measured"] > 0
    assert layers.read(report["table"]).missing(layers._architecture(whole), SIGNATURE) == []


SIGNATURE = {"input": "pixels", "height": 8, "width": 8, "channels": 1, "n_classes": 10, "scale": 16.0}
