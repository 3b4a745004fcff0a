"""What a run is made of, and how a change of it reads."""

import copy

import pytest

from experiments.engine import fingerprint, spec

STAGE = {"name": "search", "space": ["encoder"], "trials": 4, "epochs": 4, "options": {"patch": 2}}
VALUES = {"name": "tiny", "task": {"name": "image_classification", "data": "digits"}, "stages": [STAGE]}


def taken(data="d", stage=None, **changes):
    made = spec.checked({**VALUES, "stages": [{**STAGE, **(stage or {})}], **changes})
    return fingerprint.fingerprint(made, {s.name: s.search_space() for s in made.stages}, data)


BEFORE = taken()


def altered(part, **changes):
    made = copy.deepcopy(BEFORE)
    made[part] |= changes
    return made


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"time": "10m", "description": "x", "resources": {"cpu": 2}, "smoke": {"seed": 1}},
        {"max_failed": 0.1, "silence": None, "disk": "20GB"},
        {"stage": {"trials": 400}},
    ],
)
def test_what_may_change_freely_is_no_difference(changes):
    assert fingerprint.differences(BEFORE, taken(**changes)) == []
    assert taken(**changes) == BEFORE


@pytest.mark.parametrize(
    ("after", "lines"),
    [
        (taken(stage={"epochs": 6}), ["stages.search.epochs: 4 → 6"]),
        (taken(seed=1), ["seed: 0 → 1"]),
        (taken(data="e"), ["data: 'd' → 'e'"]),
        (taken(constraints={"params": {"max": 5}}), ['constraints.params: (not there) → {"max": 5.0, "min": null}']),
        (
            taken(stage={"narrow": {"d_model": [64, 96]}}),
            ["stages.search.narrow.d_model: (not there) → [64, 96]", "space search: d_model changed"],
        ),
        (taken(stage={"search": {"scheduler": "asha"}}), ["stages.search.search.scheduler.name: none → asha"]),
        (altered("code", **{"tasks/images.py": "0"}), ["code: tasks/images.py changed"]),
        (altered("code", **{"my.py": "0"}), ["code: my.py added"]),
        (altered("versions", torch="0.1"), [f"torch: {BEFORE['versions']['torch']} → 0.1"]),
    ],
)
def test_each_change_is_a_line(after, lines):
    assert fingerprint.differences(BEFORE, after) == lines


def test_one_of_an_earlier_kind_differs_in_everything():
    assert "data: null → 'd'" in fingerprint.differences({}, BEFORE)


def test_files_of_the_users_own_belong_to_it(tmp_path):
    own = tmp_path / "own.py"
    own.write_text("SPACE = {}")
    before = fingerprint.code({"space": [f"{own}:SPACE"], "task": {"name": "image_classification"}})
    assert {"experiments/engine/director.py", "trainables/loop.py", str(own)} <= before.keys()
    own.write_text("SPACE = {1: 2}")
    after = fingerprint.code({"space": [f"{own}:SPACE"]})
    assert {name for name in before if before[name] != after[name]} == {str(own)}
    own.unlink()
    assert fingerprint.code({"space": [f"{own}:SPACE"]})[str(own)] == "missing"


def test_newest_is_what_was_last_accepted():
    records = [{"event": "opened", "fingerprint": {"data": "a"}}, {"event": "accepted", "fingerprint": {"data": "b"}}]
    assert fingerprint.newest(records) == {"data": "b"}
    assert fingerprint.newest(records[:1]) == {"data": "a"}
    assert fingerprint.newest([{"event": "opened"}]) == {}
    assert len(fingerprint.short({"data": "a"})) == 16 != fingerprint.short({"data": "b"})
