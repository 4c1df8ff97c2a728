"""Writes what was checked, with seconds and sizes of images, to containers.json and containers.md."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from running_containers import ENGINE, ROOT, Deployment, deployed

TIMES: dict[str, float] = {}
OUTCOMES: dict[str, str] = {}


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The service in containers, started once."""
    engine = subprocess.run([ENGINE, "name"], capture_output=True, text=True, check=False)
    if engine.returncode:
        pytest.exit(engine.stderr, returncode=engine.returncode)
    with deployed(tmp_path_factory.mktemp("deployment")) as made:
        yield made


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    name = report.nodeid.split("::")[-1]
    TIMES[name] = TIMES.get(name, 0.0) + report.duration
    if report.when == "call" or report.failed:
        OUTCOMES[name] = report.outcome


def words(name: str) -> str:
    """A name of a test as a sentence: `test_a_is_b[worker]` is `a is b (worker)`."""
    return name.removeprefix("test_").replace("_", " ").replace("[", " (").replace("]", ")")


def pytest_sessionfinish() -> None:
    if not OUTCOMES:
        return
    version = subprocess.run([ENGINE, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    listed = subprocess.run(
        [ENGINE, "images", "--format", "{{.Repository}} {{.Size}}"], capture_output=True, text=True, check=False
    ).stdout
    sizes = {
        name.removeprefix("localhost/"): size
        for name, _, size in (line.partition(" ") for line in listed.splitlines())
        if "auditcore-" in name
    }
    found = {
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, {version}",
        "checks": [{"check": words(n), "outcome": o, "seconds": round(TIMES[n], 1)} for n, o in OUTCOMES.items()],
        "images": sizes,
    }
    Path(ROOT / "containers.json").write_text(json.dumps(found, indent=1) + "\n")
    lines = [
        f"Measured on {found['date']}; {found['machine']}.",
        "",
        "| Checked | Result | Seconds |",
        "|---|---|---:|",
    ]
    lines += [f"| {row['check']} | {row['outcome']} | {row['seconds']} |" for row in found["checks"]]
    lines += ["", "| Image | Size |", "|---|---:|"]
    lines += [f"| `{name}` | {size} |" for name, size in sorted(sizes.items())]
    Path(ROOT / "containers.md").write_text("\n".join(lines) + "\n")
