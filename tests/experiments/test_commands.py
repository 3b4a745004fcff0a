"""The command line without Ray: what reads, and what is refused."""

import json
import os
from argparse import Namespace

import pytest

from experiments import __main__ as command_line
from experiments import commands, records
from experiments.engine import fit, runs
from experiments.engine.events import Reported, Segment, Started, to_record
from experiments.engine.lease import Lease
from experiments.engine.ledger import Ledger
from trainables.store import StorageError, Store


@pytest.fixture
def cli(capsys, tmp_path, monkeypatch):
    """Runs a command in an empty folder: (exit code, standard output, lines of standard error)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FITFORMER_CACHE", str(tmp_path / "cache"))

    def run(*arguments):
        code = command_line.main(arguments)
        out, err = capsys.readouterr()
        return code, out, err.splitlines()

    return run


def experiment(**changes):
    stage = {"name": "search", "space": ["encoder", "optimization"], "options": {"patch": 2}, "trials": 2, "epochs": 1}
    task = {"name": "image_classification", "data": "digits"}
    return json.dumps({"name": "tiny", "task": task, "stages": [stage], **changes})


def stage(**changes):
    return {"name": "search", "space": ["encoder"], "options": {"patch": 2}, "trials": 2, "epochs": 1, **changes}


def test_list_says_each_experiment(cli):
    code, out, _ = cli("list")
    assert code == 0
    assert "quickstart" in out


def test_json_is_all_there_is_on_standard_output(cli):
    code, out, err = cli("show", "quickstart", "--json")
    told = json.loads(out)
    assert (code, err) == (0, [])
    assert told["stages"][0]["trials"] >= 12
    assert {row["name"] for row in told["stages"][0]["space"]} >= {"n_layers", "learning_rate"}
    assert json.loads(cli("list", "--json")[1])[0].keys() == {"name", "description"}
    assert json.loads(cli("runs", "--json")[1]) == []


def test_list_needs_nothing_that_is_not_installed(cli, monkeypatch):
    monkeypatch.setattr("experiments.engine.strategies.optuna.importlib.util.find_spec", lambda _: None)
    assert cli("show", "digits_optuna")[0] == 2
    code, out, _ = cli("list")
    assert (code, "digits_optuna" in out) == (0, True)


def test_show_tells_the_options_of_a_strategy_with_what_they_mean(cli):
    _, out, _ = cli("show", "digits_two_phase")
    assert "  evolution.population = 8: " in out
    assert "  promotion.eta = 3: " in out
    told = json.loads(cli("show", "digits_pbt", "--json")[1])["stages"][0]["options"]
    assert told.keys() == {"STRATEGY"}
    assert all(option["means"] for option in told["STRATEGY"])


def test_show_tells_the_options_of_a_routine_if_asked(cli):
    _, out, _ = cli("show", "digits_distill", "--options")
    assert '  distill.teacher = "stages.teacher": folder of an artifact' in out
    assert "  distill.temperature = 2: by which all logits are divided" in out
    routines = [
        stage["routine"] for stage in json.loads(cli("show", "glosses_frontier", "--options", "--json")[1])["stages"]
    ]
    assert {"teacher", "choices", "drawn"} <= {option["option"] for option in routines[2]}
    code, _, err = cli("show", "digits_distill", "--options", "--set", "stages.students.routine=distil")
    assert code == 2
    assert err[0].startswith("fitformer: there is no routine 'distil'; there are: ")


def test_show_reads_settings(cli):
    _, out, _ = cli("show", "quickstart", "--set", "stages.search.trials=77", "--json")
    assert json.loads(out)["spec"]["stages"][0]["trials"] == 77


BAD = {
    "unknown experiment": (["run", "quickstrat"], "there is no experiment 'quickstrat'; did you mean 'quickstart'?"),
    "unknown key": (["run", "quickstart", "--set", "stages.search.trails=5"], "did you mean 'trials'?"),
    "no trials": (["run", "quickstart", "--set", "stages.search.trials=0"], "trials must be at least 1, got 0"),
    "other storage": (
        ["run", "quickstart", "--storage", "ftp://x/y"],
        "storage 'ftp://x/y' must be a path or begin with one of",
    ),
    "missing data": (["fit", "there-is-none.csv", "--label", "y"], "there-is-none.csv"),
    "no run": (["report"], "there is no run yet"),
    "unknown run": (["report", "quickstart-20260101-abcd"], "run 'quickstart-20260101-abcd' does not exist"),
    "deleting outside": (["runs", "delete", "../x"], "run '../x' does not exist"),
    "no artifact": (["predict", "nowhere", "text"], "artifact 'nowhere' is neither a folder nor a run"),
    "bad time": (["fit", "x.csv", "--time", "soon"], "time must be seconds above 0"),
    "bad limit": (["fit", "x.csv", "--max-latency-ms", "nan"], "max_latency_ms must be above 0, got nan"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_code_two(cli, tmp_path, arguments, message):
    code, out, err = cli(*arguments)
    assert code == 2
    assert out == ""
    assert any(message in line for line in err), err
    assert all(line.startswith("fitformer: ") for line in err)
    assert list(tmp_path.iterdir()) == []


BAD_FILES = {
    "name": (experiment(name="../x"), "name must be"),
    "task": (experiment(task={"name": "image_classifcation"}), "did you mean 'image_classification'?"),
    "task option": (experiment(task={"name": "image_classification", "dta": "digits"}), "did you mean 'data'?"),
    "target": (experiment(target={"device": "tpu"}), "supported is onnxruntime on cpu"),
    "routine": (experiment(stages=[stage(routine="trian")]), "there is no routine 'trian'"),
    "routine option": (experiment(stages=[stage(options={"patch": 2, "epcohs": 1})]), "did you mean 'epochs'?"),
    "patch": (experiment(stages=[stage(options={"patch": 3})]), "patch is 3, must divide the image's height 8"),
    "initial": (experiment(stages=[stage(initial=[{"n_layers": 99}])]), "n_layers"),
}


@pytest.mark.parametrize(("text", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_experiment_file_writes_nothing(cli, tmp_path, text, message):
    path = tmp_path / "e.yaml"
    path.write_text(text)
    code, out, err = cli("run", str(path))
    assert code == 2
    assert out == ""
    assert any(message in line for line in err), err
    assert not (tmp_path / "results").exists()


def test_all_faults_at_once(cli, tmp_path):
    (tmp_path / "e.yaml").write_text(
        experiment(target={"device": "tpu"}, task={"name": "image_classification", "data": "nowhere.npz"})
    )
    code, _, err = cli("run", str(tmp_path / "e.yaml"), "--storage", "s9://x")
    assert code == 2
    assert [any(word in line for line in err) for word in ("tpu", "nowhere.npz", "s9://")] == [True] * 3


@pytest.mark.parametrize(("content", "reason"), [(b"", "No data left in file"), (b"\x93NUMPY", "EOF")])
def test_array_file_that_is_none_is_refused(tmp_path, content, reason):
    (tmp_path / "inputs.npy").write_bytes(content)
    with pytest.raises(ValueError, match=rf"inputs.npy' cannot be read as .npy: {reason}.*; write it with numpy.save$"):
        records._arrays(tmp_path / "inputs.npy")


def test_storage_that_is_a_file_is_refused(cli, tmp_path):
    (tmp_path / "taken").write_text("")
    code, _, err = cli("run", "digits", "--storage", str(tmp_path / "taken"))
    assert code == 2
    assert any("must be a folder" in line for line in err)


def test_storage_that_cannot_be_written_is_refused(cli):
    code, _, err = cli("run", "digits", "--storage", "/proc/results")  # not even for root
    assert code == 2
    assert any("must be writable, but /proc is not" in line for line in err)


def opened(storage, name="tiny", finished=False):
    folder = runs.create(storage, name).local
    with Ledger(folder) as book:
        book.append({"event": "opened", "fingerprint": "f", "spec": {"name": name}, "data": {}, "at": 0})
        if finished:
            book.append({"event": "finished", "code": 0, "at": 1})
    return folder


def test_runs_are_listed_and_deleted(cli, tmp_path):
    folder = opened(tmp_path / "results", finished=True)
    (tmp_path / "results" / "notes").mkdir()
    assert [run["run"] for run in json.loads(cli("runs", "--json")[1])] == [folder.name]
    assert cli("runs", "delete", folder.name)[0] == 0
    assert not folder.exists()
    assert (tmp_path / "results" / "notes").exists()


def worked_on(storage, *events):
    """A run with a search and these events, as its driver left it."""
    store = runs.create(storage, "tiny")
    spec = {"name": "tiny", "stages": [{"name": "search", "trials": 2}], "objectives": {"val_accuracy": "max"}}
    with Ledger(store) as book:
        book.append({"event": "opened", "fingerprint": {}, "spec": spec, "data": {}, "at": 0})
        for event in events:
            book.append({**to_record(event), "verdict": "stop", "at": 1})
    return store


def segment(number, trial):
    return Started(Segment(number, "search", trial, 0, {}, 1))


@pytest.fixture
def driven(tmp_path):
    """A run that this process holds the lease of: search-000 is done, search-001 runs."""
    done = Reported(0, 1, {"val_accuracy": 0.5})
    store = worked_on(tmp_path / "results", segment(0, 0), done, segment(1, 1))
    with Lease.take(store):
        yield store


@pytest.mark.parametrize("trial", [(), ("search-001",)])
def test_cancelling_asks_the_driver(cli, driven, trial):
    code, out, err = cli("runs", "cancel", driven.name, *trial)
    assert (code, err) == (0, [])
    assert f"asked pid {os.getpid()} on " in out
    (name,) = driven.names("requests")
    assert json.loads(driven.read(name)) == {"cancel": trial[0] if trial else None}


@pytest.mark.parametrize(
    ("trial", "message"),
    [
        ("search-000", "trial 'search-000' has ended already (completed); running: search-001"),
        ("search-009", "has no trial 'search-009'; running: search-001"),
        ("../x", "has no trial '../x'; running: search-001"),
    ],
)
def test_what_does_not_run_is_not_cancelled(cli, driven, trial, message):
    code, _, err = cli("runs", "cancel", driven.name, trial)
    assert code == 2
    assert message in err[0]
    assert driven.names("requests") == []


def test_run_without_a_driver_is_not_cancelled(cli, tmp_path):
    store = worked_on(tmp_path / "results")
    code, _, err = cli("runs", "cancel", store.name)
    assert (code, err) == (
        2,
        [f"fitformer: run {store.name} has no driver, so there is nothing to cancel; see `runs list`"],
    )


def test_run_with_a_driver_is_not_deleted(cli, driven):
    code, _, err = cli("runs", "delete", driven.name)
    assert code == 2
    assert f"is run by pid {os.getpid()}; cancel it first" in err[0]
    assert driven.exists("ledger.jsonl")


def test_listing_says_how_each_run_stands(cli, tmp_path, driven):
    ended, left, broken = (
        opened(tmp_path / "results", finished=True),
        *(worked_on(tmp_path / "results") for _ in range(2)),
    )
    text = (broken.local / "ledger.jsonl").read_text()
    (broken.local / "ledger.jsonl").write_text(text.replace("tiny", "tinx"))
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in cli("runs", "list")[1].splitlines()}
    assert lines[driven.name].startswith(f"running: pid {os.getpid()} on ")
    assert lines[ended.name] == "finished (0)"
    assert lines[left.name] == "unfinished"
    assert lines[broken.name].startswith("damaged: ")
    rows = {row["run"]: row for row in json.loads(cli("runs", "--json")[1])}
    assert (rows[ended.name]["code"], rows[left.name]["code"]) == (0, None)
    assert rows[driven.name]["running"]["pid"] == os.getpid()


def test_options_may_stand_between_the_words(cli, driven):
    assert cli("runs", "cancel", driven.name, "--storage", "results", "search-001")[0] == 0
    with pytest.raises(SystemExit) as refused:
        cli("predict", "a", "--top", "3", "text", "and more")
    assert refused.value.code == 2
    code, _, err = cli("predict", "nowhere", "--top", "3", "text")
    assert code == 2
    assert "artifact 'nowhere' is neither a folder nor a run" in err[-1]


def test_artifact_of_a_run_in_an_object_store_is_fetched(bucket, tmp_path, monkeypatch):
    store = worked_on(Store(bucket))
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "config.json").write_text("{}")
    store.put(tmp_path / "made", "artifacts/search-000")
    place = f"{store.shown}/artifacts/search-000"
    monkeypatch.setattr(records, "summary_of", lambda run: {"chosen": {"artifact": place}})
    with records._artifact(Namespace(artifact=store.name, storage=bucket)) as folder:
        assert (folder / "config.json").read_text() == "{}"
    assert not folder.exists()


def test_storage_that_fails_is_code_five(cli, monkeypatch):
    def failing(*_):
        raise StorageError("storage: x could not be written (No space left on device); make room there")

    monkeypatch.setattr(records, "report", failing)
    code, _, err = cli("report")
    assert (code, err) == (5, ["fitformer: storage: x could not be written (No space left on device); make room there"])


@pytest.mark.parametrize(
    ("wait", "message"),
    [
        ("soon", "--wait must be seconds above 0, or text such as 90s, 10m or 2h, got 'soon'"),
        ("0", "got '0'"),
        ("-1", "got '-1'"),
    ],
)
def test_wait_is_a_time(cli, wait, message):
    code, _, err = cli("run", "digits", f"--wait={wait}")
    assert code == 2
    assert message in err[0]
    assert commands._seconds("10m") == 600
    assert commands._seconds("90") == 90


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (fit.Wish("a/my data.csv"), {"name": "my-data"}),
        (fit.Wish("d.csv", max_latency_ms=2.0), {"constraints": {"latency_ms": {"max": 2.0}}}),
        (fit.Wish("d.csv", max_size_mb=5.0), {"constraints": {"size_mb": {"max": 5.0}}}),
        (fit.Wish("d.csv", time="10m"), {"time": "10m"}),
        (fit.Wish("d.npz"), {"task": {"name": "image_classification", "data": "d.npz"}}),
    ],
)
def test_fit_makes_the_experiment_that_was_wished_for(wish, expected):
    values = fit.values(wish, 1000)
    assert {key: values[key] for key in expected} == expected


@pytest.mark.parametrize(("rows", "epochs"), [(100, 27), (10_000, 15), (1_000_000, 3)])
def test_fit_passes_more_often_over_little_data(rows, epochs):
    assert fit.values(fit.Wish("d.csv"), rows)["stages"][0]["epochs"] == epochs
