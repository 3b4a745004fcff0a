"""A real search is declared as the table was recorded, and is worth its best report within a budget."""

from benchmarks import recorded, search_real
from experiments.engine import spec
from experiments.engine.events import Reported, Segment, Started, to_record


def test_the_declared_search_has_the_tables_task_space_and_options(tmp_path, monkeypatch):
    monkeypatch.setattr(search_real, "teacher", lambda size, folder: folder / "teacher")
    for name in search_real.STRATEGIES:
        declared = spec.checked(search_real.experiment(name, recorded.Size(), tmp_path, 3))
        [stage] = declared.stages
        assert (stage.routine, stage.space, stage.epochs, declared.seed) == ("distill", ("joint",), 27, 3)
        [(_, jobs), *_] = recorded.jobs(recorded.Size(), recorded.tasks(recorded.Size(), tmp_path), tmp_path)
        job = next(job for job in jobs if job.name == "digits-000")
        options = {name: job.config[name] for name in stage.options if name != "teacher"}
        assert {**options, "teacher": str(tmp_path / "teacher")} == stage.options
        assert {"name": declared.task.name, **declared.task.options} == job.config["task"]
        searcher, scheduler = stage.search.searcher.name, stage.search.scheduler.name
        assert name == (searcher if scheduler == "none" else f"{searcher} + {scheduler}")
        assert stage.trials >= search_real.BUDGETS[-1] // (27 if scheduler == "none" else 3)


def test_worth_is_the_best_report_within_each_budget(monkeypatch):
    monkeypatch.setattr(search_real, "BUDGETS", (1, 3, 9))
    records = [{"event": "opened"}, to_record(Started(Segment(0, "search", 0, 0, {}, 1)))]
    records += [to_record(Reported(0, 1, {"val_accuracy": value})) for value in (0.5, 0.4, 0.7, 0.6)]
    records.append(to_record(Reported(0, 1, {"latency_ms": 2.0})))  # of a finalist
    assert search_real.worth(records) == [0.5, 0.7, 0.7]


def test_order_is_compared_at_each_budget(monkeypatch):
    monkeypatch.setattr(search_real, "BUDGETS", (1, 2))
    found = {
        "a": {"real_mean": [0.1, 0.5], "recorded_median": [0.2, 0.6]},
        "b": {"real_mean": [0.2, 0.4], "recorded_median": [0.3, 0.7]},
    }
    assert search_real._same_order(found) == [True, False]
