"""Small networks that read texts, random and so quick to make."""

import tokenizers
import torch

from models import artifact
from models.architecture import Architecture
from models.encoder import build

WORDS = ["[PAD]", "[UNK]", "a", "an", "animal", "bird", "cat", "dog", "eats", "fish"]
WORDS += ["green", "of", "or", "red", "runs", "sleeps", "that", "the", "thing", "which"]
SIGNATURE = {"input": "tokens", "vocab_size": len(WORDS), "max_length": 12, "pad_id": 0, "n_classes": 3}
LABELS = ["animal", "person", "thing"]
TEXTS = [f"{' '.join(['the red cat'] * (i % 5))} {WORDS[2 + i % 18]} that {WORDS[19 - i % 17]}" for i in range(80)]
SHAPE = Architecture(n_layers=1, d_model=16, n_heads=2, d_head=8, d_ff=32)
TEACHER = Architecture(n_layers=2, d_model=32, n_heads=4, d_head=8, d_ff=128)
BERT = Architecture(**{**TEACHER.model_dump(), "norm_placement": "post", "embedding_norm": True, "norm_eps": 1e-12})


def tokenizer(folder):
    """A folder with the tokenizer of `WORDS`."""
    folder.mkdir(parents=True, exist_ok=True)
    words = {word: number for number, word in enumerate(WORDS)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(folder / "tokenizer.json"))
    return folder


def ship(folder, seed=0, precision="fp32"):
    """The artifact of a random network whose answers differ from text to text."""
    torch.manual_seed(seed)
    model = build(SHAPE, SIGNATURE).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.7)
    artifact.save(
        folder,
        model,
        architecture=SHAPE,
        signature=SIGNATURE,
        labels=LABELS,
        files={"tokenizer.json": tokenizer(folder.parent / "tokenizer") / "tokenizer.json"},
        metrics={},
        origin=artifact.Origin(name=folder.name, task="text_classification", data="toy", fingerprint="0"),
        precision=precision,
    )
    return folder
