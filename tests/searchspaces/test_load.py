import copy
from pathlib import Path

import pytest
from ConfigSpace import ConfigurationSpace

import searchspaces
from searchspaces import SpaceError

RATE = "from ConfigSpace import *\nSPACE = ConfigurationSpace({'rate': (0.1, 0.9)})\n"


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda text, name="mine.py": Path(name).write_text(text)


def faults(names):
    with pytest.raises(SpaceError) as raised:
        searchspaces.load(names)
    return raised.value.faults


def test_modules_that_declare_a_space_are_found():
    assert {"encoder", "optimization", "finetuning"} <= set(searchspaces.find())
    assert not {"space", "parameters", "restriction", "__init__"} & set(searchspaces.find())


def test_several_spaces_join_and_leave_the_originals_alone():
    both = searchspaces.load(["encoder", "optimization"])
    alone = searchspaces.load("encoder"), searchspaces.load("optimization")
    assert both.default() == alone[0].default() | alone[1].default()
    assert both.name == "encoder + optimization"
    assert set(alone[0].names).isdisjoint(alone[1].names)


def test_a_users_file_serves_wherever_a_name_does(file):
    file(RATE)
    file("import ConfigSpace\nOTHER = ConfigSpace.ConfigurationSpace({'layers': (1, 4)})", "b.py")
    space = searchspaces.load(["mine.py:SPACE", "b.py:OTHER"])
    assert sorted(space.names) == ["layers", "rate"]
    assert space.default() == {"layers": 2, "rate": 0.5}


def test_what_a_users_file_prints_stays_off_standard_output(file, capsys):
    file("print('hello')\n" + RATE)
    searchspaces.load("mine.py:SPACE")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "hello\n")


@pytest.mark.parametrize(
    ("names", "lines"),
    [
        ("encodr", ["space 'encodr' does not exist; did you mean 'encoder'?"]),
        (
            "qqq",
            ["space 'qqq' does not exist; there are: " + ", ".join(searchspaces.find()) + ", or file.py:SPACE"],
        ),
        ([], ["space must name at least one space; there are: " + ", ".join(searchspaces.find())]),
        (["encodr", "optimisation"], [
            "space 'encodr' does not exist; did you mean 'encoder'?",
            "space 'optimisation' does not exist; did you mean 'optimization'?",
        ]),
        ("absent.py", ["space 'absent.py' must say which object of the file; did you mean 'absent.py:SPACE'?"]),
        (["encoder", "encoder"], ["space 'encoder' is named twice"]),
    ],
)  # fmt: skip
def test_unknown_names_are_refused(names, lines):
    assert faults(names) == lines


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("SPASE = 1", "space mine.py:SPACE: the file declares no 'SPACE'; did you mean 'SPASE'?"),
        ("SPACE = 3", "space mine.py:SPACE must be a ConfigurationSpace or a dict of ray.tune domains, got int"),
        ("1 / 0", "space mine.py:SPACE: the file raises ZeroDivisionError: division by zero"),
        ("def f(:", "space mine.py:SPACE: the file raises SyntaxError: invalid syntax (mine.py, line 1)"),
        ("import nothere", "space mine.py:SPACE: the file raises ModuleNotFoundError: No module named 'nothere'"),
        ("raise SystemExit(3)", "space mine.py:SPACE: the file raises SystemExit: 3"),
        (
            "from ConfigSpace import *\nSPACE = ConfigurationSpace()",
            "space mine.py:SPACE declares no parameter",
        ),
        (
            "from ConfigSpace import *\nSPACE = ConfigurationSpace({'a': [1, 2]})\n"
            "SPACE.add(ForbiddenInClause(SPACE['a'], [1, 2]))",
            "space mine.py:SPACE: the file raises ForbiddenValueError: "
            "Given vector violates forbidden clause: Forbidden: a in {1, 2}",
        ),
        (
            "from ConfigSpace import *\nclass Mine(UniformFloatHyperparameter): pass\n"
            "SPACE = ConfigurationSpace()\nSPACE.add(Mine('a', 0, 1))",
            "space mine.py:SPACE cannot be read: No found encoder for '<class 'user_space_mine.Mine'>'. "
            "Registered encoders are",
        ),
    ],
)
def test_faulty_files_are_refused_in_one_line(file, text, line):
    file(text)
    (found,) = faults("mine.py:SPACE")
    assert found.startswith(line)
    assert "\n" not in found


def test_a_missing_file_is_refused(file):
    assert faults("absent.py:SPACE") == [f"space 'absent.py:SPACE': there is no Python file absent.py in {Path.cwd()}"]
    assert faults("a\0.py:b")[0].startswith("space 'a\\x00.py:b': there is no Python file")
    assert faults("a:b") == [f"space 'a:b': there is no Python file a in {Path.cwd()}"]


def test_clashes_are_named(file):
    file(RATE)
    file(RATE, "b.py")
    assert faults(["mine.py:SPACE", "b.py:SPACE", "encoder"]) == [
        "space: the parameter 'rate' is in mine.py:SPACE and in b.py:SPACE; take it out of one"
    ]


def test_a_loaded_space_does_not_share_state_with_the_declaration(file):
    file(RATE)
    first, second = searchspaces.load("mine.py:SPACE"), searchspaces.load("mine.py:SPACE")
    assert isinstance(first.configspace, ConfigurationSpace)
    assert first.configspace is not second.configspace
    assert first.draw(0, 1) == second.draw(0, 1)


def test_spaces_and_their_faults_are_carried_over_whole():
    space = searchspaces.load("encoder")
    assert copy.deepcopy(space).draw(0, 3) == space.draw(0, 3)
    assert copy.copy(SpaceError(["one", "two"])).faults == ["one", "two"]
