"""One class for a text, from any Parquet, CSV, JSONL or Arrow file, or the bundled WordNet glosses.

Preprocessed once for each data set and tokenizer into Arrow files that every trial maps into its memory.
"""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tokenizers
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from tasks import cache, glosses, sources, texts, tokenizer
from tasks.classification import Classification
from tasks.sources import Place
from tasks.task import Task

VERSION = 1  # of what is stored; raise it when the same config shall give other files
BUNDLED = {"glosses": glosses.PATH}
LICENCES = {"glosses": glosses.LICENCE}


class Trained(BaseModel):
    """A vocabulary trained on the training split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["wordpiece", "bpe"] = Field(
        default="wordpiece", description="WordPiece, lowercased; or byte-level byte pairs, which keep case."
    )
    vocab_size: int = Field(default=8000, ge=300, le=1_000_000, description="How many tokens there are at most.")


class Pretrained(BaseModel):
    """The tokenizer of a pretrained model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pretrained: str = Field(description="A model's folder (tokenizer.json or vocab.txt), or its Hugging Face name.")


def _which(value: Any) -> str:
    has = "pretrained" in value if isinstance(value, dict) else isinstance(value, Pretrained)
    return "pretrained" if has else "trained"


class TextConfig(BaseModel):
    """The `task:` block of an experiment on texts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = Field(description="A Parquet, CSV, TSV, JSONL or Arrow file, a folder of them, or `glosses`.")
    text: str | None = Field(default=None, description="The column of texts; told from the data if left out.")
    label: str | None = Field(default=None, description="The column of labels; told from the data if left out.")
    test: str | None = Field(default=None, description="A file of test rows, with the same columns.")
    sample: int | None = Field(default=None, ge=2, description="Train on a stratified sample of so many rows.")
    evaluation_sample: int | None = Field(
        default=None, ge=2, description="Score on a stratified sample of so many rows each of validation and test."
    )
    validation_fraction: float = Field(
        default=0.1, gt=0, lt=0.5, description="Share of the rows for validation, if the data has no such split."
    )
    test_fraction: float = Field(
        default=0.1, gt=0, lt=0.5, description="Share of the rows for the test, if the data has no such split."
    )
    seed: int = Field(default=0, ge=0, description="Draws the splits and the sample.")
    max_length: int = Field(default=128, ge=2, le=8192, description="Tokens that are kept of a text.")
    tokenizer: Annotated[
        Annotated[Trained, Tag("trained")] | Annotated[Pretrained, Tag("pretrained")], Discriminator(_which)
    ] = Field(default=Trained(), description="How texts become tokens.")


class TextClassification:
    """See `tasks.task.Task`."""

    Config = TextConfig

    @property
    def example(self) -> dict[str, Any]:
        """Some of the glosses."""
        return {"data": "glosses", "sample": 500}

    def prepare(self, config: TextConfig, folder: Path) -> Classification:
        """The data of `config`, preprocessed under the cache `folder` unless that was done. Raises DataError."""
        places, pretrained = _inputs(config)
        digests = {path: cache.digest(path, folder) for path in [*(place.path for place in places), *pretrained]}
        fingerprint = _fingerprint(config, places, digests, pretrained)
        prepared = folder / f"texts-{fingerprint}"
        if not prepared.is_dir():
            _preprocess(config, places, pretrained, prepared)
        cache.remember(digests, folder)
        data = texts.load(prepared)
        data.record.update(source=config.data, fingerprint=fingerprint, tokenizer=config.tokenizer.model_dump())
        data.record["licence"] = LICENCES.get(config.data)
        return data

    def classical(self, data: Classification) -> dict[str, Any]:
        """TF-IDF (1-2 grams) and logistic regression, on one thread."""
        from tasks import baselines  # scikit-learn is slow to import, and few trials need it

        return baselines.tfidf(data)


def _inputs(config: TextConfig) -> tuple[list[Place], list[Path]]:
    """The files to read, and those of the pretrained tokenizer."""
    data = BUNDLED.get(config.data, Path(config.data).expanduser())
    test = Path(config.test).expanduser() if config.test else None
    parts: list[Any] = sources.gather([partial(sources.locate, data, test), partial(_pretrained, config)])
    return parts[0], parts[1]


def _pretrained(config: TextConfig) -> list[Path]:
    chosen = config.tokenizer
    return tokenizer.locate(chosen.pretrained) if isinstance(chosen, Pretrained) else []


def _fingerprint(config: TextConfig, places: list[Place], digests: dict[Path, str], pretrained: list[Path]) -> str:
    """Of contents, not of places: the same data elsewhere is the same data."""
    return cache.fingerprint(
        {
            "version": VERSION,
            "tokenizers": tokenizers.__version__,
            "files": [(place.split, place.apart, place.path.suffix, digests[place.path]) for place in places],
            "config": config.model_dump(exclude={"data", "test", "tokenizer"}),
            "tokenizer": [digests[path] for path in pretrained] or config.tokenizer.model_dump(),
        }
    )


def _preprocess(config: TextConfig, places: list[Place], pretrained: list[Path], prepared: Path) -> None:
    """Everything that can be wrong with the data is found before anything is written."""
    shares = {"validation": config.validation_fraction, "test": config.test_fraction}
    source = sources.read(places, config.text, config.label)
    drawn = texts.draw(source, shares, config.sample, config.seed, config.evaluation_sample)
    if isinstance(config.tokenizer, Trained):
        model = tokenizer.train(drawn.texts["train"].to_pylist(), config.tokenizer.kind, config.tokenizer.vocab_size)
    else:
        model = tokenizer.open_pretrained(pretrained[0])
    cache.stored(prepared, partial(texts.write, drawn, model, config.max_length))


TASK: Task = TextClassification()
