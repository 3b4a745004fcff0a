"""Predicts from an artifact folder with numpy, onnxruntime and (for texts) tokenizers: no torch, nothing else of ours.

The file stands alone: copied beside an artifact it works without the rest of the repository.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

FORMAT_VERSION = 1
KEYS = ("architecture", "signature", "labels", "sha256")
BATCH = 32

Feeds = dict[str, npt.NDArray[Any]]


def read_config(folder: Path) -> dict[str, Any]:
    """The artifact's config.json; raises ValueError when it is missing, damaged or of a newer format."""
    path = folder / "config.json"
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder that exists; check the path of the artifact")
    if not path.is_file():
        raise ValueError(f"{folder} is no artifact: it has no config.json; give the folder that has it")
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise ValueError(f"{path} is damaged (it is no JSON); copy the artifact again") from None
    version = config.get("format_version") if isinstance(config, dict) else None
    if type(version) is not int:
        raise ValueError(f"{path} is damaged (format_version is {version!r:.40}); copy the artifact again")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format_version {version}, this code reads up to {FORMAT_VERSION}; update Fitformer"
        )
    if damage := _damage(config):
        raise ValueError(f"{path} is damaged ({damage}); copy the artifact again")
    return dict(config)


def _damage(config: dict[str, Any]) -> str:
    """What nothing can be predicted with in config.json, if anything."""
    if absent := [key for key in KEYS if key not in config]:
        return f"no {', '.join(absent)}"
    labels, signature = config["labels"], config["signature"]
    kinds = (("labels", list), ("signature", dict), ("architecture", dict), ("sha256", dict))
    if wrong := [name for name, kind in kinds if not isinstance(config[name], kind)]:
        return f"{wrong[0]} is {config[wrong[0]]!r:.40}"
    if signature.get("input") not in list(READERS):
        return f"signature.input is {signature.get('input')!r:.40}"
    numbers = {name: signature.get(name) for name in (*READERS[signature["input"]].numbers, "n_classes")}
    if bad := [name for name, number in numbers.items() if type(number) not in (int, float) or not 0 <= number < 2**31]:
        return f"signature.{bad[0]} is {numbers[bad[0]]!r:.40}"
    if numbers["n_classes"] != len(labels):
        return f"{len(labels)} labels for {numbers['n_classes']} classes"
    return ""


def check_files(folder: Path, names: Sequence[str], sha256: dict[str, str]) -> None:
    """Raises ValueError with one line for each of these files that is missing or not as it was recorded."""
    if faults := [fault for name in names if (fault := file_fault(folder, name, sha256))]:
        raise ValueError("\n".join(faults))


def file_fault(folder: Path, name: str, sha256: dict[str, str]) -> str | None:
    """What is wrong with one file of the artifact, in a line; None when nothing is."""
    if not (folder / name).is_file():
        return f"{folder} lacks {name}; copy the whole artifact again"
    if file_hash(folder / name) != sha256.get(name):
        return f"{folder / name} does not match its recorded hash: damaged or changed; copy it again"
    return None


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def session(model: Path | bytes, threads: int) -> onnxruntime.InferenceSession:
    """A session on the CPU, made alike for prediction and for latency: what is measured is what is used."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def softmax(logits_BC: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Probabilities over the last axis, in float64."""
    exp_BC = np.exp(logits_BC.astype(np.float64) - logits_BC.max(axis=-1, keepdims=True))
    return np.asarray(exp_BC / exp_BC.sum(axis=-1, keepdims=True))


class Tokens:
    """Turns texts into token ids, as the tokenizer of the artifact does."""

    files = ("tokenizer.json",)
    numbers = ("pad_id", "max_length")

    def __init__(self, folder: Path, signature: dict[str, Any]) -> None:
        from tokenizers import Tokenizer  # images need none

        self.pad_id: int = signature["pad_id"]
        self.tokenizer = Tokenizer.from_file(str(folder / self.files[0]))
        self.tokenizer.no_padding()
        if not (cut := self.tokenizer.truncation) or cut["max_length"] > signature["max_length"]:
            self.tokenizer.enable_truncation(signature["max_length"])

    def read(self, texts: Sequence[Any]) -> list[npt.NDArray[np.int64]]:
        """One array of ids a text; a text without any token is one padding token."""
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise ValueError(f"input {i} is of type {type(text).__name__}; this artifact reads texts")
        encodings = self.tokenizer.encode_batch(list(texts))
        return [np.array(encoding.ids or [self.pad_id], dtype=np.int64) for encoding in encodings]

    def batch(self, examples: Sequence[npt.NDArray[Any]]) -> Feeds:
        """tokens (B, L) and keep (B, L), padded to the longest."""
        lengths_B = np.array([len(ids) for ids in examples])
        keep_BL = np.arange(lengths_B.max()) < lengths_B[:, None]
        tokens_BL = np.full(keep_BL.shape, self.pad_id, dtype=np.int64)
        tokens_BL[keep_BL] = np.concatenate(examples)
        return {"tokens": tokens_BL, "keep": keep_BL}


class Pixels:
    """Turns images (arrays) into scaled float32 arrays of the model's size."""

    files = ()
    numbers = ("height", "width", "channels", "scale")

    def __init__(self, folder: Path, signature: dict[str, Any]) -> None:
        self.scale: float = signature["scale"]
        self.shape = (signature["height"], signature["width"], signature["channels"])

    def read(self, images: Sequence[Any]) -> list[npt.NDArray[np.float32]]:
        """One array (height, width, channels) an image; a single channel may be left out."""
        return [self.pixels(i, image) for i, image in enumerate(images)]

    def pixels(self, i: int, image: Any) -> npt.NDArray[np.float32]:
        """The i-th image, scaled."""
        size = "×".join(map(str, self.shape))
        try:
            pixels = np.asarray(image, dtype=np.float32)
        except (ValueError, TypeError):
            raise ValueError(
                f"input {i} is of type {type(image).__name__}; this artifact reads images of {size}; give a list of "
                "arrays, or a file of them (.npy)"
            ) from None
        if pixels.shape not in {self.shape, self.shape[: 2 if self.shape[2] == 1 else 3]}:
            raise ValueError(
                f"input {i} has shape {'×'.join(map(str, pixels.shape))}; this artifact reads images of {size}; give a "
                "list of such, also of one"
            )
        if not np.isfinite(pixels).all():
            raise ValueError(f"input {i} has values that are not finite, must be numbers; replace them")
        return pixels.reshape(self.shape) * np.float32(self.scale)

    def batch(self, examples: Sequence[npt.NDArray[Any]]) -> Feeds:
        """pixels (B, height, width, channels)."""
        return {"pixels": np.stack(examples)}


READERS: dict[str, type[Tokens] | type[Pixels]] = {"tokens": Tokens, "pixels": Pixels}


class Predictor:
    """A trained artifact, ready to predict.

    folder: the artifact. threads: of ONNX Runtime; 1 is what the card's latency is about.
    Raises ValueError (one line a fault) for a folder that is missing, damaged or of a newer format.
    """

    def __init__(self, folder: str | Path, *, threads: int = 1) -> None:
        folder = Path(folder)
        config = read_config(folder)
        reader = READERS[config["signature"]["input"]]
        if "model.onnx" not in config["sha256"]:
            raise ValueError(f"{folder} was made without model.onnx, which predicts; export this artifact to have it")
        check_files(folder, ["model.onnx", *reader.files], config["sha256"])
        self.labels: list[Any] = config["labels"]
        try:
            self.reader = reader(folder, config["signature"])
            self.session = session(folder / "model.onnx", threads)
        except Exception as error:  # tokenizers and onnxruntime raise classes of their own
            raise ValueError(f"{folder} cannot be loaded: {_reason(error)}; copy the artifact again") from error

    def predict(self, inputs: Sequence[Any], top: int = 1) -> list[list[tuple[Any, float]]]:
        """For each text or image its `top` labels with their probabilities, the likeliest first."""
        if top < 1:
            raise ValueError(f"top must be at least 1, got {top}")
        probabilities_NC = softmax(self.logits(inputs))
        best_NC = np.argsort(-probabilities_NC, axis=-1, kind="stable")[:, :top]
        return [
            [(self.labels[c], float(probabilities_C[c])) for c in best_C]
            for probabilities_C, best_C in zip(probabilities_NC, best_NC, strict=True)
        ]

    def logits(self, inputs: Sequence[Any]) -> npt.NDArray[np.float32]:
        """Logits (N, classes) of texts or images, in their order; long lists go in batches of like length."""
        if isinstance(inputs, str):
            raise ValueError("inputs is one text; give a list of texts")
        examples = self.reader.read(inputs)
        logits_NC = np.zeros((len(examples), len(self.labels)), dtype=np.float32)
        order = np.argsort([len(example) for example in examples], kind="stable")
        for start in range(0, len(examples), BATCH):
            rows = order[start : start + BATCH]
            feeds = self.reader.batch([examples[row] for row in rows])
            logits_NC[rows] = self._run(feeds)
        return logits_NC

    def _run(self, feeds: Feeds) -> npt.NDArray[np.float32]:
        try:
            return np.asarray(self.session.run(["logits"], feeds)[0])
        except Exception as error:  # onnxruntime's own classes
            raise ValueError(f"model.onnx cannot predict: {_reason(error)}; copy the artifact again") from error


def _reason(error: Exception) -> str:
    """The first line of what a library says."""
    return (str(error).splitlines() or [type(error).__name__])[0]
