"""A toy experiment driven through the real engine by a process of its own, so that it can be killed.

Run: python toy.py FOLDER TRIALS EPOCHS SECONDS_PER_EPOCH. Each trial appends (trial, epoch) to `epochs.log`.
"""

import json
import os
import sys
import time
from pathlib import Path

from pydantic import BaseModel

from experiments.engine import launch
from experiments.engine.bridge import Bridge
from experiments.engine.director import Director, Stage
from experiments.engine.events import Lost, Segment, from_record
from experiments.engine.ledger import Ledger
from experiments.engine.outcome import Outcome
from experiments.engine.strategies.asha import Asha
from experiments.engine.strategies.pair import Pair
from experiments.engine.strategies.random import Random


class Toy:
    """Counts epochs; the score approaches `height` and is known in closed form."""

    class Config(BaseModel):
        height: float
        seconds: float = 0.0
        trial: str = ""

    def __init__(self, config, workspace):
        self.config, self.folder, self.epochs = config, workspace.folder, 0

    def advance(self):
        time.sleep(self.config.seconds)
        self.epochs += 1
        with (self.folder / "epochs.log").open("a") as log:
            log.write(json.dumps([self.config.height, self.epochs]) + "\n")
        return {"epochs": self.epochs, "score": self.config.height * (1 - 0.5**self.epochs)}

    def save(self, folder):
        (folder / "state.json").write_text(json.dumps({"epochs": self.epochs}))

    def load(self, folder):
        self.epochs = json.loads((folder / "state.json").read_text())["epochs"]


class Heights:
    """A space of one parameter; each draw is another height."""

    def default(self):
        return {"height": 0.5}

    def draw(self, seed, index):
        return {"height": round((index * 0.6180339887 + seed * 0.1) % 1, 6)}


def director(trials, epochs, seed=0):
    def plan(_):
        return Pair(
            searcher=Random(Random.Config(), Heights(), seed),
            scheduler=Asha(Asha.Config(eta=2), epochs),
            first=[Heights().default()],
            trials=trials,
            epochs=epochs,
            outcome=lambda metrics: Outcome((metrics["score"],)),
        )

    return Director([Stage("search", "toy", plan, watched=("score",))])


def replayed(director, records):
    for record in records:
        event = from_record(record)
        if event is not None:
            director.tell(event)
    return director


def main(folder, trials, epochs, seconds):
    conductor = director(trials, epochs)
    with Ledger(folder) as ledger:
        replayed(conductor, ledger.records)
        launch.connect(None)
        count = launch.slots(launch.resources(1, 0))

        def job(segment: Segment):
            start = {"path": segment.start.path} if segment.start else None
            return {
                "routine": f"{__file__}:Toy",
                "segment": {"number": segment.number, "id": f"search-{segment.trial:03d}", "start": start},
                "values": {**segment.config, "seconds": seconds},
                "store": str(folder),
                "inputs": {},
                "checkpoints": True,
                "resources": {"cpu": 1, "gpu": 0},
            }

        bridge = Bridge(conductor, ledger, job, slots=lambda: count)
        for number in sorted(conductor.in_flight):
            bridge.record(Lost(number, "driver", "the driver ended"))
        print("ready", flush=True)
        launch.execute(bridge, count)
    print("done", len(conductor.trials), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
