"""An experiment as a job on a Ray cluster: `ray job submit`, the stop of a job, and the driver's own exit code.

The plain command knows 0 and 1 alone, and 0 for a job that was stopped.
"""

import contextlib
import json
import os
import secrets
import subprocess
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.engine import interrupt

# How long a driver that is asked to end may take; Ray's own default kills it after 3 seconds.
GRACE_S = 30
STOPPED = 143
_TIMEOUT_S = 10.0
_LAST_LINES_S = 5.0
_TOKEN = "set RAY_AUTH_MODE=token and the cluster's token as RAY_AUTH_TOKEN (or its file as RAY_AUTH_TOKEN_PATH)"
# They would take the place of --address.
_OTHER_ADDRESSES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")


def submit(address: str, name: str, arguments: Sequence[str], say: Callable[[str], None]) -> int:
    """Runs `python -m experiments run …` as a job named after `name`, streams its output; the driver's exit code.

    Raises ValueError, one line, when the dashboard at `address` does not answer or lets nobody in without a token.
    """
    server = Server(address)
    server.ask("/api/version")
    job = f"{name}-{secrets.token_hex(4)}"
    command = _command(address, job, arguments)
    say("$ " + " ".join(command))
    environment = {key: value for key, value in os.environ.items() if key not in _OTHER_ADDRESSES}
    if not token():  # the dashboard has just answered without one
        environment["RAY_AUTH_MODE"] = "disabled"
    # A session of its own: Ctrl-C in the terminal reaches this process alone, which stops the job and streams its end.
    started: list[subprocess.Popen[bytes]] = []
    interrupt.resumable(f"stops job {job}, which may take {GRACE_S} s; the same command goes on from here")
    interrupt.before_end(lambda: stop(server, job, started), GRACE_S + _TIMEOUT_S)
    with subprocess.Popen(command, env=environment, start_new_session=True) as client:
        started.append(client)
        client.wait()
    return exit_code(server.job(job), say)


def token() -> str:
    """The cluster's token where Ray looks for it: RAY_AUTH_TOKEN, the file RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return os.environ["RAY_AUTH_TOKEN"]
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    return path.read_text("utf-8").strip() if path.is_file() else ""


def exit_code(info: dict[str, Any], say: Callable[[str], None]) -> int:
    """The driver's own exit code, from what the job server knows of a job; 1 where no driver ended."""
    status, code = info.get("status"), info.get("driver_exit_code")
    if status == "STOPPED":
        return STOPPED
    if status == "SUCCEEDED":
        return 0
    if status == "FAILED" and code is not None:
        return int(code) if code >= 0 else 128 - int(code)
    message = " ".join(str(info.get("message") or "").split())
    say(f"job {info.get('submission_id')} is {status}: {message[:500]}")
    return 1


def stop(server: "Server", job: str, started: "list[subprocess.Popen[bytes]]") -> None:
    """Asks the job to stop, and waits until it has and its last lines were streamed."""
    try:
        server.ask(f"/api/jobs/{job}/stop", method="POST")
    except ValueError:  # not there yet: what would submit it ends
        for client in started:
            client.kill()
        return
    while server.job(job).get("status") in ("PENDING", "RUNNING"):
        time.sleep(0.2)
    with contextlib.suppress(subprocess.TimeoutExpired):
        started[0].wait(_LAST_LINES_S)


class Server:
    """The job server of a cluster's dashboard, http://HOST:8265."""

    def __init__(self, address: str) -> None:
        if not address.startswith(("http://", "https://")):
            raise ValueError(f"--address {address!r} must be the dashboard's, such as http://HOST:8265")
        self._address = address.rstrip("/")
        found = token()
        self._headers = {"Authorization": f"Bearer {found}"} if found else {}

    def job(self, name: str) -> dict[str, Any]:
        """What is known of a job: status, driver_exit_code, message."""
        return self.ask(f"/api/jobs/{name}")

    def ask(self, path: str, *, method: str = "GET") -> dict[str, Any]:
        """One request; the answer's JSON. Raises ValueError."""
        request = urllib.request.Request(self._address + path, headers=self._headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                what = "asks for a token" if error.code == 401 else "refuses this token"
                raise ValueError(f"the dashboard at {self._address} {what} ({error.code}); {_TOKEN}") from None
            raise ValueError(f"{self._address}{path} answers {error.code} {error.reason}") from None
        except (OSError, ValueError) as error:
            raise ValueError(
                f"the dashboard at {self._address} does not answer ({getattr(error, 'reason', error)}); "
                "give --address http://HOST:8265, as `ray start --head` or `ray dashboard` says it"
            ) from None


def _command(address: str, job: str, arguments: Sequence[str]) -> list[str]:
    """`ray job submit` as a list. What stands in the runtime environment can be read by all who see the job."""
    environment = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(GRACE_S)}}
    return [
        str(Path(sysconfig.get_path("scripts")) / "ray"),
        *("job", "submit", "--address", address, "--submission-id", job, "--working-dir", "."),
        *("--runtime-env-json", json.dumps(environment)),
        *("--", "python", "-m", "experiments", "run", *arguments),
    ]
