"""The rooms of the house: ours are the ones found, nobody else has their names, and each stands on its own."""

import ast
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("experiments", "searchspaces", "tasks", "models", "trainables")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def committed():
    """Files that git knows, or would if they were added."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def packages():
    """Folders of ours that hold Python modules, as dotted names; tests and scripts are no packages."""
    modules = [path.relative_to(ROOT) for path in committed() if path.suffix == ".py"]
    folders = {path.parent for path in modules if path.parts[0] not in ("tests", "deploy")}
    return sorted(".".join(folder.parts) for folder in folders)


def in_base_install(code):
    """Runs `code` where what only the extras bring cannot be imported."""
    block = f"""
import sys
class Extras:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(of_extras_only())!r}:
            raise ModuleNotFoundError(f"{{name}} is not in the base install", name=name)
sys.meta_path.insert(0, Extras())
"""
    return subprocess.run([sys.executable, "-c", block + code], cwd=ROOT, capture_output=True, text=True, check=False)


def of_extras_only():
    """Import names of what the extras ask for and the base does not."""
    extras = {name_of(line) for lines in PROJECT["project"]["optional-dependencies"].values() for line in lines}
    wanted = extras - {name_of(line) for line in PROJECT["project"]["dependencies"]}
    owners = importlib.metadata.packages_distributions()
    return {module for module, names in owners.items() if wanted & {normal(name) for name in names}}


def name_of(requirement):
    return normal(re.match(r"[\w.-]+", requirement)[0])


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("room", ROOMS)
def test_room_is_found_under_the_root(room):
    assert Path(importlib.util.find_spec(room).origin) == ROOT / room / "__init__.py"


def test_nobody_else_ships_our_names():
    owners = importlib.metadata.packages_distributions()
    assert {room: owners[room] for room in ROOMS if set(owners.get(room, ())) - {"fitformer"}} == {}


def test_pyproject_lists_exactly_the_packages_there_are():
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == packages()


@pytest.mark.parametrize("package", packages())
def test_package_says_what_it_is(package):
    init = ROOT.joinpath(*package.split("."), "__init__.py")
    assert init.is_file()
    assert ast.get_docstring(ast.parse(init.read_text("utf-8")))


def test_no_file_names_a_place_on_one_machine():
    place = re.compile(r"(?<![\w.$}])/(?:work|root|home|Users)/\w")
    found = []
    for path in committed():
        try:
            lines = path.read_text("utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}:{number}" for number, line in enumerate(lines, 1) if place.search(line)]
    assert found == []


@pytest.mark.timeout(120)
def test_every_module_of_the_rooms_imports_with_the_base_install():
    modules = [path.relative_to(ROOT) for path in committed() if path.suffix == ".py" and path.stem != "__init__"]
    names = [".".join(path.with_suffix("").parts) for path in modules if path.parts[0] in ROOMS]
    assert len(names) > 40
    done = in_base_install(f"import importlib\nfor name in {names!r}: importlib.import_module(name)")
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("room", "heavy"),
    [("tasks", "torch"), ("models", "torch"), ("searchspaces", "torch"), ("searchspaces", "ray"), ("tasks", "ray")],
)
def test_room_is_light_to_enter(room, heavy):
    done = in_base_install(f"import sys, {room}\nassert {heavy!r} not in sys.modules")
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_document_names_only_files_that_are_there(document):
    named = re.findall(r"`([\w.-]+(?:/[\w.-]+)+)`", (ROOT / document).read_text("utf-8"))
    assert named
    absent = [path for path in named if not (ROOT / path).exists() and not re.search(r"(^|/)(x|my_\w+)\.", path)]
    assert absent == []
