"""Prune and recover: a trained network loses parts, learns again, loses more.

The tensors become really smaller, so that the later rounds are the cheaper ones. What is lost in all is a ratio for
each compressor (`models.compression`); the rounds share it evenly. Recovery is by the labels and, where there is a
teacher, by its answers.
"""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models import pretrained
from models.architecture import Architecture
from models.compression.compressor import Context, Network
from models.encoder import Classifier, build
from models.slicing import assembled
from tasks.batches import bucketed, sorted_by_length
from tasks.task import Data
from trainables import checkpoint, teacher, used
from trainables.answers import Answers, answers
from trainables.data import default_cache, prepare
from trainables.loop import EVALUATION_BATCH, Examples, Loop, Optimization, on_device
from trainables.losses import soft_targets
from trainables.pruning import CompressConfig, shape, sizes, step
from trainables.retokenized import FILE, as_read_by, retokenized
from trainables.routine import Workspace
from trainables.train import COSTS, PASSES, costs, forward_flops, label_loss

# Of a pretrained model where its data are not known: only shapes come of it.
_SIGNATURE = {"input": "tokens", "vocab_size": 30_000, "max_length": 8, "pad_id": 0, "n_classes": 2}


class Compress:
    """Compresses one network."""

    Config = CompressConfig

    def __init__(self, config: CompressConfig, workspace: Workspace) -> None:
        self.config, self.workspace = config, workspace
        self.given = prepare(config.task, workspace.cache)
        torch.manual_seed(config.seed)
        model, self.data = _start(config, self.given, workspace.cache)
        self.said = _answers(config, self.given, workspace)
        self.rounds = self.flops = 0
        self._take(model)
        self.began = sizes(config, self._network())  # before anything is removed, also where a checkpoint follows

    @staticmethod
    def architecture(config: CompressConfig) -> Architecture:
        """What the config comes to in the end (see `trainables.pruning.shape`)."""
        if _of_huggingface(config.start):
            whole = _pretrained(config.start)
            model = build(whole, _SIGNATURE)
            return shape(config, Network(model, whole, model.signature.model_dump()))
        found = teacher.read(config.start, default_cache(), "start")
        return shape(config, Network(found.model, found.architecture, dict(found.config["signature"])))

    @staticmethod
    def check(config: CompressConfig, data: Data) -> None:
        """Raises ValueError, a line a fault, where start, ratios, teacher and data do not fit together."""
        model, seen = _start(config, data, default_cache())
        shape(config, Network(model, model.architecture, seen.signature, _tokenizer(seen)))
        if config.teacher is not None:
            found = teacher.read(config.teacher, default_cache())
            teacher.check(found, config.task, as_read_by(found.folder, data, default_cache()), default_cache())

    @staticmethod
    def check_early(config: CompressConfig, data: Data, shapes: Mapping[str, Architecture]) -> None:
        """What can be told before the start is there, from its architecture if `shapes` has it; as `check` does."""
        if whole := shapes.get(config.start):
            shape(config, Network(build(whole, data.signature), whole, data.signature, _tokenizer(data)))

    @staticmethod
    def metrics(config: CompressConfig, data: Data) -> list[str]:
        """The names in its reports."""
        return [*Loop.metrics(data), *COSTS, "rounds", "training_flops"]

    def advance(self) -> dict[str, Any]:
        """The loop's report (see `Loop.advance`), `rounds` so far, what is left costs, and `training_flops` of the
        stretch (see `Train.advance`); those of scoring what is important are few and not counted."""
        while self.rounds < self._due():
            self._prune()
        self.flops = 0
        report = {**self.loop.advance(), **self.cost, "rounds": self.rounds, "used": self.used}
        return {**report, "training_flops": PASSES * self.flops}

    def save(self, folder: Path) -> None:
        """Write a checkpoint (see `trainables.checkpoint`), with the tokenizer where that is another one by now."""
        config = {
            "architecture": self.model.architecture.model_dump(),
            "signature": self.data.signature,
            "task": self.config.task,
            "config": self.config.model_dump(exclude_unset=True),
            "rounds": self.rounds,
        }
        checkpoint.save(folder, self.loop, config)
        if self.data is not self.given:
            (folder / FILE).write_bytes(self.data.files[FILE].read_bytes())

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint, in the shape that was left, with this routine's settings."""
        config = checkpoint.read_config(folder)
        self.data = as_read_by(folder, self.given, self.workspace.cache)
        self.rounds = config["rounds"]
        architecture = Architecture.model_validate_json(json.dumps(config["architecture"]))
        self._take(build(architecture, self.data.signature))
        checkpoint.load(folder, self.loop)

    def _due(self) -> int:
        """How many rounds there have been when the coming stretch is trained."""
        between = self.config.prune_until * self.config.epochs / self.config.rounds
        return sum(number * between <= self.loop.epochs + 1e-6 for number in range(self.config.rounds))

    def _network(self) -> Network:
        return Network(self.model, self.model.architecture, self.data.signature, _tokenizer(self.data))

    def _prune(self) -> None:
        network = self._network()
        for name in self.began:
            context = Context(self._scored(), self._loss_of_labels, partial(_token_counts, self.data))
            network = step(self.config, name, self.rounds, network, self.began).compress(network, context)
            if network.tokenizer is not None:
                self.data = retokenized(self.given, network.tokenizer, self.workspace.cache)
        self.rounds += 1
        if network.model is not self.model:
            state = self.loop.state()
            self._take(network.model)
            self.loop.load_state(state)

    def _take(self, model: Classifier) -> None:
        """Train this one from now on; the optimizer begins afresh."""
        self.model = model
        optimization = Optimization(**self.config.model_dump(include=set(Optimization.model_fields)))
        seed, device = self.config.seed, self.workspace.device
        self.loop = Loop(model, self.data, optimization, self._loss, seed=seed, device=device)
        self.cost = costs(model.architecture, model, self.data, self.workspace)
        n_classes = self.data.signature["n_classes"]
        said_BC = used.made_up(n_classes, 1.0)
        loss = used.of_loss(lambda logits_BC, targets_B: self._told(logits_BC, targets_B, said_BC), n_classes)
        self.used = used.digest(**used.of_training(self.loop), loss=loss)

    def _scored(self) -> list[Examples]:
        """The examples that tell what is important; as the network reads them now."""
        train, size = self.data.splits["train"], self.config.batch_size
        batches = bucketed(train.lengths, size, self.config.seed, 0)[: -(-self.config.examples // size)]
        return [Examples(rows, *on_device(train.batch(rows), self.workspace.device)) for rows in batches]

    def _loss_of_labels(self, model: nn.Module, examples: Examples) -> Tensor:
        return self.data.loss(model(**examples.inputs), examples.targets)

    def _loss(self, model: nn.Module, examples: Examples) -> Tensor:
        self.flops += forward_flops(self.model.architecture, self.data.signature, examples.inputs)
        logits_BC: Tensor = model(**examples.inputs)
        if self.said is None:
            return self._told(logits_BC, examples.targets, logits_BC)
        said_BC = torch.from_numpy(self.said.logits(examples.rows)).to(logits_BC.device)
        return self._told(logits_BC, examples.targets, said_BC)

    def _told(self, logits_BC: Tensor, targets_B: Tensor, said_BC: Tensor) -> Tensor:
        """What labels, and the answers said_BC of a teacher if there is one, say to a batch, as one loss."""
        weight = self.config.soft_weight
        hard = label_loss(self.data, logits_BC, targets_B, self.config.label_smoothing)
        if self.said is None:
            return hard
        return weight * soft_targets(logits_BC, said_BC, self.config.temperature).mean() + (1 - weight) * hard


def _start(config: CompressConfig, data: Data, cache: Path) -> tuple[Classifier, Data]:
    """The network to begin with, and the data as it reads them. ValueError where they do not fit together."""
    if _of_huggingface(config.start):
        model = build(_pretrained(config.start), data.signature)
        pretrained.load_into(model, config.start)
        return model, data
    found = teacher.read(config.start, cache, "start")
    data = as_read_by(found.folder, data, cache)
    teacher.check(found, config.task, data, cache)
    tensors = found.model.state_dict()
    if "positions.weight" in tensors and "max_length" in data.signature:  # it may read longer texts
        tensors["positions.weight"] = tensors["positions.weight"][: data.signature["max_length"]]
    return assembled(found.architecture, data.signature, tensors, found.model), data


def _pretrained(start: str) -> Architecture:
    try:
        return pretrained.architecture(start)
    except ValueError as error:
        raise ValueError(str(error).replace("pretrained is ", "start: ")) from None


def _tokenizer(data: Data) -> str | None:
    return data.files[FILE].read_text(encoding="utf-8") if FILE in data.files else None


def _of_huggingface(start: str) -> bool:
    settings = Path(start).expanduser() / "config.json"
    if not settings.is_file():
        return not Path(start).expanduser().is_dir()
    try:
        return "model_type" in json.loads(settings.read_bytes())
    except ValueError:
        return False


def _answers(config: CompressConfig, data: Data, workspace: Workspace) -> Answers | None:
    if config.teacher is None:
        return None
    found = teacher.read(config.teacher, workspace.cache)
    data = as_read_by(found.folder, data, workspace.cache)
    teacher.check(found, config.task, data, workspace.cache)
    key = {"data": data.record["fingerprint"], "split": "train"}
    how = {"precision": config.precision, "device": workspace.device}
    return answers(found, data.splits["train"], key, workspace.cache, **how)


def _token_counts(data: Data) -> NDArray[np.int64]:
    """How often each token occurs in the training split."""
    train, counts = data.splits["train"], np.zeros(data.signature["vocab_size"], np.int64)
    for rows in sorted_by_length(train.lengths, EVALUATION_BATCH):
        inputs = train.batch(rows).inputs
        counts += np.bincount(inputs["tokens"][inputs["keep"]], minlength=len(counts))
    return counts


ROUTINE = Compress
