"""Which trainings stand beside a run's picks, as jobs (`benchmarks/frontier_jobs.py`), and what they came to."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.frontier_jobs import Job
from benchmarks.frontier_run import Finished, examples_of, search_flops, training_flops
from experiments.engine.director import Trial
from experiments.engine.interval import interval
from tasks.augmentation import Augmentation
from trainables import checkpoint
from trainables.students import SIZES

Json = dict[str, Any]
SEEDS = (1, 2)
SUBNETS = 8
_FROM_SCRATCH = {"learning_rate": 1e-3}  # what began at random needs more than the 5e-4 of slices
_LABELS = {
    "transfer": None,
    **dict.fromkeys(("soft_weight", "hidden_weight", "attention_weight", "relation_weight"), 0.0),
}
_RATES = set(Augmentation.model_fields) - {"augmented"}


class Trainings:
    """The jobs of a run. picks: ids of the picked trials, the slowest first; heads: by share, of the headlines."""

    def __init__(self, run: Finished, picks: Sequence[str], heads: Mapping[str, str | None], subnets: int) -> None:
        self.run, self.subnets = run, subnets
        self.picks = [run.trial(name) for name in dict.fromkeys(picks)]
        students = [trial for trial in self.picks if trial.id != run.teacher.id]
        wanted = {share: next((t for t in students if t.id == name), None) for share, name in heads.items()}
        self.students = students
        self.heads = {share: trial or students[0] for share, trial in wanted.items()} if students else {}

    def jobs(self) -> list[Job]:
        """All of them; those whose figures the issue asks for first come first."""
        parts = (self._ablations, self._alone, self._independent, self._seeds, self._tau)
        return [job for part in parts for job in part()]

    def hypernymy(self, pairs: str) -> list[Job]:
        """The teacher and every picked shape, as slices of that teacher, on another task's folder of pairs."""
        task = {"name": "text_classification", "data": pairs, "tokenizer": self.run.task["tokenizer"]}
        task |= {name: self.run.task[name] for name in ("sample", "evaluation_sample") if name in self.run.task}
        teacher = {**self.run.settings(self.run.teacher), "task": task}
        found = [Job(name="hypernymy-teacher", routine="train", config=teacher, save=True, test=True)]
        for trial in self.students:
            config = {**self._sliced(trial), "task": task, "teacher": "jobs.hypernymy-teacher"}
            config.pop("transfer", None)  # other texts than these pairs
            found.append(Job(name=f"hypernymy-{trial.id}", routine="distill", config=config, test=True))
        return found

    def _seeds(self) -> Iterator[Job]:
        for trial in self.picks:
            routine = self._stage(trial)["routine"]
            for seed in SEEDS:
                config = {**self.run.settings(trial), "seed": seed}
                yield Job(name=f"seed-{trial.id}-{seed}", routine=routine, config=config, test=True)

    def _alone(self) -> Iterator[Job]:
        """On labels alone, from scratch and from slices of the teacher: for as many epochs, and as many examples."""
        for head in {trial.id: trial for trial in self.heads.values()}.values():
            for epochs in sorted({float(self._stage(head)["epochs"]), self._as_many(head)}):
                config = {**self._scratch(head), "epochs": epochs}
                yield Job(name=f"alone-scratch-{head.id}-{epochs:g}", routine="train", config=config, test=True)
                config = {**self._sliced(head), **_LABELS, "epochs": epochs}
                yield Job(name=f"alone-slices-{head.id}-{epochs:g}", routine="distill", config=config, test=True)

    def _independent(self) -> Iterator[Job]:
        """Slices of the teacher, each trained for its share of what supernet and search cost, besides."""
        for trial in self._elastic():
            config = self._sliced(trial)
            config["epochs"] = round(config["epochs"] * self.stretch(), 2)
            yield Job(name=f"independent-{trial.id}", routine="distill", config=config, test=True)

    def _ablations(self) -> Iterator[Job]:
        """Of each headline, the fastest first; each as many examples as the run gave."""
        for head in reversed({trial.id: trial for trial in self.heads.values()}.values()):
            yield from self._without(head)
        for elastic in [trial for trial in (*self.heads.values(), *self._elastic()) if self._inherits(trial)][:1]:
            config = self._sliced(elastic)
            yield Job(name=f"without-supernet-{elastic.id}", routine="distill", config=config, test=True)

    def _without(self, head: Trial) -> Iterator[Job]:
        whole, changes = self.run.settings(head), dict[str, Json]()
        if used := {name: 0.0 for name in _RATES if whole.get(name)}:
            changes["augmentation"] = {**whole, **used}
        if whole.get("transfer"):
            changes["transfer"] = {**whole, "transfer": None, "epochs": self._as_many(head)}
        taught = {name: value for name, value in whole.items() if name not in (*SIZES, "like")}
        changes["slices"] = {**taught, **self._shape(head), **_FROM_SCRATCH, "student": "scratch"}
        for name, config in changes.items():
            yield Job(name=f"without-{name}-{head.id}", routine="distill", config=config, test=True)
        if like := whole.get("like"):  # a searched shape, begun as slices: with the weights of its subnet instead
            config = {**whole, "student": like, "like": None}
            yield Job(name=f"from-supernet-{head.id}", routine="distill", config=config, test=True)

    def _tau(self) -> Iterator[Job]:
        """Subnets drawn at random, each scored as the search does and then trained as the picks are."""
        found, final = self.run.trials("subnet"), self._elastic()
        if not found or not final:
            return
        rng = np.random.default_rng(0)
        for place in sorted(rng.permutation(len(found))[: self.subnets]):
            trial = found[place]
            yield Job(name=f"inherited-{trial.id}", routine="subnet", config=self.run.settings(trial), save=True)
            option = self._stage(final[0])["each"]["option"]
            config = {**self.run.settings(final[0]), option: f"jobs.inherited-{trial.id}"}
            yield Job(name=f"trained-{trial.id}", routine="distill", config=config, test=True)

    def stretch(self) -> float:
        """How many times as many epochs an independent student gets: the compute of supernet and search is spread over
        all students that came of them, by what each cost.
        """
        final = sum(training_flops(trial) for trial in self.run.trials("distill") if self._stage(trial)["each"])
        return 1 + (sum(map(training_flops, self.run.trials("supernet"))) + search_flops(self.run)) / final

    def _as_many(self, trial: Trial) -> float:
        """Epochs of the labelled examples alone that show a student as many as the run did."""
        longer = examples_of(trial) / self.run.data().record["n"]["train"]
        return float(round(self._stage(trial)["epochs"] * longer, 2))

    def _elastic(self) -> list[Trial]:
        """The picked students that come from the supernet."""
        return [trial for trial in self.students if self._stage(trial)["each"]]

    def _inherits(self, trial: Trial) -> bool:
        """Whether it began with the supernet's weights, not only in a shape that was searched by them."""
        return trial in self._elastic() and self.run.settings(trial)["student"] != "slices"

    def _stage(self, trial: Trial) -> Json:
        return dict(next(stage for stage in self.run.spec["stages"] if stage["name"] == trial.stage))

    def _shape(self, trial: Trial) -> Json:
        return dict(checkpoint.read_config(self.run.checkpoint(trial))["architecture"])

    def _sliced(self, trial: Trial) -> Json:
        """A trial's settings, but begun as slices of the teacher of its own shape."""
        shape, whole = self._shape(trial), self._shape(self.run.teacher)
        sizes = {name: shape[name] for name in SIZES if shape[name] != whole[name] and shape[name] is not None}
        return {**self.run.settings(trial), **sizes, "student": "slices", "like": None}

    def _scratch(self, trial: Trial) -> Json:
        whole = self.run.settings(trial)
        kept: Json = {name: whole[name] for name in ("task", "batch_size") if name in whole}
        return {**self._shape(trial), **kept, **_FROM_SCRATCH}


def drawn(run: Finished, picks: Mapping[str, float], jobs: Mapping[str, Json]) -> list[Json]:
    """What comes without the supernet, of the shapes drawn at random and trained as the picks are (`_tau`): of each its
    accuracy on test, beside that of the most accurate pick whose shape is as fast, where there is one.

    picks: accuracy on test of float32 weights by trial. Latency of both as the search knew it. The slowest first.
    """
    found = []
    for name in (name.removeprefix("trained-") for name in jobs if name.startswith("trained-")):
        latency = run.trial(name).metrics["latency_ms"]
        as_fast = [pick for pick in picks if _searched_ms(run, run.trial(pick)) <= latency]
        pick = max(as_fast, key=picks.__getitem__, default=None)
        row = {
            "shape": run.trial(name).config,
            "latency_ms": latency,
            "drawn": jobs[f"trained-{name}"]["test_accuracy"],
        }
        found.append(row | {"pick": pick, "picked": pick and picks[pick]})
    return sorted(found, key=lambda row: -row["latency_ms"])


def _searched_ms(run: Finished, pick: Trial) -> float:
    """The latency of the subnet that a pick has the shape of; infinite where it is of no search."""
    each = next(stage for stage in run.spec["stages"] if stage["name"] == pick.stage)["each"]
    if not each:
        return math.inf
    stage, number = pick.config[each["option"]].split(".")[1:]
    return float(run.director.trials[stage, int(number)].metrics["latency_ms"])


def spread(accuracies: Sequence[float]) -> Json:
    """Mean and 95 % interval of three seeds, by Student's t; of fewer the mean alone."""
    if len(accuracies) != len(SEEDS) + 1:
        return {"accuracies": list(accuracies), "mean": statistics.fmean(accuracies)}
    return {"accuracies": list(accuracies), **interval(accuracies)._asdict()}


def tau(found: Mapping[str, Json]) -> Json | None:
    """Kendall's rank correlation of inherited and trained accuracy on validation, over the subnets that have both."""
    from scipy.stats import kendalltau

    names = [name.removeprefix("trained-") for name in found if name.startswith("trained-")]
    pairs = {
        name: (found[f"inherited-{name}"]["val_accuracy"], found[f"trained-{name}"]["val_accuracy"]) for name in names
    }
    if len(pairs) < 2:
        return None
    inherited, trained = zip(*pairs.values(), strict=True)
    return {"tau": float(kendalltau(inherited, trained).statistic), "subnets": len(pairs), "accuracies": pairs}
