import itertools
import json
import os

import numpy as np
import onnx
import pytest
import torch
from pydantic import ValidationError

from models import latency, latency_table
from models.architecture import Architecture, parse_signature
from models.encoder import build
from models.export import random_feeds, to_onnx
from models.latency import Clock, Target, Timing, batches_like, measure, measure_model
from models.latency_parts import REFERENCE, megabytes
from models.latency_table import LayerTable

TOKENS = {"input": "tokens", "vocab_size": 90_000, "max_length": 12, "pad_id": 0, "n_classes": 3}
PIXELS = {"input": "pixels", "height": 8, "width": 8, "channels": 1, "scale": 1 / 16, "n_classes": 10}
LENGTHS = np.array([3, 4, 5, 5, 6, 8, 12])
pinnable = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot pin a thread")


def test_target_by_default_is_one_thread_of_onnxruntime_on_the_cpu():
    default = {"device": "cpu", "runtime": "onnxruntime", "threads": 1, "batch": 1, "precision": "fp32"}
    assert Target().model_dump() == default


def test_target_names_what_is_supported_for_every_fault():
    with pytest.raises(ValidationError) as caught:
        Target(device="cuda", runtime="tensorrt", threads=0)
    text = str(caught.value)
    for value, way_out in (("device is 'cuda'", "'cpu'"), ("runtime is 'tensorrt'", "'onnxruntime'")):
        assert f"target.{value}; supported is onnxruntime on cpu; set it to {way_out} or leave it out" in text
    assert "greater than or equal to 1" in text


def test_target_refuses_unknown_settings():
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Target(cores=2)


class Ticks:
    """A clock: each run takes the next of `steps` (seconds), and in a round the thread has a share of the time."""

    def __init__(self, steps, shares=()):
        self.now = self.ran = 0.0
        self.steps, self.shares = itertools.cycle(steps), iter(shares)
        self.share, self.seen = 1.0, []

    def run(self, feeds):
        self.seen.append(feeds)
        step = next(self.steps)
        self.now += step / self.share
        self.ran += step

    def start_round(self):
        self.share = next(self.shares)

    def clock(self):
        return Clock(wall=lambda: self.now, ran=lambda: self.ran)


@pytest.fixture
def rounds(monkeypatch):
    """Tells a `Ticks` that a round begins."""

    def watch(ticks):
        original = latency._round

        def begin(*arguments):
            ticks.start_round()
            return original(*arguments)

        monkeypatch.setattr(latency, "_round", begin)

    return watch


def test_quantiles_are_those_of_the_single_runs():
    times = np.random.default_rng(0).uniform(0.001, 0.003, 50)
    ticks = Ticks(times)
    got = measure(ticks.run, [{}] * 50, rounds=3, clock=ticks.clock())
    # Each round has one more run, to warm up, so the rounds begin at other places of the cycle.
    assert got.quiet
    assert got.p50_ms == pytest.approx(np.median(times) * 1e3, rel=0.03)
    assert got.p95_ms == pytest.approx(np.quantile(times, 0.95) * 1e3, rel=0.03)


def test_a_disturbed_round_is_repeated_and_does_not_count(rounds):
    ticks = Ticks([0.004], shares=[1, 0.5, 0.94, 0.96, 1])
    rounds(ticks)
    got = measure(ticks.run, [{}] * 5, rounds=3, clock=ticks.clock())
    assert got == pytest.approx(Timing(4.0, 4.0 / 0.96, True))
    assert next(ticks.shares, "spent") == "spent"


def test_rounds_are_repeated_at_most_three_times_and_what_was_undisturbed_counts(rounds):
    ticks = Ticks([0.004], shares=[0.5, 1, *[0.5] * 7])
    rounds(ticks)
    got = measure(ticks.run, [{}] * 5, rounds=3, clock=ticks.clock())
    assert got == pytest.approx(Timing(4.0, 4.0, False))
    assert next(ticks.shares, "spent") == "spent"


def test_on_a_machine_that_is_never_quiet_all_rounds_count(rounds):
    ticks = Ticks([0.004], shares=[0.5] * 6)
    rounds(ticks)
    assert measure(ticks.run, [{}] * 5, rounds=2, clock=ticks.clock()) == pytest.approx(Timing(8.0, 8.0, False))


def test_every_round_has_each_input_equally_often():
    ticks = Ticks([0.001])
    inputs = [{"number": i} for i in range(7)]
    measure(ticks.run, inputs, rounds=1, clock=ticks.clock())
    counted = ticks.seen[len(inputs) + 1 :]
    assert counted == inputs * 3  # 7 ms, 14 ms, 21 ms: longer than a round has to be
    assert ticks.seen[: len(inputs)] == inputs


@pinnable
def test_the_thread_has_one_core_meanwhile_and_its_cores_back_afterwards():
    before, seen = os.sched_getaffinity(0), []
    measure(lambda feeds: seen.append(os.sched_getaffinity(0)), [{}], rounds=1)
    assert {len(cores) for cores in seen[1:]} == {1}
    assert os.sched_getaffinity(0) == before


@pinnable
def test_the_thread_has_its_cores_back_after_a_failure():
    before = os.sched_getaffinity(0)
    calls = iter([0])
    with pytest.raises(StopIteration):
        measure(lambda feeds: next(calls), [{}], rounds=1)
    assert os.sched_getaffinity(0) == before


@pinnable
def test_the_next_core_is_tried_after_a_disturbed_round(rounds):
    cores, seen = sorted(os.sched_getaffinity(0), reverse=True), []
    ticks = Ticks([0.03], shares=[0.5, 1])
    rounds(ticks)

    def run(feeds):
        seen.append(os.sched_getaffinity(0))
        ticks.run(feeds)

    measure(run, [{}], rounds=1, clock=ticks.clock())
    assert seen[1] == {cores[0]}
    assert seen[-1] == {cores[1 % len(cores)]}


@pinnable
def test_without_pinning_the_cores_stay_as_they_are():
    before, seen = os.sched_getaffinity(0), []
    measure(lambda feeds: seen.append(os.sched_getaffinity(0)), [{}], rounds=1, pin=False)
    assert set(map(frozenset, seen)) == {frozenset(before)}


def test_batches_have_the_lengths_of_the_split():
    batches = batches_like(LENGTHS, 1)
    assert {len(batch) for batch in batches} == {1}
    lengths = np.array(batches).ravel()
    assert set(lengths) == set(LENGTHS)
    assert np.median(lengths) == np.median(LENGTHS)
    of_four = np.array(batches_like(LENGTHS, 4))
    assert of_four.shape == (len(batches), 4)
    assert np.median(of_four.max(1)) > np.median(LENGTHS)


def test_a_model_is_run_on_these_batches_with_the_threads_of_the_target(monkeypatch):
    class Session:
        def run(self, outputs, feeds):
            seen.append(feeds["keep"].sum(1).tolist())

    seen, threads = [], []
    monkeypatch.setattr(latency, "session", lambda model, n: threads.append((model, n)) or Session())
    batches = [[3, 2], [1, 4]]
    measure_model(b"model", parse_signature(TOKENS), batches, Target(threads=2, batch=2), rounds=1)
    assert threads == [(b"model", 2)]
    assert seen[:2] == batches
    assert set(map(tuple, seen)) == {(3, 2), (1, 4)}


def test_a_real_session_takes_time(tmp_path):
    model = build(Architecture(d_model=16, n_heads=1, d_head=16, d_ff=16), TOKENS)
    (tmp_path / "model.onnx").write_bytes(to_onnx(model, random_feeds(model.signature, [5, 3], 0)))
    got = measure_model(tmp_path / "model.onnx", model.signature, batches_like(LENGTHS, 1), Target(), rounds=1)
    assert 0 < got.p50_ms <= got.p95_ms


@pytest.fixture
def stopwatch(monkeypatch):
    """Stands for the measurement of a model: its time by its sizes, and how often each was taken."""
    taken = []

    def time(data, signature, batches, target, rounds):
        taken.append(data)
        return Timing(data, data, quiet=True)

    def cost(model, feeds):
        layers = [block.feed_forward.outer.in_features + block.attention.n_heads for block in model.blocks]
        return 5.0 + model.architecture.d_model / 100 + sum(layers)

    monkeypatch.setattr(latency_table, "measure_model", time)
    monkeypatch.setattr(latency_table, "to_onnx", cost)
    return taken


MIXED = Architecture(n_layers=3, d_model=64, d_head=8, n_heads=(1, 4, 1), d_ff=(10, 30, 10))


def test_the_prediction_is_the_sum_of_the_parts_each_measured_once(tmp_path, stopwatch):
    table = LayerTable(tmp_path, Target(), LENGTHS)
    assert table.measure([MIXED], TOKENS) == 3
    assert len(stopwatch) == 3
    assert table.missing(MIXED, TOKENS) == []
    assert table.predict(MIXED, TOKENS) == pytest.approx(5.64 + 11 + 34 + 11)


def test_weights_beyond_the_caches_cost_more_by_the_megabyte(tmp_path, stopwatch, monkeypatch):
    def cost(model, feeds):
        size = megabytes(model.architecture) if len(model.blocks) else 0.0
        return 1.0 + len(model.blocks) + size * max(0.0, size - first) / 100

    first = megabytes(Architecture(n_layers=2, **REFERENCE))
    monkeypatch.setattr(latency_table, "to_onnx", cost)
    table = LayerTable(tmp_path, Target(), LENGTHS)
    large, small = (Architecture(n_layers=n, d_model=384, n_heads=8, d_ff=1024) for n in (8, 1))
    table.measure([small], TOKENS)
    assert table.predict(small, TOKENS) == pytest.approx(2.0, rel=0.01)
    assert table.measure([small, large], TOKENS) == 7  # ends and layer of the reference, stacks of 10 to 47 MB
    assert (size := megabytes(large)) == pytest.approx(37.7, abs=0.1)
    assert table.predict(large, TOKENS) == pytest.approx(9 + size * (size - first) / 100, rel=0.01)


def test_images_have_a_table_too(tmp_path, stopwatch):
    table = LayerTable(tmp_path, Target(), [16])
    architecture = Architecture(n_layers=1, d_model=64, d_head=8, n_heads=2, d_ff=10, patch=2)
    table.measure([architecture], PIXELS)
    assert table.predict(architecture, PIXELS) == pytest.approx(5.64 + 12)


def test_a_second_experiment_measures_only_what_is_new(tmp_path, stopwatch):
    LayerTable(tmp_path, Target(), LENGTHS).measure([MIXED], TOKENS)
    wider = MIXED.model_copy(update={"d_ff": (10, 30, 50)})
    again = LayerTable(tmp_path, Target(), LENGTHS)
    assert again.missing(wider, TOKENS) != []
    assert again.measure([MIXED, wider, wider], TOKENS) == 1
    assert again.predict(wider, TOKENS) == pytest.approx(5.64 + 11 + 34 + 51)


def test_what_a_noisy_machine_gave_is_measured_again(tmp_path, stopwatch, monkeypatch):
    monkeypatch.setattr(latency_table, "measure_model", lambda *_: Timing(9.0, 9.0, quiet=False))
    LayerTable(tmp_path, Target(), LENGTHS).measure([MIXED], TOKENS)
    monkeypatch.setattr(latency_table, "measure_model", lambda data, *_: Timing(data, data, quiet=True))
    again = LayerTable(tmp_path, Target(), LENGTHS)
    assert again.measure([MIXED], TOKENS) == 3
    assert again.predict(MIXED, TOKENS) == pytest.approx(61.64)


@pytest.mark.parametrize("other", [{"target": Target(batch=2)}, {"lengths": LENGTHS + 3}])
def test_another_target_or_other_lengths_have_their_own_table(tmp_path, stopwatch, other):
    arguments = {"target": Target(), "lengths": LENGTHS}
    LayerTable(tmp_path, **arguments).measure([MIXED], TOKENS)
    assert LayerTable(tmp_path, **(arguments | other)).measure([MIXED], TOKENS) == 3


def test_another_machine_has_its_own_table(tmp_path, stopwatch, monkeypatch):
    LayerTable(tmp_path, Target(), LENGTHS).measure([MIXED], TOKENS)
    monkeypatch.setattr(latency_table, "processor", lambda: "another")
    assert LayerTable(tmp_path, Target(), LENGTHS).parts == {}


def test_figures_of_other_code_do_not_count(tmp_path, stopwatch, monkeypatch):
    LayerTable(tmp_path, Target(), LENGTHS).measure([MIXED], TOKENS)
    monkeypatch.setattr(latency_table, "CODE", ("attention",))
    assert LayerTable(tmp_path, Target(), LENGTHS).parts == {}


def test_two_processes_at_once_keep_what_each_has_measured(tmp_path, stopwatch):
    first, second = (LayerTable(tmp_path, Target(), LENGTHS) for _ in range(2))
    first.measure([MIXED], TOKENS)
    second.measure([MIXED.model_copy(update={"d_ff": (50, 60, 70)})], TOKENS)
    both = LayerTable(tmp_path, Target(), LENGTHS)
    assert len(both.parts) == 6
    assert json.loads(both.path.read_text())["processor"] == latency_table.processor()
    assert [path.name for path in tmp_path.iterdir()] == [both.path.name]


def test_a_table_given_by_another_process_predicts_the_same(tmp_path, stopwatch):
    table = LayerTable(tmp_path, Target(), LENGTHS)
    table.measure([MIXED], TOKENS)
    parts = json.loads(json.dumps(list(table.parts.values())))
    given = LayerTable.given(Target(), table.length, parts)
    assert given.missing(MIXED, TOKENS) == []
    assert given.predict(MIXED, TOKENS) == table.predict(MIXED, TOKENS)


def test_what_was_not_measured_is_interpolated_and_named(tmp_path, stopwatch):
    table = LayerTable(tmp_path, Target(), LENGTHS)
    known = [
        MIXED.model_copy(update={"d_model": d, "n_heads": (1, h, 4), "d_ff": (16, f, f)})
        for d, h, f in itertools.product((32, 64, 128), (2, 4), (24, 128))
    ]
    table.measure(known, TOKENS)
    between = MIXED.model_copy(update={"d_model": 96, "n_heads": (3, 3, 3), "d_ff": (64, 64, 64)})
    [ends, layer] = table.missing(between, TOKENS)
    assert json.loads(ends)["part"] == "ends"
    assert {key: json.loads(layer)[key] for key in ("n_heads", "d_ff")} == {"n_heads": 3, "d_ff": 64}
    assert table.predict(between, TOKENS) == pytest.approx(5.96 + 3 * 67, rel=0.05)


def test_an_empty_table_predicts_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"the latency table is empty \(ends\); measure some architectures first"):
        LayerTable(tmp_path, Target(), LENGTHS).predict(MIXED, TOKENS)


@pytest.mark.parametrize(("signature", "patch"), [(TOKENS, None), (PIXELS, 2)], ids=["tokens", "pixels"])
def test_a_table_of_real_sessions(tmp_path, monkeypatch, signature, patch):
    monkeypatch.setattr(latency_table, "ROUNDS", 1)
    table = LayerTable(tmp_path, Target(), LENGTHS if patch is None else [16])
    architecture = Architecture(n_layers=2, d_model=32, n_heads=1, d_head=32, d_ff=(32, 256), patch=patch)
    assert table.measure([architecture], signature) == 3
    assert all(part["ms"] > 0 for part in table.parts.values())
    assert table.predict(architecture, signature) == pytest.approx(sum(part["ms"] for part in table.parts.values()))


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([(1.0, True), (1.2, True), (9.0, True)], Timing(1.2, 2.4, quiet=True)),
        ([(1.0, True), (9.0, False), (1.2, True)], Timing(1.1, 2.2, quiet=True)),  # a disturbed one does not count
        ([(1.0, False), (9.0, False), (1.2, True)], Timing(1.2, 2.4, quiet=False)),
        ([(1.0, False), (9.0, False), (1.2, False)], Timing(1.2, 2.4, quiet=False)),
    ],
)
def test_a_median_of_sessions_is_not_moved_by_one_whose_memory_lies_badly(monkeypatch, taken, expected):
    timings = iter(Timing(ms, 2 * ms, quiet) for ms, quiet in taken)
    monkeypatch.setattr(latency, "_in_a_session", lambda *_: next(timings))
    got = measure_model(b"", parse_signature(TOKENS), [[3]], Target(), len(taken))
    assert got == pytest.approx(expected)


@pytest.mark.parametrize("precision", ["fp32", "int8", "int8_embedding4"])
def test_layers_are_measured_in_the_precision_of_the_target(tmp_path, monkeypatch, precision):
    seen = []
    monkeypatch.setattr(latency_table, "measure_model", lambda data, *_: seen.append(data) or Timing(1.0, 1.0, True))
    architecture = Architecture(n_layers=1, d_model=32, n_heads=1, d_head=32, d_ff=32)
    LayerTable(tmp_path, Target(precision=precision), LENGTHS).measure([architecture], TOKENS)
    assert len(seen) == 2
    for data in seen:
        kinds = {node.op_type for node in onnx.load_from_string(data).graph.node}
        assert ("DynamicQuantizeLinear" in kinds) == (precision != "fp32")
        assert ("GatherBlockQuantized" in kinds) == (precision == "int8_embedding4")


def test_measuring_leaves_the_random_state_alone(tmp_path, stopwatch):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    LayerTable(tmp_path, Target(), LENGTHS).measure([MIXED], TOKENS)
    assert torch.equal(torch.get_rng_state(), state)
