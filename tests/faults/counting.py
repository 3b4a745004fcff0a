"""A routine that trains nothing and writes down every epoch it did: what was lost or repeated can be counted.

Run by the real command line (`routine: tests/faults/counting.py:ROUTINE`) on the digits, with `heights.py:SPACE`. Its
checkpoint is that of a tiny encoder made beforehand (`template`), so that finalists are exported as always, and a
trial's process needs no torch. Its score after n epochs is height * (1 - 0.5 ** n).

Each line of the log is one epoch (height, life, pid, begin, epoch) or one fault (height, fault, pid). A life is one
object of the routine, so one segment's work; `begin` is the epoch it was loaded at. Faults go by height:
{"0.6180": {"does": "raise", "at": 2}} raises instead of epoch 2. `does`:

    raise memory infeasible      an exception
    exit kill                    the process ends: os._exit(3), SIGKILL
    hang stop                    it does not end, but nothing comes: a sleep, SIGSTOP
    nan inf none missing         val_accuracy is that, or is not reported

`times` bounds how often (of all attempts together; 0: always), `where` is advance, save or load.
"""

import json
import math
import os
import secrets
import shutil
import signal
import time
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from trainables.routine import Infeasible

ODD = {"nan": math.nan, "inf": math.inf, "none": None}


class Fault(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    does: Literal["raise", "memory", "infeasible", "exit", "kill", "hang", "stop", "nan", "inf", "none", "missing"]
    at: int = 1
    times: int = 0
    where: Literal["advance", "save", "load"] = "advance"


class CountingConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    height: float
    epochs: int
    log: Path
    template: Path
    seconds: float = 0.0
    faults: dict[str, Fault] = {}
    task: dict[str, Any] = {}
    seed: int = 0


class Counting:
    Config = CountingConfig

    def __init__(self, config, workspace):
        self.config = config
        self.life, self.begin, self.epochs = secrets.token_hex(4), 0, 0

    def advance(self):
        time.sleep(self.config.seconds)
        fault = self._fault("advance", self.epochs + 1)
        self.epochs += 1
        self._log(life=self.life, begin=self.begin, epoch=self.epochs)
        metrics = {"epochs": self.epochs, "val_accuracy": self.config.height * (1 - 0.5**self.epochs)}
        if fault == "missing":
            del metrics["val_accuracy"]
        if fault in ODD:
            metrics["val_accuracy"] = ODD[fault]
        return metrics

    def save(self, folder):
        self._fault("save", self.epochs)
        shutil.copytree(self.config.template, folder, dirs_exist_ok=True)
        (folder / "state.json").write_text(json.dumps({"epochs": self.epochs}))

    def load(self, folder):
        epochs = json.loads((folder / "state.json").read_text())["epochs"]
        self._fault("load", epochs)
        self.epochs = self.begin = epochs

    def _fault(self, where, epoch):
        fault = self.config.faults.get(f"{self.config.height:.4f}")
        if fault is None or (fault.where, fault.at) != (where, epoch):
            return ""
        if fault.times and fault.times <= sum("fault" in line and self._mine(line) for line in read(self.config.log)):
            return ""
        self._log(fault=fault.does)
        act(fault.does)
        return fault.does

    def _mine(self, line):
        return line["height"] == self.config.height

    def _log(self, **values):
        line = json.dumps({"height": self.config.height, "pid": os.getpid(), **values}) + "\n"
        with self.config.log.open("a") as log:
            log.write(line)


def act(fault):
    match fault:
        case "raise":
            raise RuntimeError("the routine has a fault")
        case "memory":
            raise MemoryError("the routine wants too much")
        case "infeasible":
            raise Infeasible("the point cannot work")
        case "exit":
            os._exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "hang":
            time.sleep(3600)


def read(log):
    """The lines of a log as dicts."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


ROUTINE = Counting
