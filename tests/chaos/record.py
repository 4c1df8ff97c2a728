"""What a run of the suite found, as JSON and as the table of the documentation."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import torch

from benchmarks.machine import describe_machine, today


@final
@dataclass(frozen=True)
class Row:
    """One scenario on one deployment.

    Attributes:
        scenario: What was done.
        deployment: To what.
        audits: That were accepted.
        shards: Of these audits.
        repeated: Starts of shards beyond the first of each.
        longest_wait_s: From a submit to the first start of a shard.
        longest_audit_s: From a submit to the end.
        seconds: That the scenario took.
        refused: Submits during the fault that were not accepted.
        notes: Other figures of the scenario.
        findings: What does not hold; empty if everything does.
    """

    scenario: str
    deployment: str
    audits: int
    shards: int
    repeated: int
    longest_wait_s: float
    longest_audit_s: float
    seconds: float
    refused: int
    notes: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()


@final
class Record:
    """Collects rows, and writes them after each, so that a run that is interrupted has its table too.

    Attributes:
        rows: In the order in which scenarios ran.
        logs: Folder that gets the last log lines of scenarios that failed.
    """

    def __init__(self, folder: Path) -> None:
        self.rows: list[Row] = []
        self.logs = folder / "logs"
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._about = about()

    def add(self, row: Row) -> None:
        self.rows.append(row)
        document = {**self._about, "rows": [asdict(one) for one in self.rows]}
        (self._folder / "scenarios.json").write_text(json.dumps(document, indent=2) + "\n")
        (self._folder / "scenarios.md").write_text(markdown(document))


def about() -> dict[str, Any]:
    """Date, machine and versions."""
    packages = ("celery", "redis", "sqlalchemy", "psycopg", "torch", "uvicorn", "fastapi")
    return {
        "date": today(),
        "machine": describe_machine(torch.device("cpu")),
        "kernel": os.uname().release,
        "versions": {package: version(package) for package in packages},
    }


def markdown(document: Mapping[str, Any]) -> str:
    """The line about the machine, and the table of scenarios."""
    rows: Sequence[Mapping[str, Any]] = document["rows"]
    lines = [
        [
            row["scenario"],
            row["deployment"],
            str(row["audits"]),
            str(row["shards"]),
            str(row["repeated"]),
            f"{row['longest_wait_s']:g}",
            f"{row['longest_audit_s']:g}",
            str(row["refused"]),
            "holds" if not row["findings"] else f"**{len(row['findings'])} findings**",
            "; ".join(row["notes"]),
        ]
        for row in rows
    ]
    header = ("scenario", "deployment", "audits", "shards", "repeated", "longest wait (s)", "longest audit (s)")
    return f"{line_about(document)}\n\n{pipes([*header, 'refused', 'oracle', 'notes'], lines)}"


def line_about(document: Mapping[str, Any]) -> str:
    """Where and when a table was made."""
    machine, versions = document["machine"], document["versions"]
    named = ", ".join(f"{name} {number}" for name, number in versions.items())
    where = f"{machine['processor']}, {machine['cores']} cores, Linux {document['kernel']}"
    return f"{where}, {named}, {document['date'][:10]}:"


def pipes(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    rows = [header, ["---"] * len(header), *lines]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in rows)
