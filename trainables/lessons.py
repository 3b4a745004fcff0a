"""What a student learns from in an epoch: examples, perhaps augmented or unlabelled, and what the teacher says to them.

The teacher's answers come from the cache wherever they can. It is asked as an example comes up where the example is a
new one (augmented otherwise in every epoch), or where the states that are compared would be too large to be kept.
"""

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from tasks import cache, transfer
from tasks.augmentation import Augmentation, Mask, Vocabulary, augment, nearest, special_tokens
from tasks.batches import Rows
from tasks.task import Data, Split
from tasks.texts import TextSplit
from trainables import used
from trainables.answers import Answers, answers
from trainables.losses import soft_targets
from trainables.matches import width
from trainables.mixup import Mixed
from trainables.routine import Workspace
from trainables.teacher import Teacher
from trainables.train import forward_flops, label_loss

_TEXTS_ONLY = ("deletion", "replacement", "neighbours", "swap", "insertion", "crop", "splice", "transfer")
_NEAREST = "nearest.npy"


class LessonSettings(Augmentation):
    """What the teacher's answers count, where examples come from, and how they change."""

    temperature: float = Field(default=2.0, gt=0, description="by which all logits are divided (Hinton et al. 2015)")
    soft_weight: float = Field(
        default=0.8, ge=0, le=1, description="of the teacher's answers; the labels have the rest"
    )
    transfer: str | None = Field(
        default=None,
        description="file or folder of unlabelled texts of the same kind, which the teacher answers to, too",
    )
    versions: int | None = Field(
        default=None,
        ge=1,
        description="augmented versions of the data, taken in turn, whose answers are kept; null: another one each "
        "epoch, answered as it comes up",
    )
    states_gb: float = Field(
        default=4.0, ge=0, description="size up to which the teacher's states are kept; beyond it they are not"
    )


class Lesson(NamedTuple):
    """An epoch's examples, and for which of them the teacher must be asked; its answers to the others are there."""

    split: Split
    live: Mask
    answers: Answers | None


class Lessons:
    """Examples and answers by epoch. names: features of the teacher's layers that are compared.

    `flops` counts what the teacher computed as examples came up.
    """

    flops = 0

    def __init__(
        self,
        teacher: Teacher,
        data: Data,
        settings: LessonSettings,
        names: Collection[str],
        *,
        seed: int,
        precision: str,
        workspace: Workspace,
    ) -> None:
        self.teacher, self.settings, self.names, self.seed = teacher, settings, names, seed
        self._data = data
        self.cache, self.device = workspace.cache, workspace.device
        self.max_length = data.signature.get("max_length", 0)
        self._said = partial(
            answers, teacher, cache_folder=workspace.cache, names=names, precision=precision, device=workspace.device
        )
        self._base, self._key = _examples(data, settings, workspace.cache)
        self._vocabulary = self._known(data.files["tokenizer.json"]) if settings.of_texts else None
        self._last: tuple[int, Lesson] | None = None

    def split(self, epoch: int) -> Split:
        """The training examples as this epoch sees them."""
        return self._lesson(epoch).split

    def taught(
        self, epoch: int, rows: Rows, inputs: Mapping[str, Tensor], names: Collection[str]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The teacher's logits_BC and features `names` (some of those kept) for a batch of an epoch."""
        lesson = self._lesson(epoch)
        live = torch.from_numpy(lesson.live[rows])
        if lesson.answers is None or live.all():
            return self._asked(inputs, names)
        logits_BC = self._tensor(lesson.answers.logits(rows))
        length = inputs["keep"].shape[1] if "keep" in inputs else None
        features = {name: self._tensor(lesson.answers.feature(name, rows, length)) for name in names}
        if live.any():
            fresh, seen = self._asked({name: value[live] for name, value in inputs.items()}, names)
            logits_BC[live] = fresh.float()
            for name, feature in features.items():
                feature[live] = seen[name].float()
        return logits_BC, features

    def _asked(self, inputs: Mapping[str, Tensor], names: Collection[str]) -> tuple[Tensor, dict[str, Tensor]]:
        self.flops += forward_flops(self.teacher.architecture, self.teacher.config["signature"], inputs)
        self.teacher.model.to(self.device)
        return self.teacher.answer(inputs, names)

    def told(self, smoothing: float) -> dict[str, Any]:
        """What a trial's hash has of them: the loss of made-up answers, and how examples change, as plain JSON."""
        n_classes, settings = self._data.signature["n_classes"], self.settings
        said_BC = used.made_up(n_classes, 1.0)
        alone = Mixed({}, None, torch.arange(len(said_BC)), torch.ones(len(said_BC)))
        loss = partial(told, settings, self._data, said_BC=said_BC, mix=alone, smoothing=smoothing)
        return {
            "loss": used.of_loss(lambda logits_BC, targets_B: loss(logits_BC, targets_B=targets_B), n_classes),
            "changes": settings.model_dump(mode="json", include=set(Augmentation.model_fields) | {"versions"}),
            "examples": len(self._base),
            "teacher": self.teacher.fingerprint,
        }

    def _lesson(self, epoch: int) -> Lesson:
        version = self._version(epoch)
        if self._last is None or self._last[0] != version:
            self._last = version, self._make(version)
        return self._last[1]

    def _version(self, epoch: int) -> int:
        if not self.settings.of_texts:
            return 0
        return epoch if self.settings.versions is None else epoch % self.settings.versions

    def _make(self, version: int) -> Lesson:
        split, changed, key = self._base, np.zeros(len(self._base), bool), self._key
        if self._vocabulary is not None:
            assert isinstance(split, TextSplit)
            split, changed = augment(
                split, self.settings, self._vocabulary, max_length=self.max_length, seed=self.seed, epoch=version
            )
            if self.settings.versions is not None:
                rates = self.settings.model_dump(include=set(Augmentation.model_fields) - {"mixup"})
                key = {**key, "rates": rates, "seed": self.seed, "version": version}
                changed = np.zeros_like(changed)
        if changed.all() or self._too_large():
            return Lesson(split, np.ones_like(changed), None)
        return Lesson(split, changed, self._said(split=self._base if changed.any() else split, key=key))

    def _too_large(self) -> bool:
        numbers = sum(width(name, self.teacher.architecture) for name in self.names)
        positions = int(self._base.lengths.sum()) * (self.settings.versions or 1)
        return numbers * positions * 2 > self.settings.states_gb * 1e9

    def _known(self, tokenizer: Path) -> Vocabulary:
        special = special_tokens(tokenizer)
        if not self.settings.neighbours:
            return Vocabulary(special)
        assert isinstance(self._base, TextSplit)
        among = np.setdiff1d(self._base.ids, special)
        said = cache.fingerprint({"teacher": self.teacher.fingerprint, **self._key})
        folder = cache.stored(self.cache / f"nearest-{said}", partial(self._write_nearest, among))
        return Vocabulary(special, np.load(folder / _NEAREST, mmap_mode="r"))

    def _write_nearest(self, among: Any, folder: Path) -> None:
        """By the teacher's own embeddings, which know its task."""
        front_end = self.teacher.model.front_end
        with torch.no_grad():
            table_VD = front_end.cpu()(torch.arange(self.teacher.config["signature"]["vocab_size"])[None])[0]
        np.save(folder / _NEAREST, nearest(table_VD.float().numpy(), among))

    def _tensor(self, values: Any) -> Tensor:
        return torch.from_numpy(values).to(self.device).float()


def told(
    settings: LessonSettings,
    data: Data,
    logits_BC: Tensor,
    said_BC: Tensor,
    *,
    targets_B: Tensor,
    mix: Mixed,
    smoothing: float,
) -> Tensor:
    """What answers (said_BC) and labels say to a batch, as one loss.

    An example without a label, or mixed with another one, counts in the answers alone.
    """
    labelled_B = mix.alone & (targets_B >= 0)
    soft_B = mix.share * soft_targets(logits_BC, said_BC, settings.temperature)
    # Linear in the teacher's probabilities, so this is the loss of their mixture, but for a constant.
    soft_B = soft_B + (1 - mix.share) * soft_targets(logits_BC, said_BC[mix.partner], settings.temperature)
    loss = settings.soft_weight * soft_B.mean()
    if not labelled_B.any():
        return loss
    labels = label_loss(data, logits_BC[labelled_B], targets_B[labelled_B], smoothing)
    return loss + (1 - settings.soft_weight) * labels * labelled_B.float().mean()


def faults(settings: LessonSettings, data: Data) -> list[str]:
    """What a data set of this kind cannot have, and texts that are not there. It needs no teacher."""
    if isinstance(data.splits["train"], TextSplit):
        return transfer.faults(settings.transfer) if settings.transfer else []
    return [
        f"{name} is {value!r}, must be left out for a task that is not text_classification; only mixup works on any"
        for name in _TEXTS_ONLY
        if (value := getattr(settings, name))
    ]


def _examples(data: Data, settings: LessonSettings, folder: Path) -> tuple[Split, dict[str, Any]]:
    """All training examples, and what stands for them."""
    train, key = data.splits["train"], {"data": data.record["fingerprint"], "split": "train"}
    if settings.transfer is None:
        return train, key
    held_out = [split for name in ("validation", "test") if isinstance(split := data.splits[name], TextSplit)]
    assert isinstance(train, TextSplit)
    tokenizer = data.files["tokenizer.json"]
    more, said = transfer.prepare(settings.transfer, tokenizer, held_out, folder, data=key["data"])
    return transfer.joined(train, more), {**key, "transfer": said}
