import subprocess
import sys

import pytest

import tasks


def test_finds_modules_with_a_task():
    assert {"image_classification", "text_classification"} <= set(tasks.find())
    assert not {"sources", "task", "batches"} & set(tasks.find())


def test_loads_by_name():
    assert tasks.load("text_classification").Config.__name__ == "TextConfig"


def test_importing_the_package_imports_nothing_heavy():
    heavy = "{'torch', 'pyarrow', 'numpy', 'sklearn', 'tokenizers', 'pydantic'}"
    code = f"import sys, tasks; tasks.find(); print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_file_of_the_users_own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("class Mine:\n    example = {'x': 1}\n\nTASK = Mine()\n")
    assert tasks.load(f"{file}:TASK").example == {"x": 1}
    assert tasks.load(f"{file}:TASK") is tasks.load(f"{file}:TASK")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "text_clasification",
            "'text_clasification' is unknown; there are .*; did you mean 'text_classification'",
        ),
        ("zzz", "task: 'zzz' is unknown; there are .*; your own is given as file.py:TASK"),
        ("nowhere.py:TASK", "task: the file nowhere.py does not exist"),
        ("../x", "task: '../x' is unknown"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(ValueError, match=message):
        tasks.load(name)


def test_a_file_without_the_attribute(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("TASK = 1\n")
    with pytest.raises(ValueError, match="has no 'MINE'; the file defines TASK"):
        tasks.load(f"{file}:MINE")


def test_a_file_that_fails_is_not_half_loaded(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("TASK = 1\nraise KeyError('early')\n")
    with pytest.raises(KeyError, match="early"):
        tasks.load(f"{file}:TASK")
    file.write_text("TASK = 2\n")
    assert tasks.load(f"{file}:TASK") == 2
