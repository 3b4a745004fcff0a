"""The command line: `python -m experiments COMMAND` (or `./fitformer COMMAND`)."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from experiments.engine import interrupt

BAD_INPUT, STORAGE = 2, 5
_PLAIN_WIDTH = 140
_SIGNAL_SEEN_S = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; an exit code. The user's faults are one line each on standard error, and code 2; storage that
    fails under a run is code 5.
    """
    options = _parsed(arguments)
    from trainables.store import StorageError  # takes time, which --help need not wait for

    try:
        return _done(options)
    except (ValueError, StorageError) as error:
        for line in getattr(error, "faults", None) or str(error).splitlines():
            print(f"fitformer: {_printable(line)}", file=sys.stderr)
        return BAD_INPUT if isinstance(error, ValueError) else STORAGE
    except SystemExit:  # of a handler that Ray puts in place while it starts
        interrupt.settle(_SIGNAL_SEEN_S)
        raise
    finally:
        interrupt.settle()


def _printable(line: str) -> str:
    """Without what breaks a line or steers a terminal: a name in it may come from a file that somebody sent."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in line)


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """argparse refuses an optional last word that comes after an option: it is taken here."""
    top = parser()
    options, rest = top.parse_known_args(arguments)
    last = getattr(options, "last", None)
    if last and len(rest) == 1 and not rest[0].startswith("-") and getattr(options, last) is None:
        setattr(options, last, rest[0])
    elif rest:
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    return options


def _done(options: argparse.Namespace) -> int:
    from rich.console import Console

    from experiments import commands, records

    # With --json standard output holds the JSON text alone.
    console = Console(stderr=getattr(options, "json", False))
    if not console.is_terminal:
        console = Console(stderr=console.stderr, width=_PLAIN_WIDTH)
    does = getattr(commands, options.command, None) or getattr(records, options.command)
    outcome = does(options, console)
    if isinstance(outcome, int):
        return outcome
    try:
        print(json.dumps(outcome, indent=1, default=str), flush=True)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


class _Parser(argparse.ArgumentParser):
    """Tells a fault in one line, as all faults are told."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"fitformer: {_printable(message)}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = _Parser(prog="fitformer", description="Fit a Transformer to your data and your hardware.", allow_abbrev=False)
    add = top.add_subparsers(required=True, metavar="COMMAND").add_parser
    _reading(add("list", help="the experiments there are"), "list_")
    show = _reading(add("show", help="an experiment resolved: spec, space with ranges, strategy, budget"), "show")
    _experiment(show)
    show.add_argument("--options", action="store_true", help="and what each stage's routine can be told, with defaults")
    run = add("run", help="run an experiment, or go on with its newest unfinished run")
    run.set_defaults(command="run")
    _experiment(run)
    _extend(run)
    _running(run)
    _fit(add("fit", help="search a model for a file of labelled data, without any YAML"))
    _submit(add("submit", help="run an experiment as a job on a Ray cluster, and end with its exit code"))
    report = _reading(add("report", help="what a run found"), "report")
    report.add_argument("run", nargs="?", metavar="R", help="a run's name or folder; left out: the newest")
    _storage(report)
    _runs(add("runs", help="the runs there are: list them, stop or delete one"))
    _predict(_reading(add("predict", help="what an artifact says of a text or of every line of a file"), "predict"))
    _export(add("export", help="write an artifact's model as ONNX or safetensors, in a folder of its own"))
    return top


def _experiment(command: argparse.ArgumentParser) -> None:
    command.add_argument("experiment", metavar="E", help="a name in experiments/, or the path of a YAML file")
    command.add_argument("--smoke", action="store_true", help="a tiny version that shows that everything works")
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings", help="one setting")


def _extend(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--extend", type=int, metavar="N", help="go on with the newest, finished run by N more trials of its last stage"
    )


def _running(command: argparse.ArgumentParser) -> None:
    command.add_argument("--address", help="a Ray cluster to join; left out: one of our own on this machine")
    _going_on(command)


def _going_on(command: argparse.ArgumentParser) -> None:
    _storage(command)
    command.add_argument("--new", action="store_true", help="start afresh, also where an unfinished run could go on")
    command.add_argument(
        "--accept-changes", action="store_true", help="go on although spec, data, code or libraries have changed"
    )
    command.add_argument(
        "--wait", metavar="10m", help="how long to wait for a cluster to grow to what a trial asks for (default: not)"
    )


def _submit(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command="submit")
    _experiment(command)
    command.add_argument("--address", required=True, help="the dashboard: http://HOST:8265")
    _extend(command)
    _going_on(command)


def _fit(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command="fit")
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


def _predict(command: argparse.ArgumentParser) -> None:
    command.set_defaults(last="text")
    command.add_argument("artifact", help="an artifact's folder, or a run's name for its chosen one")
    command.add_argument("text", nargs="?", help="one text")
    command.add_argument("--file", help="texts, one a line; or images, as .npy")
    command.add_argument("--top", type=int, default=1, help="how many labels to give (default 1)")
    _storage(command)


def _export(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command="export")
    command.add_argument("artifact", help="an artifact's folder, or a run's name for its chosen one")
    command.add_argument("--format", choices=["onnx", "safetensors"], default="onnx", help="default: onnx")
    command.add_argument("--int8", action="store_true", help="with products in 8 bits; of onnx alone")
    command.add_argument(
        "--to", metavar="DIR", help="the folder to write (default: the artifact's name and the format)"
    )
    _storage(command)


def _runs(command: argparse.ArgumentParser) -> None:
    verbs = command.add_subparsers(metavar="list | cancel | delete")
    _storage(_reading(command, "list_runs"))
    _storage(_reading(verbs.add_parser("list", help="the runs, newest first"), "list_runs"))
    cancel = verbs.add_parser("cancel", help="stop a run (the same command goes on with it), or end one of its trials")
    cancel.set_defaults(command="cancel_run", last="trial")
    cancel.add_argument("run", metavar="R", help="the run's name")
    cancel.add_argument("trial", nargs="?", metavar="TRIAL", help="a trial, such as search-003; left out: the run")
    _storage(cancel)
    delete = verbs.add_parser("delete", help="remove a run and all it holds")
    delete.set_defaults(command="delete_run")
    delete.add_argument("run", metavar="R", help="the run's name")
    _storage(delete)


def _reading(command: argparse.ArgumentParser, does: str) -> argparse.ArgumentParser:
    command.set_defaults(command=does)
    command.add_argument("--json", action="store_true", help="JSON, and nothing else on standard output")
    return command


def _storage(command: argparse.ArgumentParser) -> None:
    command.add_argument("--storage", metavar="PATH|URI", help="where runs lie (default: results)")


if __name__ == "__main__":
    interrupt.install()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # what its retries end in is told in one line
    sys.exit(main())
