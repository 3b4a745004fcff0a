"""The figures of the frontier in words and tables: benchmarks/results/frontier.md."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Json = dict[str, Any]
COMMAND = "python -m benchmarks.frontier"
HEADLINES = {"0.99": "99", "0.97": "97"}  # as keys of figures call these shares


def text(found: Json, record: Json) -> str:
    """The tables, in words."""
    parts = [_top(found, record), _artifacts(found), _rivals(found)]
    parts += [make(found) for make in (_seed_rows, _pairs, _alone_rows, _drawn_rows, _hypernymy_rows, _rest)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _top(found: Json, record: Json) -> str:
    lines = [
        "# A frontier of small fast models from one run",
        f"`{COMMAND}` makes this; `frontier.json` has every figure. Timed on "
        f"{record['measured_on'].get('machine', {}).get('processor', '?')}: one pinned thread, batch 1, p50, tokens to "
        f"logits, lengths of the test split, in turns. Run trained on {record['trained_on']['run']}.",
        f"Teacher: {found['teacher_accuracy']:.4f} on {found['n_test']:,} test glosses. Headlines were chosen on "
        f"validation, where they keep {found['margin']:.1%} more of its accuracy than asked for.",
    ]
    lines += [f"Not quiet while timed: {', '.join(found['not_quiet'])}."] if found["not_quiet"] else []
    for digits in HEADLINES.values():
        name, speed = found[f"artifact_at_{digits}"], found[f"speedup_at_{digits}"]
        if speed is None:
            lines.append(f"At {digits} %: no artifact reached this on validation.")
            continue
        share, onnx, size = (found[f"{kind}_at_{digits}"] for kind in ("test_share", "speedup_over_onnx", "size_ratio"))
        lines.append(
            f"At {digits} % on validation: **{name}**, {share:.1%} of the teacher on test, {speed:.1f} times as fast "
            f"as PyTorch, {onnx:.1f} times ONNX Runtime, {size:.1f} times smaller."
        )
    lines.append(
        f"Compute from labelling to finalists: {found['compute_over_teacher']:.2f} times the teacher's fine-tuning "
        f"({found['compute_with_teacher']:.2f} with it). {found['undominated_on_test']} of {len(found['artifacts'])} "
        f"artifacts are dominated by none on test; the committed ones take {found['committed_bytes'] / 1e6:.1f} MB."
    )
    return "\n\n".join(lines)


def _artifacts(found: Json) -> str:
    head = ["artifact", "test", "of teacher", "float32", "× PyTorch", "× ONNX", "ms", "ms of 32", "ms to label", "MB"]
    rows = [
        [
            row["name"] + _marks(row),
            f"{row['test_accuracy']:.4f}",
            f"{row['share_of_teacher']:.1%}",
            f"{row['test_float32']:.4f}",
            f"{row['speedup_over_pytorch']:.1f}",
            f"{row['speedup_over_onnx']:.1f}",
            *(f"{row[name]:.3f}" for name in ("p50_ms", "p50_ms_batch_32", "p50_ms_label")),
            f"{row['size_bytes'] / 1e6:.2f}",
        ]
        for row in found["artifacts"]
    ]
    return "## Artifacts, as shipped\n\n" + _table(head, rows)


def _marks(row: Json) -> str:
    found = [("dominated", row["dominated_on_test"]), ("not committed", not row["committed"])]
    marks = [mark for mark, there in found if there]
    return f" ({', '.join(marks)})" if marks else ""


def _rivals(found: Json) -> str:
    base = found["baselines"]
    head = ["the teacher's architecture", "ms", "ms of 32", "ms to label", "MB", "× PyTorch"]
    names = ("p50_ms", "p50_ms_batch_32", "p50_ms_label")
    rows = [
        [
            row["what"],
            *(f"{row[name]:.3f}" for name in names),
            f"{row['size_bytes'] / 1e6:.2f}",
            f"{row['speedup_over_pytorch']:.1f}",
        ]
        for row in base.values()
        if isinstance(row, dict)
    ]
    return f"## Baselines\n\n{_table(head, rows)}\n\nTF-IDF and a linear model: {base['classical']:.4f}."


def _seed_rows(found: Json) -> str:
    rows = [
        [
            name,
            ", ".join(f"{x:.4f}" for x in row["accuracies"]),
            f"{row['mean']:.4f}",
            f"{row['low']:.4f} to {row['high']:.4f}" if "low" in row else "–",
        ]
        for name, row in found["seeds"].items()
    ]
    head = ["trial", "seeds", "mean", "95 % (Student's t)"]
    return _section("Last training of each pick, more seeds (test, float32)", head, rows)


def _pairs(found: Json) -> str:
    rows = [
        [
            name,
            f"{row['ours']:.4f}",
            f"{row['independent']:.4f}",
            f"{row['ours'] - row['independent']:+.4f}",
            f"{row['epochs']:g}",
        ]
        for name, row in found["independent"].items()
    ]
    head = ["shape of", "this run", "independent", "difference", "epochs"]
    return _section("Independent students at equal compute (test, float32)", head, rows)


def _alone_rows(found: Json) -> str:
    both = {f"labels alone, {name}": x for name, x in found["alone"].items()}
    both |= found["ablations"]
    return _section("Ablations, one seed (test, float32)", ["training (trial, epochs)", "test"], _scores(both))


def _drawn_rows(found: Json) -> str:
    rows = [
        [
            f"{row['latency_ms']:.3f}",
            ", ".join(f"{name} {value}" for name, value in row["shape"].items()),
            f"{row['drawn']:.4f}",
            f"{row['pick']}: {row['picked']:.4f}" if row["pick"] else "none is as fast",
        ]
        for row in found["drawn"]
    ]
    head = ["ms, by the layer table", "shape drawn at random", "test", "best pick as fast"]
    return _section("Without the supernet: shapes drawn at random, trained as the picks are (float32)", head, rows)


def _hypernymy_rows(found: Json) -> str:
    return _section("Gloss-pair hypernymy (test, float32)", ["model", "test"], _scores(found["hypernymy"] or {}))


def _rest(found: Json) -> str:
    lines = []
    if rank := found["tau"]:
        lines.append(f"Kendall's tau of inherited and trained accuracy, {rank['subnets']} subnets: {rank['tau']:.2f}.")
    if table := found["table"]:
        lines.append(
            f"Layer table, {table['subnets']} random subnets: worst error {table['worst_error']:.1%}, median "
            f"{table['median_error']:.1%}, Spearman {table['spearman']:.3f}; {table['subnets_a_minute']:.0f} subnets "
            "are scored a minute on a core."
        )
    lines += [f"Failed: {name} ({why})." for name, why in found["failed"].items()]
    return "## Search\n\n" + "\n\n".join(lines) if lines else ""


def _scores(found: Mapping[str, float]) -> list[list[str]]:
    return [[name, f"{accuracy:.4f}"] for name, accuracy in found.items()]


def _section(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return f"## {title}\n\n{_table(head, rows)}" if rows else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    line: Callable[[Sequence[str]], str] = lambda cells: f"| {' | '.join(cells)} |"  # noqa: E731
    return "\n".join([line(head), line(["---"] * len(head)), *map(line, rows)])
