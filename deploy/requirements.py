#!/usr/bin/env python3
"""Prints what pyproject.toml asks for: the base, and the extras named as arguments.

The project is run from its root and never installed itself, so only its dependencies are:
    python deploy/requirements.py test | pip install -c constraints.txt -r /dev/stdin
"""

import sys
import tomllib
from pathlib import Path


def requirements(extras: list[str]) -> list[str]:
    """Requirement lines of the base and of these extras."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    return [line for listed in lists for line in listed]


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements(sys.argv[1:])) + "\n")
