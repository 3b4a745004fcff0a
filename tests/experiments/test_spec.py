import copy
import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from experiments.engine import checks, documents, spec, strategies
from experiments.engine.spec import Spec
from trainables.parsing import ParseError, parse

GOOD = {
    "name": "demo",
    "task": {"name": "text_classification", "data": "glosses"},
    "stages": [{"name": "search", "space": ["encoder", "optimization"], "trials": 4, "epochs": 6}],
}


def with_(values=None, stage=None, **search):
    """GOOD with some values replaced, at the top, in its stage, or in the stage's search."""
    made = copy.deepcopy(GOOD)
    made["stages"][0] |= (stage or {}) | ({"search": search} if search else {})
    return made | (values or {})


def faults(values, *sets, smoke=False):
    with pytest.raises(ParseError) as raised:
        spec.checked(values, sets, smoke=smoke)
    assert all("\n" not in fault for fault in raised.value.faults)
    return raised.value.faults


def test_defaults_are_filled_in():
    found = spec.checked(GOOD)
    assert found.objectives == {"val_accuracy": "max", "latency_ms": "min"}
    assert found.choose == {"max": "val_accuracy"}
    assert (found.seed, found.time, found.finalists.count, found.resources.gpu) == (0, None, 3, "auto")
    stage = found.stage("search")
    assert (stage.routine, stage.search.searcher.name, stage.search.scheduler.name) == ("train", "random", "none")
    assert spec.checked(with_({"objectives": {"f1": "max", "params": "min"}})).choose == {"max": "f1"}


def test_short_forms():
    found = spec.checked(
        with_({"time": "1.5h", "resources": {"gpu": 1}}, {"space": "encoder"}, searcher="random", scheduler="asha")
    )
    stage = found.stages[0]
    assert stage.space == ("encoder",)
    assert (stage.search.scheduler.name, stage.search.scheduler.options) == ("asha", {})
    assert (found.time, found.resources.gpu) == (5400.0, 1.0)
    assert spec.checked(with_(stage={"trials": 8}, searcher="pbt")).stages[0].search.scheduler.name == "none"
    assert spec.checked(with_(searcher="random", scheduler="hyperband")).stages[0].search.scheduler.options == {}
    assert spec.checked(with_(scheduler=None)).stages[0].search.scheduler.name == "none"
    assert found.task.options == {"data": "glosses"}


@pytest.mark.parametrize(
    ("text", "number"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86400), (5, 5), (0.5, 0.5), (None, None)]
)
def test_time(text, number):
    assert spec.seconds(text) == number


@pytest.mark.parametrize(
    "value", [0, -1, "0m", "2 weeks", "", "ten", True, [], "-3s", float("inf"), "1e3", 10**400, 400 * "9" + "s"]
)
def test_wrong_times(value):
    with pytest.raises(ValueError, match="must be seconds above 0, or text such as 90s, 10m or 2h, got "):
        spec.seconds(value)


@pytest.mark.parametrize(
    ("text", "number"), [("500MB", 5e8), ("20GB", 2e10), ("1.5 TB", 1.5e12), (10_000, 1e4), (None, None)]
)
def test_size(text, number):
    assert spec.size(text) == number


@pytest.mark.parametrize("value", [0, -1, "20 gigabytes", "20G", "", True, [], float("inf"), "1KB", 1e18])
def test_wrong_sizes(value):
    with pytest.raises(ValueError, match="must be bytes above 0, or text such as 500MB, 20GB or 1.5TB, got "):
        spec.size(value)


STAGE = "stages.search"
NAMES = "must be 1 to 64 of A-Z a-z 0-9 {} and open with a letter or digit"
PARAMETERS = "name, routine, space, fix, narrow, initial, options, each, search, trials, epochs"


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        *[
            (with_({"name": name}), [f"name {NAMES.format('. _ -')}, got {name!r}"])
            for name in ["../x", "", ".hidden", "-v", "a/b", "/abs", "größe", "a b", "a\n", "a\0", "x" * 57 + "é"]
        ],
        (with_({"name": "x" * 65}), [f"name {NAMES.format('. _ -')}, got '{'x' * 58}…"]),
        (with_({"name": 3}), ["name must be text, got 3"]),
        (with_({"nmae": "x"}), ["the experiment has no 'nmae'; did you mean 'name'?"]),
        (
            {},
            [
                "name is missing (Opens the names of its result folders.)",
                f"task is missing ({Spec.model_fields['task'].description})",
                "stages is missing (Searches, one after the other.)",
            ],
        ),
        (with_({"task": "glosses"}), ["task must be a mapping of names to values, got 'glosses'"]),
        (with_({"task": {"data": "x"}}), ["task.name is missing (A name that is found, or file.py:OBJECT.)"]),
        (with_({"stages": []}), ["stages must have at least 1 entries, got []"]),
        (with_({"stages": {"a": 1}}), ['stages must be a list, got {"a": 1}']),
        *[
            (with_(stage={"trials": trials}), [f"{STAGE}.trials must be {rule}"])
            for trials, rule in [
                (0, "at least 1, got 0"),
                (-1, "at least 1, got -1"),
                ("ten", "an integer, got 'ten'"),
                (True, "an integer, got true"),
                (2.5, "an integer, got 2.5"),
            ]
        ],
        (
            with_(stage={"trials": None}),
            [f"{STAGE}.trials is missing; give trials, or time: 10m for the whole experiment"],
        ),
        (with_(stage={"epochs": 0}), [f"{STAGE}.epochs must be at least 1, got 0"]),
        (with_(stage={"schedular": "asha"}), [f"{STAGE} has no 'schedular'; known: {PARAMETERS}"]),
        (with_(stage={"name": "a.b"}), [f"stages.a.b.name {NAMES.format('_ -')}, got 'a.b'"]),
        (with_(schedular="asha"), [f"{STAGE}.search has no 'schedular'; did you mean 'scheduler'?"]),
        (with_(scheduler="ahsa"), [f"{STAGE}.search.scheduler 'ahsa' does not exist; did you mean 'asha'?"]),
        (
            with_(searcher="bohb", scheduler="median"),
            [f"{STAGE}.search.scheduler 'median' does not exist; known: {', '.join(strategies.find('SCHEDULER'))}"],
        ),
        (
            with_({"objectives": {"val_accuracy": "max"}, "choose": {"min": "val_accuracy"}}),
            ["choose is {min: val_accuracy}, but objectives say val_accuracy: max; make them agree"],
        ),
        (
            with_(searcher="asha"),
            [f"{STAGE}.search.searcher 'asha' does not exist; known: {', '.join(checks.searchers())}"],
        ),
        (
            with_(stage={"trials": 8}, searcher="pbt", scheduler="asha"),
            [
                f"{STAGE}.search.scheduler is 'asha', which does not go with searcher 'pbt': it ends and goes on with "
                "trials itself; leave scheduler out"
            ],
        ),
        (
            with_(searcher="bohb"),
            [
                f"{STAGE}.search.scheduler is 'none', which does not go with searcher 'bohb': its model is of what "
                "trials are worth at several budgets; take hyperband, asha or promotion"
            ],
        ),
        (
            with_(searcher="pbt"),
            [f"{STAGE}.search.searcher.population must be at most trials, got 8 above 4"],
        ),
        (
            with_(searcher={"name": "pbt", "population": 4, "interval": 6}),
            [f"{STAGE}.search.searcher.interval must be below epochs, got 6 of 6"],
        ),
        (
            with_(searcher={"name": "pbt", "interval": 0}),
            [f"{STAGE}.search.searcher.interval must be above 0, got 0"],
        ),
        (
            with_(scheduler={"name": "hyperband", "eta": 1}),
            [f"{STAGE}.search.scheduler.eta must be at least 2, got 1"],
        ),
        (
            with_(scheduler={"name": "hyperband", "grace_period": 9}),
            [f"{STAGE}.search.scheduler.grace_period must be at most epochs, got 9 above 6"],
        ),
        (with_(searcher=3), [f"{STAGE}.search.searcher must be a mapping of names to values, got 3"]),
        (with_(scheduler={"name": "asha", "eta": 1}), [f"{STAGE}.search.scheduler.eta must be above 1, got 1"]),
        (with_(scheduler={"name": "asha", "eta": "3"}), [f"{STAGE}.search.scheduler.eta must be a number, got '3'"]),
        (
            with_(scheduler={"name": "asha", "etta": 3}),
            [f"{STAGE}.search.scheduler has no 'etta'; did you mean 'eta'?"],
        ),
        (with_(scheduler={"name": "none", "eta": 3}), [f"{STAGE}.search.scheduler has no 'eta'"]),
        (
            with_(scheduler={"name": "asha", "grace_period": 9}),
            [f"{STAGE}.search.scheduler.grace_period must be at most epochs, got 9 above 6"],
        ),
        (
            with_({"objectives": {"val_accuracy": "maximum"}}),
            ["objectives.val_accuracy must be 'max' or 'min', got 'maximum'"],
        ),
        (with_({"max_failed": 1.5}), ["max_failed must be at most 1, got 1.5"]),
        (with_({"max_failed": -0.1}), ["max_failed must be at least 0, got -0.1"]),
        (with_({"silence": "soon"}), ["silence must be seconds above 0, or text such as 90s, 10m or 2h, got 'soon'"]),
        (
            with_({"disk": "20 gigs"}),
            ["disk must be bytes above 0, or text such as 500MB, 20GB or 1.5TB, got '20 gigs'"],
        ),
        (with_({"objectives": {}}), ["objectives must have at least 1 entries, got {}"]),
        (
            with_({"choose": {"max": "a", "min": "b"}}),
            ['choose must have at most 1 entries, got {"max": "a", "min": "b"}'],
        ),
        (with_({"choose": {"best": "a"}}), ["choose.best must be 'max' or 'min', got 'a'"]),
        (with_({"constraints": {"latency_ms": {}}}), ["constraints.latency_ms must give max or min, got neither"]),
        (
            with_({"constraints": {"latency_ms": {"max": 1, "min": 2}}}),
            ["constraints.latency_ms must have min at most max, got 2 above 1"],
        ),
        (
            with_({"constraints": {"val_accuracy": {"min": 95}, "latency_ms": {"max": 0}}}),
            [
                "constraints.val_accuracy.min must be at most 1, as it is a share, got 95",
                "constraints.latency_ms.max must be above 0, got 0",
            ],
        ),
        (
            with_({"constraints": {"latency_ms": {"mx": 1}}}),
            ["constraints.latency_ms has no 'mx'; did you mean 'max'?"],
        ),
        (
            with_({"constraints": {"latency_ms": 2}}),
            ["constraints.latency_ms must be a mapping of names to values, got 2"],
        ),
        (with_({"resources": {"cpu": 0}}), ["resources.cpu must be above 0, got 0"]),
        (with_({"resources": {"gpu": -1}}), ["resources.gpu must be 'auto' or at least 0, got -1"]),
        (with_({"resources": {"gpu": 1.5}}), ["resources.gpu must be whole above 1, got 1.5"]),
        (with_({"resources": {"gpu": "one"}}), ["resources.gpu must be 'auto' or a number, got 'one'"]),
        (with_({"time": "soon"}), ["time must be seconds above 0, or text such as 90s, 10m or 2h, got 'soon'"]),
        (with_({"seed": 1.0}), ["seed must be an integer, got 1.0"]),
        (with_({"seed": -1}), ["seed must be at least 0, got -1"]),
        (with_({"finalists": {"count": 0}}), ["finalists.count must be at least 1, got 0"]),
        (with_({"target": "cpu"}), ["target must be a mapping of names to values, got 'cpu'"]),
        (
            with_(stage={"space": [], "fix": {"n_layers": 2}}),
            [f"{STAGE}.{name} is about a space; give space, or leave it out" for name in ("fix", "trials")],
        ),
        (with_(stage={"space": 3}), [f"{STAGE}.space must be a list, got 3"]),
        (with_(stage={"space": "encodr"}), [f"{STAGE}.space 'encodr' does not exist; did you mean 'encoder'?"]),
        (with_(stage={"space": ["encoder", "encoder"]}), [f"{STAGE}.space 'encoder' is named twice"]),
        (
            with_(stage={"space": "encoder", "fix": {"n_layer": 2}}),
            [f"{STAGE}.fix.n_layer: the space encoder has no 'n_layer'; did you mean 'n_layers'?"],
        ),
        (with_(stage={"fix": {"n_layers": 9}}), [f"{STAGE}.fix.n_layers must be an integer from 1 to 4, got 9"]),
        (with_(stage={"fix": {"n_layers": True}}), [f"{STAGE}.fix.n_layers must be an integer from 1 to 4, got True"]),
        (
            with_(stage={"narrow": {"learning_rate": [1e-3, 1e-2]}}),
            [f"{STAGE}.narrow.learning_rate must be a number from 0.0002 to 0.004, got 0.01"],
        ),
        (with_(stage={"narrow": {"d_model": 64}}), [f"{STAGE}.narrow.d_model must be a list, got 64"]),
        (
            with_(stage={"initial": [{"n_layers": 0}, {"d_model": 65}]}),
            [
                f"{STAGE}.initial[0].n_layers must be an integer from 1 to 4, got 0",
                f"{STAGE}.initial[1].d_model must be one of 64, 96, 128, 192, 256, got 65",
            ],
        ),
        (
            with_(stage={"options": {"dropout": 0.1}}),
            [f"{STAGE}.options.dropout is a parameter of the space; use fix.dropout"],
        ),
        (with_({"stages": GOOD["stages"] * 2}), ["stages.search is there 2 times; give each stage a name of its own"]),
        (
            with_({"smoke": {"stages.serach.trials": 1}}),
            ["smoke: cannot set stages.serach.trials: stages has no 'serach'; did you mean 'search'?"],
        ),
        (with_({"smoke": {"stages.search.trials": 0}}), [f"smoke: {STAGE}.trials must be at least 1, got 0"]),
    ],
)
def test_bad_values_give_one_line_each(values, lines):
    assert faults(values) == lines


def test_all_faults_of_a_file_at_once():
    stage = GOOD["stages"][0]
    values = with_(
        {
            "name": "../x",
            "seeds": 1,
            "time": "ten",
            "stages": [
                stage | {"trials": 0, "epochs": True},
                stage | {"name": "second", "fix": {"n_layer": 1}, "search": {"scheduler": {"name": "asha", "eta": 0}}},
            ],
        }
    )
    assert faults(values) == [
        "name must be 1 to 64 of A-Z a-z 0-9 . _ - and open with a letter or digit, got '../x'",
        "stages.search.trials must be at least 1, got 0",
        "stages.search.epochs must be an integer, got true",
        "time must be seconds above 0, or text such as 90s, 10m or 2h, got 'ten'",
        "the experiment has no 'seeds'; did you mean 'seed'?",
        "stages.second.fix.n_layer: the space encoder + optimization has no 'n_layer'; did you mean 'n_layers'?",
        "stages.second.search.scheduler.eta must be above 1, got 0",
    ]


def test_the_stages_space_is_fixed_and_narrowed():
    found = spec.checked(with_(stage={"fix": {"n_layers": 1}, "narrow": {"learning_rate": [1e-3, 2e-3]}}))
    space = found.stages[0].search_space()
    points = [space.draw(0, index) for index in range(20)]
    assert {point["n_layers"] for point in points} == {1}
    assert all(1e-3 <= point["learning_rate"] <= 2e-3 for point in points)


def test_tiny_version_is_an_experiment_of_another_name():
    assert spec.checked(GOOD, smoke=True).name == "demo-smoke"
    assert spec.checked(with_({"name": "x" * 64}), smoke=True).name == "x" * 58 + "-smoke"


def test_settings_reach_every_place():
    found = spec.checked(
        with_({"smoke": {"seed": 7, "stages.search.epochs": 3}}),
        [
            "stages.search.trials=5",
            "stages.search.fix.n_layers=2",
            "stages.search.search.scheduler=asha",
            "stages.search.options.pretrained=minilm",
            "task.sample=1_000",
            "constraints.latency_ms.max=2.5",
            "resources.gpu=0.5",
            "time=10m",
            "objectives={f1: max}",
        ],
        smoke=True,
    )
    stage = found.stage("search")
    assert (stage.trials, stage.epochs, stage.fix, stage.options) == (5, 3, {"n_layers": 2}, {"pretrained": "minilm"})
    assert stage.search.scheduler.name == "asha"
    assert found.task.options == {"data": "glosses", "sample": 1000}
    assert (found.constraints["latency_ms"].max, found.resources.gpu, found.time) == (2.5, 0.5, 600.0)
    assert (found.seed, found.objectives, found.choose) == (7, {"f1": "max"}, {"max": "f1"})


def test_a_rule_of_choice_that_was_given_stays():
    found = spec.checked(with_({"choose": {"min": "latency_ms"}}), ["objectives={f1: max}"])
    assert found.choose == {"min": "latency_ms"}
    assert spec.checked(GOOD, ["choose.max=params"]).choose == {"max": "params"}


def test_options_of_a_part_are_set_one_by_one():
    found = spec.checked(with_(scheduler="asha"), ["stages.search.search.scheduler.eta=4"])
    assert found.stages[0].search.scheduler.options == {"eta": 4}


@pytest.mark.parametrize(
    ("sets", "lines"),
    [
        (["x"], ["--set must be path=value, got 'x'"]),
        (["=3"], ["--set must be path=value, got '=3'"]),
        (
            ["x=[", "seed"],
            [
                "--set x:1:2: expected the node content, but found '<stream end>'",
                "--set must be path=value, got 'seed'",
            ],
        ),
        (["seeed=3"], ["cannot set seeed: the experiment has no 'seeed'; did you mean 'seed'?"]),
        (
            ["stages.search.trails=3", "stages.serch.trials=3"],
            [
                "cannot set stages.search.trails: stages.search has no 'trails'; did you mean 'trials'?",
                "cannot set stages.serch.trials: stages has no 'serch'; did you mean 'search'?",
            ],
        ),
        (["seed.x=3"], ["cannot set seed.x: seed holds one value, no 'x'"]),
        (["stages.search=3"], ["cannot set stages.search: search is a stage; set one of its fields"]),
        (
            ["stages.search.initial.0.n_layers=3"],
            ["cannot set stages.search.initial.0.n_layers: stages.search.initial holds one value, no '0'"],
        ),
        (["stages.search.trials=ten"], ["stages.search.trials must be an integer, got 'ten'"]),
        (
            ["task.data=!!python/object:os.system {}"],
            ["--set task.data:1:1: the tag !!python/object:os.system is refused; write plain values"],
        ),
    ],
)
def test_wrong_settings(sets, lines):
    assert faults(GOOD, *sets) == lines


def test_the_original_stays_as_it_was():
    values = copy.deepcopy(GOOD)
    before = spec.checked(values)
    after = before.apply({"stages.search.fix.n_layers": 2})
    assert (before.stages[0].fix, after.stages[0].fix, values) == ({}, {"n_layers": 2}, GOOD)


@pytest.mark.parametrize("name", spec.find())
def test_experiments_here_are_valid(name):
    path = spec.FOLDER / f"{name}.yaml"
    lines = path.read_text("utf-8").splitlines()
    assert lines[0] == "# yaml-language-server: $schema=schema.json"
    assert any(line.startswith("# Source: ") for line in lines)
    assert any(line.startswith(f"# Run:    python -m experiments run {name}") for line in lines)
    found = spec.load(name)
    assert found.name == name
    assert found.smoke
    assert spec.load(name, smoke=True) != found
    assert spec.load(str(path)) == found
    jsonschema.validate(documents.read(path), spec.json_schema())


@pytest.mark.parametrize("name", spec.find())
def test_what_is_written_loads_again_as_it_was(name, tmp_path):
    found = spec.load(name, ["time=10m", "constraints.size_mb.max=3"])
    (tmp_path / "again.yaml").write_text(found.to_yaml(), "utf-8")
    assert spec.load(str(tmp_path / "again.yaml")) == found
    assert json.loads(json.dumps(found.resolved())) == found.resolved()
    assert parse(Spec, found.resolved()) == found


def test_the_committed_schema_is_current():
    committed = json.loads((spec.FOLDER / "schema.json").read_text("utf-8"))
    assert committed == spec.json_schema(), (
        "write it again: python -m experiments.engine.spec > experiments/schema.json"
    )


def test_the_schema_knows_short_forms_and_refuses_what_we_refuse():
    schema = spec.json_schema()
    jsonschema.validate(with_({"time": "10m"}, {"space": "encoder"}, scheduler="asha"), schema)
    for bad in [with_({"name": "../x"}), with_({"seeds": 1}), with_(stage={"trials": 0}), with_({"time": []})]:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)


def test_unknown_experiments():
    with pytest.raises(ParseError, match=r"^there is no experiment 'quickstrat'; did you mean 'quickstart'\?$"):
        spec.load("quickstrat")
    with pytest.raises(ParseError, match=r"^\.\./x is not a file; give an experiment's YAML file$"):
        spec.load("../x")
    with pytest.raises(ParseError, match=r"^absent.yaml is not a file"):
        spec.load("absent.yaml")


def test_a_tasks_own_config_reports_in_the_same_words():
    class Config(BaseModel):
        model_config = ConfigDict(extra="forbid")
        data: Path
        sample: int | None = None

    found = spec.checked(with_({"task": {"name": "t", "dat": "x", "sample": "all"}}))
    with pytest.raises(ParseError) as raised:
        parse(Config, found.task.options, "task")
    assert raised.value.faults == [
        "task.data is missing",
        "task.sample must be an integer, got 'all'",
        "task has no 'dat'; did you mean 'data'?",
    ]


JUNK = st.sampled_from(
    [None, True, 0, -1, 1e400, "", "x", "../x", [], [[]], {}, {"a": {"b": 1}}, [{"name": "search"}], 10**30]
)
KEYS = st.sampled_from([*Spec.model_fields, *spec.Stage.model_fields, "searcher", "scheduler", "eta", "max", "zzz"])


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
@given(st.data())
def test_mutated_values_give_a_spec_or_a_parse_error(data):
    values = json.loads(json.dumps(spec.load("quickstart").resolved()))
    for _ in range(data.draw(st.integers(1, 4))):
        node = values
        while isinstance(node, dict | list) and node and data.draw(st.booleans()):
            inner = list(node.values()) if isinstance(node, dict) else node
            node = data.draw(st.sampled_from(inner))
        if isinstance(node, dict):
            node[data.draw(KEYS)] = copy.deepcopy(data.draw(JUNK))
        elif isinstance(node, list):
            node.append(copy.deepcopy(data.draw(JUNK)))
    try:
        found = spec.checked(values)
    except ParseError as error:
        assert error.faults
        assert all(fault and "\n" not in fault for fault in error.faults)
    else:
        assert parse(Spec, found.resolved()) == found


TEXT = (spec.FOLDER / "quickstart.yaml").read_text("utf-8")


@settings(deadline=None)
@given(st.integers(0, len(TEXT)), st.integers(0, 40), st.text(":-[]{}&*!|>'\"#%\n\t ,?@`ae0.", max_size=5))
def test_mutated_text_gives_a_spec_or_a_parse_error(start, length, inserted):
    text = TEXT[:start] + inserted + TEXT[start + length :]
    try:
        found = spec.checked(documents.mapping(text, "e.yaml"))
    except ParseError as error:
        assert error.faults
    else:
        assert isinstance(found, Spec)
