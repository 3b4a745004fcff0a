import pytest

from experiments.engine.report.occupancy import occupancy


def started(at, stage="search"):
    return {"event": "started", "segment": {"stage": stage}, "at": at}


def reported(at, busy):
    return {"event": "reported", "busy": busy, "at": at}


SESSION = {"event": "session", "slots": 2}


def test_share_of_two_slots_while_work_waits():
    # from 10 to 20: one slot busy 8 s, the other 9 s; what comes before and after does not count
    records = [
        SESSION,
        started(5, "layers"),
        started(10),
        started(10),
        reported(19, 8),
        reported(19.5, 9.5),
        started(20),
    ]
    assert occupancy([*records, reported(30, 9)], ["search"]) == pytest.approx((8 + 9.5 - 0.0) / 20)


def test_report_that_spans_the_end_counts_in_part():
    records = [SESSION, started(0), started(10), reported(15, 10)]
    assert occupancy(records, ["search"]) == pytest.approx(5 / 20)


@pytest.mark.parametrize("records", [[SESSION], [SESSION, started(1)], [SESSION, SESSION, started(1), started(2)]])
def test_nothing_is_said_where_nothing_can_be(records):
    assert occupancy(records, ["search"]) is None
