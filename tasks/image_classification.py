"""One class for an image, from scikit-learn's handwritten digits or the user's arrays."""

from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tasks import cache, images
from tasks.classification import Classification
from tasks.task import Task

VERSION = 1  # of what is stored; raise it when the same config shall give other files
DIGITS = "digits"


class ImageConfig(BaseModel):
    """The `task:` block of an experiment on images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = Field(description="`digits`, or an .npz file with the arrays images, labels and (optional) split.")
    sample: int | None = Field(default=None, ge=2, description="Train on a stratified sample of so many images.")
    validation_fraction: float = Field(
        default=0.1, gt=0, lt=0.5, description="Share of the images for validation, if the data has no such split."
    )
    test_fraction: float = Field(
        default=0.1, gt=0, lt=0.5, description="Share of the images for the test, if the data has no such split."
    )
    seed: int = Field(default=0, ge=0, description="Draws the splits and the sample.")


class ImageClassification:
    """See `tasks.task.Task`."""

    Config = ImageConfig

    @property
    def example(self) -> dict[str, Any]:
        """The digits."""
        return {"data": DIGITS}

    def prepare(self, config: ImageConfig, folder: Path) -> Classification:
        """The data of `config`, preprocessed under the cache `folder` unless that was done. Raises DataError."""
        path = None if config.data == DIGITS else images.locate(config.data)
        digests = {path: cache.digest(path, folder)} if path else {}
        options = config.model_dump(exclude={"data"})
        fingerprint = cache.fingerprint({"version": VERSION, "files": [*digests.values()], "config": options})
        prepared = folder / f"images-{fingerprint}"
        if not prepared.is_dir():
            _preprocess(config, path, prepared)
        cache.remember(digests, folder)
        data = images.load(prepared)
        data.record.update(source=config.data, fingerprint=fingerprint)
        return data

    def classical(self, data: Classification) -> dict[str, Any]:
        """Logistic regression on the pixels."""
        from tasks import baselines  # scikit-learn is slow to import, and few trials need it

        return baselines.pixels(data)


def _preprocess(config: ImageConfig, path: Path | None, prepared: Path) -> None:
    """Everything that can be wrong with the data is found before anything is written."""
    shares = {"validation": config.validation_fraction, "test": config.test_fraction}
    source = images.read(path) if path else images.digits()
    drawn = images.draw(source, shares, config.sample, config.seed)
    cache.stored(prepared, partial(images.write, drawn))


TASK: Task = ImageClassification()
