"""`submit` against a stand-in for the dashboard; with a real one in test_job.py."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from experiments.engine import submit


@pytest.fixture
def dashboard(monkeypatch):
    """Answers with what `answers` holds by path, or with the code it says; lets nobody in without the token "right"."""
    answers = {"/api/version": {"ray_version": "2.60.0"}}
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            given = self.headers.get("Authorization")
            asked.append((self.command, self.path))
            code = 200 if given == "Bearer right" else 403 if given else 401
            found = answers.get(self.path, 404) if code == 200 else code
            self.send_response(found if isinstance(found, int) else 200)
            self.end_headers()
            self.wfile.write(json.dumps({} if isinstance(found, int) else found).encode())

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
    yield f"http://127.0.0.1:{server.server_port}", answers, asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("token", "said"), [("", "asks for a token (401)"), ("wrong", "refuses this token (403)")])
def test_without_the_token_it_says_how_to_set_it(dashboard, monkeypatch, tmp_path, token, said):
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(ValueError) as refused:
        submit.submit(dashboard[0], "x", ["x"], print)
    (line,) = str(refused.value).splitlines()
    assert said in line
    assert "RAY_AUTH_TOKEN" in line
    assert "wrong" not in line


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://127.0.0.1:9", "the dashboard at http://127.0.0.1:9 does not answer (.*refused"),
        ("127.0.0.1:8265", "--address '127.0.0.1:8265' must be the dashboard's, such as http://HOST:8265"),
        ("file:///etc/passwd", "--address 'file:///etc/passwd' must be the dashboard's"),
        ("http://", "the dashboard at http: does not answer"),
    ],
)
def test_an_address_that_is_none_is_one_line(address, said):
    with pytest.raises(ValueError) as refused:
        submit.submit(address, "x", ["x"], print)
    (line,) = str(refused.value).splitlines()
    assert all(part in line for part in said.split(".*"))


@pytest.mark.parametrize(
    ("info", "code"),
    [
        ({"status": "SUCCEEDED", "driver_exit_code": 0}, 0),
        ({"status": "FAILED", "driver_exit_code": 2}, 2),
        ({"status": "FAILED", "driver_exit_code": 4}, 4),
        ({"status": "FAILED", "driver_exit_code": -9}, 137),
        ({"status": "FAILED", "driver_exit_code": None, "message": "no runtime\nenvironment"}, 1),
        ({"status": "STOPPED", "driver_exit_code": None}, 143),
        ({"status": "RUNNING"}, 1),
    ],
)
def test_ends_with_the_drivers_own_code(info, code):
    said = []
    assert submit.exit_code({"submission_id": "j", **info}, said.append) == code
    assert said == {
        "no runtime\nenvironment": ["job j is FAILED: no runtime environment"],
        None: [] if code != 1 else ["job j is RUNNING: "],
    }.get(info.get("message"))


def test_runs_rays_command_as_a_list_without_secrets(dashboard, monkeypatch):
    address, answers, _ = dashboard
    started = []

    class Client:
        def __init__(self, command, env, start_new_session):
            started.append((command, env))
            job = command[command.index("--submission-id") + 1]
            answers[f"/api/jobs/{job}"] = {"status": "FAILED", "driver_exit_code": 3}

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def wait(self):
            pass

    monkeypatch.setattr(submit.subprocess, "Popen", Client)
    monkeypatch.setattr(submit.interrupt, "before_end", lambda *_: None)
    monkeypatch.setattr(submit.interrupt, "resumable", lambda *_: None)
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:1")
    said = []
    assert submit.submit(address, "tiny", ["a b.yaml", "--set", "x=$(y)"], said.append) == 3
    ((command, environment),) = started
    assert command[-7:] == ["python", "-m", "experiments", "run", "a b.yaml", "--set", "x=$(y)"]
    runtime = json.loads(command[command.index("--runtime-env-json") + 1])
    assert runtime == {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "30"}}
    assert "right" not in " ".join(command) + said[0]
    assert environment["RAY_AUTH_TOKEN"] == "right"
    assert "RAY_ADDRESS" not in environment


def test_stop_waits_for_the_jobs_end(dashboard):
    address, answers, asked = dashboard
    answers["/api/jobs/j/stop"] = {"stopped": True}
    answers["/api/jobs/j"] = {"status": "RUNNING"}
    client = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ended = threading.Thread(target=submit.stop, args=(submit.Server(address), "j", [client]))
    ended.start()
    ended.join(0.5)
    assert ended.is_alive()
    answers["/api/jobs/j"] = {"status": "STOPPED"}
    ended.join(0.5)
    assert ended.is_alive()  # for the last lines
    client.stdin.close()
    ended.join(5)
    assert not ended.is_alive()
    assert asked[0] == ("POST", "/api/jobs/j/stop")
    client = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    submit.stop(submit.Server(address), "unknown", [client])
    assert client.wait(5) == -9
