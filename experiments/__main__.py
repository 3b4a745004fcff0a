"""The command line: `python -m experiments COMMAND` (or `./fitformer COMMAND`)."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console

from experiments import commands

BAD_INPUT = 2
_PLAIN_WIDTH = 140


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; an exit code. The user's faults are one line each on standard error, and code 2."""
    options = parser().parse_args(arguments)
    # With --json standard output holds the JSON text alone.
    console = Console(stderr=getattr(options, "json", False))
    if not console.is_terminal:
        console = Console(stderr=console.stderr, width=_PLAIN_WIDTH)
    try:
        outcome = options.command(options, console)
    except ValueError as error:
        for line in getattr(error, "faults", None) or str(error).splitlines():
            print(f"fitformer: {line}", file=sys.stderr)
        return BAD_INPUT
    if isinstance(outcome, int):
        return outcome
    try:
        print(json.dumps(outcome, indent=1, default=str), flush=True)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(
        prog="fitformer", description="Fit a Transformer to your data and your hardware.", allow_abbrev=False
    )
    add = top.add_subparsers(required=True, metavar="COMMAND").add_parser
    _reading(add("list", help="the experiments there are"), commands.list_)
    show = _reading(
        add("show", help="an experiment resolved: spec, space with ranges, strategy, budget"), commands.show
    )
    _experiment(show)
    run = add("run", help="run an experiment, or go on with its newest unfinished run")
    run.set_defaults(command=commands.run)
    _experiment(run)
    _running(run)
    _fit(add("fit", help="search a model for a file of labelled data, without any YAML"))
    report = _reading(add("report", help="what a run found"), commands.report)
    report.add_argument("run", nargs="?", metavar="R", help="a run's name or folder; left out: the newest")
    _storage(report)
    _runs(add("runs", help="the runs there are: list them, or delete one"))
    predict = _reading(
        add("predict", help="what an artifact says of a text or of every line of a file"), commands.predict
    )
    predict.add_argument("artifact", help="an artifact's folder, or a run's name for its chosen one")
    predict.add_argument("text", nargs="?", help="one text")
    predict.add_argument("--file", help="texts, one a line; or images, as .npy")
    predict.add_argument("--top", type=int, default=1, help="how many labels to give (default 1)")
    _storage(predict)
    return top


def _experiment(command: argparse.ArgumentParser) -> None:
    command.add_argument("experiment", metavar="E", help="a name in experiments/, or the path of a YAML file")
    command.add_argument("--smoke", action="store_true", help="a tiny version that shows that everything works")
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings", help="one setting")


def _running(command: argparse.ArgumentParser) -> None:
    _storage(command)
    command.add_argument("--address", help="a Ray cluster to join; left out: one of our own on this machine")
    command.add_argument("--new", action="store_true", help="start afresh, also where an unfinished run could go on")


def _fit(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command=commands.fit)
    command.add_argument(
        "data", help="a Parquet, CSV, TSV, JSONL or Arrow file, a folder of them, or an .npz of images"
    )
    command.add_argument("--label", help="the column of labels")
    command.add_argument("--text", help="the column of texts; left out: told from the data")
    command.add_argument("--test", help="a file of test rows; left out: a part of the data is kept for it")
    command.add_argument("--pretrained", metavar="NAME|DIR", help="fine-tune this BERT-family model")
    command.add_argument("--space", help="another search space: a name in searchspaces/, or file.py:SPACE")
    command.add_argument("--max-latency-ms", type=float, help="what one prediction may take")
    command.add_argument("--max-size-mb", type=float, help="what the files needed to predict may weigh")
    command.add_argument("--time", metavar="10m", help="time budget: seconds, or 90s, 10m, 2h")
    command.add_argument("--seed", type=int, default=0, help="all randomness follows from it (default 0)")
    _running(command)


def _runs(command: argparse.ArgumentParser) -> None:
    verbs = command.add_subparsers(metavar="list | delete")
    command.set_defaults(command=commands.list_runs, json=False, storage=None)
    _storage(_reading(verbs.add_parser("list", help="the runs, newest first"), commands.list_runs))
    delete = verbs.add_parser("delete", help="remove a run and all it holds")
    delete.set_defaults(command=commands.delete_run)
    delete.add_argument("run", metavar="R", help="the run's name")
    _storage(delete)
    command.add_argument("--json", action="store_true", help="JSON, and nothing else on standard output")
    command.add_argument("--storage", help="where runs lie (default: results)")


def _reading(
    command: argparse.ArgumentParser, does: Callable[[argparse.Namespace, Console], Any]
) -> argparse.ArgumentParser:
    command.set_defaults(command=does)
    command.add_argument("--json", action="store_true", help="JSON, and nothing else on standard output")
    return command


def _storage(command: argparse.ArgumentParser) -> None:
    command.add_argument("--storage", metavar="PATH|URI", help="where runs lie (default: results)")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    sys.exit(main())
