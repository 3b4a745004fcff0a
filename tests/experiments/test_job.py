"""`ray job submit` against a local `ray start --head` with token authentication."""

import os
import secrets
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


@pytest.mark.slow
def test_job_runs_an_experiment_to_its_end(head):
    address, environment, home = head
    command = [str(BIN / "ray"), "job", "submit", "--address", address, "--working-dir", ".", "--"]
    command += ["python", "-m", "experiments", "run", "quickstart", "--smoke"]
    done = submitted(command, environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "chosen: search-" in done.stdout
    run = next(runs.every(home / "fitformer-results"))
    assert run.finished
    assert len(history.fold(run.records).of_stage("search")) == 3


def submitted(command, environment):
    """The command's end; right after the start of a node its job agent may not be there yet."""
    until = time.monotonic() + 60
    while True:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
        if "No available agent" not in done.stderr or time.monotonic() > until:
            return done
        time.sleep(1)
