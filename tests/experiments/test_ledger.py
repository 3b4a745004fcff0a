import json

import pytest

from experiments.engine.ledger import Ledger, LedgerError, read

RECORDS = [{"event": "a", "n": i, "text": "é\n", "value": 0.1 * i} for i in range(20)]


def written(path, records=RECORDS):
    with Ledger(path) as ledger:
        for record in records:
            ledger.append(record)
    return path


def test_records_come_back_in_order(tmp_path):
    assert read(written(tmp_path / "ledger")) == RECORDS


def test_reopened_ledger_goes_on(tmp_path):
    path = written(tmp_path / "ledger")
    with Ledger(path) as ledger:
        assert ledger.records == RECORDS
        ledger.append({"event": "more"})
    assert read(path) == [*RECORDS, {"event": "more"}]


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_torn_last_line_is_cut_off(tmp_path, cut):
    path = written(tmp_path / "ledger")
    path.write_bytes(path.read_bytes()[:-cut])
    assert read(path) == RECORDS[:-1]
    with Ledger(path) as ledger:
        ledger.append(RECORDS[-1])
    assert read(path) == RECORDS


def test_every_flipped_byte_is_found(tmp_path):
    whole = written(tmp_path / "ledger", RECORDS[:4]).read_bytes()
    lines = len(whole.splitlines())
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        (tmp_path / "damaged").write_bytes(bytes(damaged))
        try:
            survived = read(tmp_path / "damaged")
        except LedgerError as error:
            assert "is damaged" in str(error)
        else:  # only a last line without its newline looks like what a crash leaves
            assert place == len(whole) - 1
            assert len(survived) == lines - 1


def test_nan_is_kept(tmp_path):
    path = written(tmp_path / "ledger", [{"value": float("nan")}])
    assert json.dumps(read(path)) == '[{"value": NaN}]'


def test_actions_wait_for_the_disk(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr("os.fsync", lambda _: order.append("disk"))
    with Ledger(tmp_path / "ledger") as ledger:
        ledger.append({"event": "a"})
        ledger.when_durable(lambda: order.append("deleted"))
        ledger.sync()
        assert order == ["disk", "deleted"]
