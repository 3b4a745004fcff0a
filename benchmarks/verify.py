"""The committed artifacts, measured on this machine beside what is claimed of them: `make verify`, about a minute.

For each artifact under `artifacts/glosses`: right answers on the test split of the glosses, speed beside the teacher's
architecture in PyTorch and in ONNX Runtime (see `benchmarks/measuring.py`), size. It ends with exit code 1 where one
of them is not as claimed in `claims.json`, with 2 where the claims or an artifact are missing or damaged.

Speeds are claimed as ratios, since machines differ. Answers may differ by three: processors multiply int8 in their own
ways, and a quantized model then rounds another way now and then.

Run: python -m benchmarks.verify [--artifacts artifacts/glosses] [--rounds 9]
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from benchmarks import measuring
from benchmarks.machine import described
from benchmarks.measuring import Contender, Labelled, Speed
from models import artifact
from models.architecture import Architecture, TokenSignature
from models.predictor import read_config
from trainables.parsing import ParseError, parse

FOLDER = Path("artifacts/glosses")
CLAIMS = "claims.json"
ANSWERS = 3
SHARE = 0.8

_KEPT = ("metrics.json", "card.md")

Share = Annotated[FiniteFloat, Field(ge=0, le=1)]
Ratio = Annotated[FiniteFloat, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]


class Claim(BaseModel):
    """Of one artifact, on the machine that the claims name; other figures may stand beside these."""

    model_config = ConfigDict(frozen=True, extra="allow")

    test_accuracy: Share
    speedup_over_pytorch: Ratio
    speedup_over_onnx: Ratio
    size_bytes: int = Field(gt=0)


class Teacher(BaseModel):
    """What the artifacts are held against."""

    model_config = ConfigDict(frozen=True, extra="allow")

    architecture: Architecture
    signature: TokenSignature
    test_accuracy: Share


class Claims(BaseModel):
    """claims.json; `machine` as `benchmarks/machine.py` describes one."""

    model_config = ConfigDict(frozen=True, extra="allow")

    teacher: Teacher
    artifacts: dict[Name, Claim] = Field(min_length=1)
    machine: dict[str, Any] = {}


class Found(NamedTuple):
    """What was measured of one artifact; right: answers."""

    right: int
    speed: Speed
    size_bytes: int


def write_claims(folder: Path, claims: Claims) -> None:
    """Beside the artifacts that they are of."""
    (folder / CLAIMS).write_text(claims.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_claims(folder: Path) -> Claims:
    """Raises ValueError, a line a fault, where they are missing or damaged."""
    path = folder / CLAIMS
    if not path.is_file():
        raise ValueError(f"{folder} has no {CLAIMS}, must hold what is claimed of its artifacts; check it out again")
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}), must hold JSON; check it out again") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds {values!r:.40}, must hold an object; check it out again")
    try:
        return parse(Claims, values)
    except ParseError as error:
        plain = [fault if fault.isprintable() else ascii(fault) for fault in error.faults]  # a name may break a line
        raise ValueError("\n".join(f"{path}: {fault}; check it out again" for fault in plain)) from None


def receipt(source: Path, folder: Path) -> None:
    """Copy of an artifact of texts with only what predicts, its card and its metrics: the very bytes that ran.

    Raises ValueError where `source` cannot predict.
    """
    measuring.shipped(source)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*measuring.files(source), *_KEPT):
        shutil.copyfile(source / name, folder / name)
    artifact.add_metrics(folder, {})  # a card without what was left out


def opened(folder: Path, claims: Claims) -> dict[str, Contender]:
    """The baselines and every artifact that something is claimed of. Raises ValueError with the faults of all."""
    found, damage = {}, []
    for name in claims.artifacts:
        try:
            found[name] = measuring.shipped(folder / name)
        except ValueError as error:
            damage += str(error).splitlines()
    if damage:
        raise ValueError("\n".join(damage))
    teacher = claims.teacher
    signature = teacher.signature.model_dump()
    return measuring.baselines(teacher.architecture, signature, _tokenizer(folder, claims)) | found


def _tokenizer(folder: Path, claims: Claims) -> Path:
    """The teacher reads texts as that artifact does which left out the fewest of its tokens."""
    most = claims.teacher.signature.vocab_size
    sizes = {name: read_config(folder / name)["signature"]["vocab_size"] for name in claims.artifacts}
    if not (fitting := {name: size for name, size in sizes.items() if size <= most}):
        raise ValueError(
            f"{folder / CLAIMS}: teacher.signature.vocab_size is {most}, must be at least {min(sizes.values())} as of "
            "the smallest artifact; check it out again"
        )
    return folder / max(fitting, key=lambda name: fitting[name])


def measured(folder: Path, claims: Claims, asked: Labelled, rounds: int) -> dict[str, Found]:
    """By artifact."""
    contenders, threads = opened(folder, claims), os.cpu_count() or 1
    right = {name: measuring.right_answers(folder / name, asked, threads) for name in claims.artifacts}
    speeds = measuring.measure(contenders, asked.texts, rounds=rounds)
    return {name: Found(right[name], speeds[name], contenders[name].size_bytes) for name in claims.artifacts}


def faults(name: str, claim: Claim, found: Found, n: int) -> Iterator[str]:
    """What is not as claimed, a line each. n: texts that were asked."""
    if abs(found.right - claim.test_accuracy * n) > ANSWERS + 0.5:
        yield (
            f"{name}: test accuracy is {found.right / n:.4f} ({found.right:,} of {n:,} right), must be "
            f"{claim.test_accuracy:.4f}, give or take {ANSWERS} answers; check the artifact out again, or try a "
            "processor whose int8 products do not saturate (VNNI)"
        )
    if found.size_bytes != claim.size_bytes:
        yield (
            f"{name}: size is {found.size_bytes:,} bytes, must be {claim.size_bytes:,} as claimed; "
            "check the artifact out again"
        )
    speeds = (
        ("PyTorch", found.speed.over_pytorch, claim.speedup_over_pytorch),
        ("ONNX Runtime", found.speed.over_onnx, claim.speedup_over_onnx),
    )
    for rival, is_, claimed in speeds:
        if is_ < SHARE * claimed:
            busy = "" if found.speed.quiet else ", while something else ran here"
            yield (
                f"{name}: speed is {is_:.1f} times that of the teacher in {rival}{busy}, must be at least "
                f"{SHARE * claimed:.1f} ({SHARE} of the {claimed:.1f} claimed); try again on a quiet machine"
            )


def table(claims: Claims, found: Mapping[str, Found], n: int) -> str:
    """Claimed beside measured."""
    columns: list[tuple[str, Callable[[Claim], str], Callable[[Found], str]]] = [
        ("test accuracy", lambda c: f"{c.test_accuracy:.4f}", lambda f: f"{f.right / n:.4f}"),
        ("× PyTorch", lambda c: f"{c.speedup_over_pytorch:.1f}", lambda f: f"{f.speed.over_pytorch:.1f}"),
        ("× ONNX Runtime", lambda c: f"{c.speedup_over_onnx:.1f}", lambda f: f"{f.speed.over_onnx:.1f}"),
        ("size in MB", lambda c: f"{c.size_bytes / 1e6:.2f}", lambda f: f"{f.size_bytes / 1e6:.2f}"),
    ]
    wide = max(map(len, ["artifact", *found]))
    rows = [f"{'':{wide}}" + "".join(f" │ {title:^18}" for title, _, _ in columns)]
    rows.append(f"{'artifact':{wide}}" + f" │ {'claimed':>8} {'measured':>9}" * len(columns))
    for name, each in found.items():
        claim = claims.artifacts[name]
        cells = [f" │ {said(claim):>8} {was(each):>9}" for _, said, was in columns]
        rows.append(f"{name:{wide}}" + "".join(cells))
    return "\n".join(rows)


def verify(folder: Path, rounds: int) -> list[str]:
    """Measure, print; what is not as claimed. Raises ValueError, a line a fault, where nothing can be measured."""
    claims, asked = read_claims(folder), measuring.glosses_test()
    n, teacher = len(asked.texts), claims.teacher
    print(f"measuring {len(claims.artifacts)} artifacts of {folder} on {n:,} glosses: about a minute", flush=True)
    found = measured(folder, claims, asked, rounds)
    print(f"teacher: test accuracy {teacher.test_accuracy:.4f}; × says how many times as fast\n")
    print(table(claims, found, n))
    here = described(())["machine"]["processor"]
    print(f"\nclaimed on {claims.machine.get('processor', 'a machine that is not named')}; measured on {here}")
    if disturbed := [name for name, each in found.items() if not each.speed.quiet]:
        print(f"something else ran on this machine meanwhile; not quiet: {', '.join(disturbed)}")
    return [line for name, each in found.items() for line in faults(name, claims.artifacts[name], each, n)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 all as claimed, 1 not, 2 nothing to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", type=Path, default=FOLDER, metavar="FOLDER")
    parser.add_argument("--rounds", type=int, default=9, help="turns that each takes")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}, must be at least 1")
    try:
        found, code = verify(options.artifacts, options.rounds), 1
    except ValueError as error:
        found, code = str(error).splitlines(), 2
    for line in found:
        print(f"verify: {line}", file=sys.stderr)
    if not found:
        print("all as claimed")
    return code if found else 0


if __name__ == "__main__":
    sys.exit(main())
