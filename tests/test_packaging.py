"""What a stranger gets: exact versions for all that is asked for, the named targets, and a wrapper that runs."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ray._private.runtime_env.packaging import _dir_travel

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
REQUIREMENTS = [
    *PROJECT["dependencies"],
    *(line for lines in PROJECT["optional-dependencies"].values() for line in lines),
]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


def pins():
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    bare = [line.partition("#")[0].strip() for line in lines]
    return dict(re.fullmatch(r"([\w.-]+)==(\S+)", line).groups() for line in bare if line)


PINS = {canonicalize_name(name): version for name, version in pins().items()}


@pytest.mark.parametrize("line", REQUIREMENTS)
def test_constraints_pin_each_requirement_within_its_range(line):
    wanted = Requirement(line)
    assert PINS[canonicalize_name(wanted.name)] in wanted.specifier


def test_ray_and_torch_are_pinned_for_every_machine():
    assert PINS["ray"] == "2.60.0"
    assert "+" not in PINS["torch"]  # a local label such as +cpu would shut GPU machines out


def test_requirements_are_those_of_pyproject():
    command = [sys.executable, "deploy/requirements.py", "check"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert printed == [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["check"]]


@pytest.mark.parametrize("target", ["setup", "quickstart", "test", "check", "bench"])
def test_makefile_has_the_target_and_help_names_it(target):
    assert re.search(rf"^{target}: \$\(VENV\)/\w+  ## \w", MAKEFILE, re.MULTILINE)
    shown = subprocess.run(["make", "--silent", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f"make {target} " in shown


def test_make_without_a_fitting_python_says_so(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt", "deploy/requirements.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for tool in ("make", "sh"):
        (tmp_path / "bin" / tool).parent.mkdir(exist_ok=True)
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    environment = {"PATH": str(tmp_path / "bin")}
    done = subprocess.run(["make", "setup"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Fitformer needs Python 3.11 or newer, with venv and pip; there is none on PATH" in done.stderr


def test_ci_runs_the_tests_and_then_the_checks():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = script.read_text("utf-8").splitlines()
    assert lines.index("set -euo pipefail") < lines.index("make test") < lines.index("make check")


def test_wrapper_runs_our_command_line_from_anywhere(tmp_path):
    (tmp_path / "models.py").write_text("raise RuntimeError('not ours')")
    wrapper = clone_of_wrapper(tmp_path / "project")
    (tmp_path / "project" / "experiments").mkdir()
    main = tmp_path / "project" / "experiments" / "__main__.py"
    main.write_text("import os, sys, models; print(os.getcwd(), sys.argv[1:], models.__file__)")
    (tmp_path / "project" / "models.py").touch()
    command = [wrapper, "fit", "a file.csv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert done.split(" ", 1)[0] == str(tmp_path)
    assert "['fit', 'a file.csv']" in done
    assert str(tmp_path / "project" / "models.py") in done


def test_wrapper_without_an_environment_says_what_to_do(tmp_path):
    wrapper = clone_of_wrapper(tmp_path)
    (tmp_path / ".venv" / "bin" / "python").unlink()
    done = subprocess.run([wrapper, "list"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"fitformer: run 'make setup' in {tmp_path} first\n"


def clone_of_wrapper(folder):
    """The wrapper in a folder of its own, with this Python as its environment."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    shutil.copy(ROOT / "fitformer", folder)
    return folder / "fitformer"


def test_upload_to_ray_holds_every_module_and_no_secret(tmp_path):
    for name in (".gitignore", ".rayignore"):
        shutil.copy(ROOT / name, tmp_path)
    rooms = ("benchmarks", "experiments", "models", "searchspaces", "tasks", "trainables")
    modules = {path.relative_to(ROOT) for room in rooms for path in (ROOT / room).rglob("*.py")}
    left_behind = [".env", "key.pem", ".venv/bin/python", ".git/config", "results/a/ledger.jsonl", "models/x.key"]
    for path in (*modules, *map(Path, left_behind)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    taken = set()
    _dir_travel(tmp_path, [], lambda path: taken.add(path.relative_to(tmp_path)), include_gitignore=True)
    assert modules <= taken
    assert taken & {Path(name) for name in left_behind} == set()
