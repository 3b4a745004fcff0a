"""What a figure was measured on: machine, versions, commit; and where it is written down."""

import importlib.metadata
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def pin(threads: int) -> None:
    """Keep this process on so many processors and torch on as many threads."""
    import torch

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    torch.set_num_threads(threads)


def product_rate(threads: int, *, bf16: bool, size: int = 2048, rounds: int = 10) -> float:
    """GFLOP/s of the machine's best square matrix product, the measure that training is held against."""
    import torch

    torch.set_num_threads(threads)
    a, b = (torch.randn(size, size, dtype=torch.bfloat16 if bf16 else torch.float32) for _ in range(2))
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds) / 1e9


def described(packages: Iterable[str]) -> dict[str, Any]:
    """Machine, versions of Python and of `packages`, commit (and whether files differ from it), time."""
    return {
        "machine": {
            "processor": _processor(),
            "processors": os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
            "system": platform.platform(),
            "load": os.getloadavg(),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
        "commit": _git("rev-parse", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def record(name: str, figures: dict[str, Any], packages: Iterable[str]) -> None:
    """Write `results/<name>.json`, and print the figures as one line of JSON."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"benchmark": name, "figures": figures, **described(packages)}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(json.dumps(figures), flush=True)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    known = {key.strip(): value.strip() for key, value in fields.items()}
    flags = [flag for flag in ("avx512_bf16", "amx_bf16", "avx512_vnni") if flag in known.get("flags", "").split()]
    return f"{known.get('model name', platform.processor())} (family {known.get('cpu family')}, {' '.join(flags)})"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=RESULTS.parent, check=False)
    return done.stdout.strip()
