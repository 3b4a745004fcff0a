"""The same texts as another tokenizer reads them, such as one with a smaller vocabulary."""

from functools import partial
from pathlib import Path
from typing import cast

from tokenizers import Tokenizer

from tasks import cache, texts
from tasks.classification import Classification
from tasks.task import Data
from tasks.texts import Texts, TextSplit

FILE = "tokenizer.json"


def retokenized(data: Data, tokenizer: str, folder: Path) -> Data:
    """Data whose texts are read by `tokenizer` (the text of a tokenizer.json); kept under the cache `folder`."""
    wanted = _plain(tokenizer, data)
    if FILE in data.files and _plain(data.files[FILE].read_text(encoding="utf-8"), data) == wanted:
        return data
    said = cache.fingerprint({"data": data.record["fingerprint"], "tokenizer": wanted})
    found = texts.load(cache.stored(folder / f"texts-{said}", partial(_write, data, wanted)))
    found.record.update({**data.record, **found.record, "fingerprint": said})
    return found


def _plain(tokenizer: str, data: Data) -> str:
    """As it is stored with prepared data, so that equal ones are known as such."""
    model = Tokenizer.from_str(tokenizer)
    model.enable_truncation(data.signature["max_length"])
    model.no_padding()
    return str(model.to_str())


def as_read_by(place: Path, data: Data, folder: Path) -> Data:
    """The data for the model in a checkpoint or an artifact, which may have brought a tokenizer of its own."""
    own = place / FILE
    return retokenized(data, own.read_text(encoding="utf-8"), folder) if own.is_file() else data


def _write(data: Data, tokenizer: str, folder: Path) -> None:
    splits = cast(dict[str, TextSplit], data.splits)
    texts.write(
        Texts(
            cast(Classification, data).labels,
            {name: split.texts for name, split in splits.items()},
            {name: split.targets for name, split in splits.items()},
            data.record,
        ),
        Tokenizer.from_str(tokenizer),
        data.signature["max_length"],
        folder,
    )
