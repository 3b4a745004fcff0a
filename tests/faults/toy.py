"""A toy experiment run by the real command line in processes of its own, so that any of them can be killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil

from experiments.engine import history, runs
from tests.faults import counting
from tests.faults.heights import height

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
# In the environment of every process of a test: so they are found, whoever their parent is by now.
MARK = "FITFORMER_FAULT_TEST"

STAGE = {"name": "search", "routine": f"{HERE / 'counting.py'}:ROUTINE", "space": f"{HERE / 'heights.py'}:SPACE"}
SPEC = {
    "name": "toy",
    "task": {"name": "image_classification", "data": "digits", "sample": 100},
    "objectives": {"val_accuracy": "max"},
    "resources": {"cpu": 1, "gpu": 0},
    "finalists": {"count": 1},
}


class Toy:
    """`trials` points of one number each, `epochs` reports each; trial 0 has height 0.5, trial k height(k).

    `faults`: trial → fault of `counting`. `drawn`: the searcher proposes instead of the list, and faults cannot be
    aimed. `stage` goes into the one stage, all other changes into the experiment (time="10s", resources={…}).
    """

    def __init__(
        self, folder, environment, template, *, trials=4, epochs=3, seconds=0.0, faults=None, drawn=False, stage=None,
        **changes,
    ):  # fmt: skip
        self.folder, self.environment = folder, {**environment, MARK: str(folder)}
        self.cache, self.begun = Path(environment["FITFORMER_CACHE"]), 0
        self.storage, self.log, self.file = folder / "results", folder / "epochs.log", folder / "toy.yaml"
        options = {"log": str(self.log), "template": str(template), "seconds": seconds}
        options["faults"] = {f"{height(trial):.4f}": fault for trial, fault in (faults or {}).items()}
        initial = [] if drawn else [{"height": height(trial)} for trial in range(1, trials)]
        search = {"initial": initial, "options": options, "trials": trials, "epochs": epochs, **(stage or {})}
        self.spec = {**SPEC, "stages": [{**STAGE, **search}], **changes}
        self.write()

    def write(self):
        """The experiment's file, as `spec` says now."""
        self.file.write_text(json.dumps(self.spec))

    # Processes

    def start(self, *options):
        """A driver: `run` with these options."""
        return self.begin("run", str(self.file), "--storage", str(self.storage), *options)

    def begin(self, *arguments):
        """Any command of the command line, in a process of its own. What it prints goes to files (see `printed`)."""
        self.begun += 1
        with self.stream("out").open("w") as out, self.stream("err").open("w") as err:
            command = [sys.executable, "-m", "experiments", *arguments]
            return subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=out, stderr=err)

    def end(self, driver, code=0, timeout=120):
        """Waits for a driver's end with this exit code; what it printed on standard output."""
        found = driver.wait(timeout)
        assert found == code, f"exit code {found}\n{self.printed('err')[-4000:]}\n{self.printed('out')[-2000:]}"
        return self.printed("out")

    def finish(self, *options, code=0, timeout=120):
        """Runs (on) to the end."""
        return self.end(self.start(*options), code, timeout)

    def cli(self, *arguments, code=0, timeout=60):
        """A command's standard output, with this storage."""
        return self.end(self.begin(*arguments, "--storage", str(self.storage)), code, timeout)

    def stream(self, name):
        """Where the last command begun prints its `out` or `err`."""
        return self.folder / f"{self.begun:03d}.{name}"

    def printed(self, name):
        """What it has printed."""
        return self.stream(name).read_text()

    def wait(self, driver, condition, seconds=90):
        """Until the condition holds, while the driver lives."""
        until = time.monotonic() + seconds
        while not condition():
            assert driver.poll() is None, self.printed("err")[-4000:]
            assert time.monotonic() < until, f"nothing within {seconds} s"
            time.sleep(0.02)

    def wait_or_end(self, driver, condition):
        """Until the condition holds or the driver has ended."""
        while driver.poll() is None and not condition():
            time.sleep(0.01)

    def kill_at(self, driver, records=0, epochs=0):
        """SIGKILL once the ledger (on this disk) has so many lines and the log so many epochs. False: it had ended."""
        self.wait_or_end(driver, lambda: self.lines() >= records and len(self.epochs()) >= epochs)
        ended = driver.poll() is not None
        driver.kill()
        driver.wait()
        return not ended

    def signal_at(self, driver, number=signal.SIGTERM, records=0, epochs=0):
        """The same with a signal, without waiting for the end."""
        self.wait(driver, lambda: self.lines() >= records and len(self.epochs()) >= epochs)
        driver.send_signal(number)

    def processes(self):
        """All living processes of this test, Ray's and those of killed drivers among them."""
        return [process for process in psutil.process_iter() if self._ours(process)]

    def _ours(self, process):
        try:
            return process.environ().get(MARK) == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def clear(self):
        """Kills what the test left."""
        while left := self.processes():
            for process in left:
                process.kill()
            psutil.wait_procs(left, timeout=10)

    # What there is afterwards

    def lines(self):
        """Lines in the newest ledger on this disk."""
        paths = sorted(self.storage.glob("*/ledger.jsonl"), key=os.path.getmtime)
        return paths[-1].read_bytes().count(b"\n") if paths else 0

    def run(self):
        """The newest run."""
        return runs.find(self.storage, None)

    def director(self):
        """Its ledger's fold."""
        return history.fold(self.run().records)

    def trials(self):
        """The trials of the search."""
        return self.director().of_stage("search")

    def epochs(self):
        """The log's lines of epochs: dicts of height, life, pid, begin, epoch."""
        return [line for line in counting.read(self.log) if "epoch" in line]

    def counts(self):
        """How often each (trial, epoch) was done; trials by number, also those of draws."""
        numbers = {trial.config["height"]: trial.number for trial in self.trials()}
        return Counter((numbers[line["height"]], line["epoch"]) for line in self.epochs())

    def tree(self):
        """Every file under the storage with its bytes: equal before and after, nothing was written."""
        return {str(path): path.read_bytes() for path in sorted(self.storage.rglob("*")) if path.is_file()}
