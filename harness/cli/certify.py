"""`selfteach certify`: shows that the scoring engine and lm-eval's Hugging Face backend give the same answers on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.cli.targets import check_file
from harness.cli.text import console, print_json, print_table, say
from harness.errors import SelfteachError, SpecError
from harness.models.cache import write_json


def certify_command(
    model: str, *, tasks: Sequence[str], include_path: Path | None, limit: int | None, traps: int, device: str | None, out: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Compares, prints one line a group, writes the certificate; fails if anything differs."""
    from harness.scoring import certify
    from harness.scoring.selfteach_lm import load_student

    if out is not None:
        check_file(out, "--out")
    if include_path is not None and not include_path.is_dir():
        raise SpecError("expected a folder with lm-eval's YAML", key="--include-path", value=str(include_path))
    student = load_student(model, dtype="float32", device=device)
    found = certify.certify(student, tasks=tasks, include_path=include_path, limit=limit, trap_requests=traps)
    if out is not None:
        write_json(out, certify.as_json(found))
    if as_json:
        print_json(certify.as_json(found))
    else:
        rows = [
            [name, str(group.requests), f"{group.max_difference:.1e}", str(group.greedy_differs)] for name, group in found.groups.items()
        ]
        writer = console()
        columns = ["requests of", "n", "max difference (nats)", "greedy flags differ"]
        print_table(writer, "", columns, rows, right=columns[1:])
        say(
            writer,
            f"{found.requests} requests, {found.choices} items with choices ({found.choices_differ} chosen differently), "
            f"{found.refused_by_both} requests refused by both; {'all equal' if found.passed else 'NOT certified'}",
        )
        if out is not None:
            say(writer, f"written: {out}")
    if not found.passed:
        few = f"only {found.requests} requests, a certificate needs {certify.FEWEST}; " if found.requests < certify.FEWEST else ""
        raise SelfteachError(
            f"not certified: {few}largest difference {found.max_difference_nats:.2g} nats (at most {certify.TOLERANCE:g}), "
            f"{found.greedy_differs} greedy flags and {found.choices_differ} choices differ"
        )
