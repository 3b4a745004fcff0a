"""What stays on disk after each event, with the rest of an experiment left out."""

import pytest

from experiments.engine.director import Director, Stage
from experiments.engine.events import Failed, Lost, Reported, Segment, Started
from experiments.engine.ledger import Ledger
from experiments.engine.retention import Retention
from experiments.engine.strategies.listed import Listed
from trainables.store import Store

SPEC = {
    "objectives": {"accuracy": "max", "size_mb": "min"},
    "constraints": {},
    "choose": {"max": "accuracy"},
    "finalists": {"count": 1},
    "disk": None,
}
MB = 1_000_000


class Run:
    """A run whose checkpoints are written and reported by hand; `search` trials end by being told so."""

    strategy = None

    def __init__(self, folder, finalists=(), **spec):
        self.store, self.spec, self.said = Store(folder), {**SPEC, **spec}, []
        self.finalists = list(finalists)
        self.events = []

    def begin(self):
        """As a driver does it: what happened is folded before the retention looks."""
        search = Stage("search", "r", lambda _: self.strategy or Listed([{"number": i} for i in range(9)]))
        seeds = Stage("seeds.search", "r", lambda _: Listed([{"number": i} for i in range(2)]))
        final = Stage("finalists", "f", lambda _: Listed(self.finalists))
        self.director = Director([search, seeds, final])
        for event in self.events:
            self.director.tell(event)
        self.ledger = Ledger(self.store)
        self.keep = Retention(
            self.director, self.ledger, self.store, self.spec["objectives"], spec=self.spec, say=self.said.append
        )
        return self

    def tell(self, event):
        self.events.append(event)
        self.keep(event, self.director.tell(event))

    def start(self, trial, stage="search", config=None, epochs=5):
        number = len(self.director.segments)
        self.tell(Started(Segment(number, stage, trial, 0, config or {}, epochs)))
        return number

    def report(self, segment, epochs, size=MB, **metrics):
        path = f"trials/{self.director.trial_of(segment).id}/{segment:05d}/{epochs}"
        self.store.write(f"{path}/model", b"x")
        self.tell(Reported(segment, epochs, metrics, path, size=size))

    def end(self, trial, **metrics):
        """A trial whose one report is its last."""
        self.report(self.start(trial, epochs=1), 1, **metrics)

    def there(self):
        """The checkpoints left, as trial/epochs."""
        self.ledger.sync()
        names = [name.split("/") for name in self.store.names("trials")]
        return [f"{int(name[1][-3:])}/{name[3]}" for name in names if len(name) == 5]

    def again(self):
        self.ledger.close()
        return self.begin()


@pytest.fixture
def begin(tmp_path):
    runs = []

    def make(**changes):
        runs.append(Run(tmp_path / "run", **changes).begin())
        return runs[-1]

    yield make
    for run in runs:
        run.ledger.close()


def slow(monkeypatch):
    """`Listed` ends a trial at its first report; here it goes on."""
    monkeypatch.setattr(Listed, "reported", lambda *_: "continue")


def test_last_checkpoint_of_a_running_trial_stays(begin, monkeypatch):
    slow(monkeypatch)
    run = begin()
    number = run.start(0)
    run.report(number, 1, accuracy=0.1, size_mb=1)
    assert run.there() == ["0/1"]
    run.report(number, 2, accuracy=0.2, size_mb=1)
    assert run.there() == ["0/2"]
    assert run.again().there() == ["0/2"]


def test_of_the_ended_trials_the_frontier_stays(begin):
    run = begin()
    run.end(0, accuracy=0.5, size_mb=5)
    run.end(1, accuracy=0.4, size_mb=6)
    run.end(2, accuracy=0.4, size_mb=1)
    assert run.there() == ["0/1", "2/1"]
    run.end(3, accuracy=0.6, size_mb=2)
    assert run.there() == ["2/1", "3/1"]
    assert run.again().there() == ["2/1", "3/1"]
    run.end(4, accuracy=0.7, size_mb=0.5)
    assert run.there() == ["4/1"]


def test_what_meets_the_constraints_has_a_frontier_of_its_own(begin):
    run = begin(objectives={"accuracy": "max"}, constraints={"size_mb": {"max": 2}})
    run.end(0, accuracy=0.5, size_mb=1)
    run.end(1, accuracy=0.9, size_mb=9)
    run.end(2, accuracy=0.4, size_mb=1)
    assert run.there() == ["0/1", "1/1"]


def test_of_equals_the_lower_number_stays_as_in_the_report(begin):
    run = begin()
    late = run.start(0, epochs=1)
    run.end(1, accuracy=0.5, size_mb=1)
    run.report(late, 1, accuracy=0.5, size_mb=1)
    assert run.there() == ["0/1"]


def test_failed_trial_leaves_nothing(begin, monkeypatch):
    slow(monkeypatch)
    run = begin()
    number = run.start(0)
    run.report(number, 1, accuracy=0.9, size_mb=1)
    run.tell(Failed(number, "error", "ValueError: x"))
    assert run.there() == []


def test_checkpoint_that_is_no_good_goes(begin, monkeypatch):
    slow(monkeypatch)
    run = begin()
    number = run.start(0)
    run.report(number, 1, accuracy=0.9, size_mb=1)
    run.tell(Lost(number, "storage", "damaged", checkpoint=False))
    assert run.there() == []


def test_what_no_record_names_is_deleted_when_the_run_goes_on(begin):
    run = begin()
    run.end(0, accuracy=0.5, size_mb=5)
    for orphan in ("trials/search-007/00007/3/model", "trials/search-000/00009/1/model"):
        run.store.write(orphan, b"x")
    draft = run.store.local / "trials/search-007/00007/.4.abcd.part"
    draft.mkdir()
    (run.store.local / "trials/search-007/log.txt").write_text("kept")
    assert run.again().there() == ["0/1"]
    assert not draft.exists()
    assert "trials/search-007/log.txt" in run.store.names()


def test_link_in_place_of_a_checkpoint_is_not_followed(begin, tmp_path):
    run = begin()
    run.end(0, accuracy=0.5, size_mb=5)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    place = run.store.local / "trials/search-000/00000/1"
    (place / "model").unlink()
    place.rmdir()
    place.symlink_to(tmp_path / "kept")
    run.end(1, accuracy=0.6, size_mb=1)
    assert run.there() == ["1/1"]
    assert (tmp_path / "kept" / "file").exists()


def test_above_the_budget_the_worst_of_the_frontier_goes_first(begin):
    run = begin(disk=2.5 * MB)
    for number, (accuracy, size) in enumerate([(0.5, 5), (0.4, 4), (0.3, 3), (0.6, 6)]):
        run.end(number, accuracy=accuracy, size_mb=size)
    assert run.there() == ["0/1", "3/1"]
    assert run.said == []
    assert run.again().there() == ["0/1", "3/1"]


def test_running_trials_and_picks_stay_whatever_the_budget_and_it_is_said_once(begin, monkeypatch):
    run = begin(disk=0.5 * MB)
    run.end(0, accuracy=0.5, size_mb=5)
    slow(monkeypatch)
    number = run.start(1)
    for epochs in (1, 2):
        run.report(number, epochs, accuracy=0.1 * epochs, size_mb=1)
    assert run.there() == ["0/1", "1/2"]
    assert run.said == [
        "disk: the checkpoints and artifacts still needed take 1.0 MB, the budget is 0.5 MB; "
        "a larger `disk` may be given when the run goes on"
    ]


def test_checkpoint_of_a_finalist_in_flight_stays(begin):
    run = begin(disk=1.5 * MB)
    run.end(0, accuracy=0.5, size_mb=1)
    run.start(0, "finalists", {"checkpoint": "trials/search-000/00000/1"})
    run.end(1, accuracy=0.6, size_mb=2)
    assert run.there() == ["0/1", "1/1"]


def test_artifacts_count(begin):
    run = begin(disk=5 * MB)
    run.end(0, accuracy=0.5, size_mb=1)
    run.end(1, accuracy=0.6, size_mb=2)
    number = run.start(0, "finalists", {"checkpoint": "trials/search-001/00001/1"}, epochs=1)
    assert run.there() == ["0/1", "1/1"]
    run.tell(Reported(number, 1, {"artifact": "artifacts/search-001", "size_mb": 2.0}))
    assert run.there() == ["1/1"]


def test_store_that_cannot_delete_is_no_obstacle(begin, monkeypatch):
    run = begin()
    run.end(0, accuracy=0.5, size_mb=5)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        run.end(1, accuracy=0.6, size_mb=1)
        assert run.there() == ["0/1", "1/1"]
    assert run.again().there() == ["1/1"]


class Always:
    """Has the same verdict on every report; `let_go` are dropped."""

    def __init__(self, verdict):
        self.verdict, self.let_go = verdict, []

    def ask(self):
        return "done"

    def reported(self, trial, epochs, metrics):
        return self.verdict

    def dropped(self):
        return self.let_go

    started = ended = paused = lambda self, *_: None


def test_paused_trials_keep_theirs_until_they_are_dropped(begin):
    run = begin()
    run.strategy = Always("pause")
    for trial in range(3):
        run.report(run.start(trial), 1, accuracy=0.5 + trial / 10, size_mb=1)
    assert run.there() == ["0/1", "1/1", "2/1"]
    run.strategy.let_go = [0, 1]
    run.start(2)
    assert [trial.status for trial in run.director.trials.values()] == ["stopped", "stopped", "running"]
    assert run.there() == ["1/1", "2/1"]


def test_what_a_clone_begins_from_stays_until_it_has_its_own(begin):
    run = begin()
    run.strategy = Always("continue")
    donor = run.start(0)
    run.report(donor, 1, accuracy=0.5, size_mb=1)
    clone = len(run.director.segments)
    start = run.director.trials["search", 0].checkpoint
    run.tell(Started(Segment(clone, "search", 1, 0, {}, 5, start)))
    run.report(donor, 2, accuracy=0.6, size_mb=1)
    assert run.there() == ["0/1", "0/2"]
    run.again()
    assert run.there() == ["0/1", "0/2"]
    run.report(clone, 2, accuracy=0.7, size_mb=1)
    assert run.there() == ["0/2", "1/2"]


def test_finalists_trained_with_more_seeds_are_kept_until_they_are_exported(begin):
    run = begin()
    run.end(0, accuracy=0.5, size_mb=1)
    for trial, accuracy in enumerate((0.4, 0.3)):
        segment = run.start(trial, stage="seeds.search", epochs=1)
        run.report(segment, 1, accuracy=accuracy, size_mb=1)
    assert len(run.there()) == 3
