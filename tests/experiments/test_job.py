"""`submit` against a local `ray start --head` with token authentication."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from experiments.engine import history, runs

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A head node of its own; gives the dashboard's address and the environment that reaches it."""
    home = tmp_path_factory.mktemp("home")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    environment |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "HOME": str(home),
        "FITFORMER_CACHE": str(home / "cache"),
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }
    dashboard = free_port()
    command = [str(BIN / "ray"), "start", "--head", "--block", "--num-cpus=2", "--dashboard-host=127.0.0.1"]
    command += [f"--port={free_port()}", f"--dashboard-port={dashboard}"]
    command += [f"--dashboard-agent-listen-port={free_port()}"]  # else two nodes of one machine share a port
    with (home / "log").open("w") as log:
        node = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for_dashboard(dashboard, node)
            yield f"http://127.0.0.1:{dashboard}", environment, home
        finally:
            end(node)


def end(node):
    """`ray start --block` ends its processes on SIGTERM; what is slow to go is killed."""
    processes = psutil.Process(node.pid).children(recursive=True)
    node.terminate()
    _, slow = psutil.wait_procs([*processes, psutil.Process(node.pid)], timeout=10)
    for process in slow:
        process.kill()
    node.wait(timeout=30)


def wait_for_dashboard(port, node):
    until = time.monotonic() + 60
    while status(f"http://127.0.0.1:{port}/api/jobs/") is None:
        assert node.poll() is None
        assert time.monotonic() < until
        time.sleep(0.2)


def status(url, token=None):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def test_nobody_without_the_token_is_let_in(head):
    address, environment, _ = head
    assert status(f"{address}/api/jobs/") == 401
    assert status(f"{address}/api/jobs/", "0" * 64) == 403
    assert status(f"{address}/api/jobs/", environment["RAY_AUTH_TOKEN"]) == 200


def begin(head, *options):
    address, environment, _ = head
    command = [sys.executable, "-m", "experiments", "submit", "quickstart", "--smoke", "--address", address, *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def ended(head, *options):
    """The command's end; right after the start of a node its job agent may not be there yet."""
    until = time.monotonic() + 60
    while True:
        job = begin(head, *options)
        out, err = job.communicate(timeout=240)
        if "No available agent" not in err or time.monotonic() > until:
            return job.returncode, out, err
        time.sleep(1)


@pytest.mark.slow
def test_job_runs_an_experiment_to_its_end(head):
    code, out, err = ended(head)
    assert code == 0, out[-3000:] + err[-3000:]
    assert "chosen: search-" in out
    run = next(runs.every(storage(head)))
    assert run.finished
    assert len(history.fold(run.records).of_stage("search")) == 3


@pytest.mark.faults
def test_ends_with_the_drivers_own_code(head):
    code, out, _ = ended(head, "--storage", "ftp://x/y")
    assert code == 2
    assert "fitformer: storage 'ftp://x/y' must be" in out


@pytest.mark.faults
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_job_is_stopped_and_resumable(head, number, code):
    before = len(list(runs.every(storage(head))))
    job = begin(head, "--new")
    seen = []
    for line in job.stdout:
        seen.append(line)
        if "search-000" in line:
            break
    job.send_signal(number)
    out, err = job.communicate(timeout=60)
    assert job.returncode == code, "".join(seen) + out + err
    assert f"fitformer: interrupted by {number.name}; stops job quickstart-smoke-" in err
    assert "interrupted by SIGTERM; the same command goes on from here" in out + err
    run = next(runs.every(storage(head)))
    assert len(list(runs.every(storage(head)))) == before + 1
    assert not run.finished


def storage(head):
    return head[2] / "fitformer-results"
