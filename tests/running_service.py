"""`auditcore serve` as a process with its own Redis and worker, and what a pipeline asks of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from auditcore.contracts.report import AuditReport

TESTS = Path(__file__).parent
LOG = "service.log"
DATA = "data"


@contextmanager
def serving(folder: Path, *, modules: Sequence[Path] = (), **settings: str) -> Iterator[httpx.Client]:
    """A client of a service that keeps everything in a folder; its headers name the process.

    Args:
        folder: For `LOG` and for the folder `DATA`.
        modules: Folders from which the worker may import, besides those of the tests.
        **settings: Variables of the environment.
    """
    paths = [*(str(one) for one in modules), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    # measuring the size of micro-batches would take the worker seconds for each model
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "AUDIT_MICRO_BATCH": "8"} | settings
    command = [sys.executable, "-c", "from auditcore_service.cli import main; main()", "serve", "--port", "0"]
    with (
        (folder / LOG).open("wb") as log,
        subprocess.Popen(
            [*command, "--data", str(folder / DATA)], stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        ) as process,
    ):
        assert process.stdout is not None
        ready = re.fullmatch(r"Listening on (http://\S+)\n", process.stdout.readline())
        assert ready, (folder / LOG).read_text()
        try:
            with httpx.Client(base_url=ready[1], timeout=60) as client:
                client.headers["X-Test-Pid"] = str(process.pid)
                yield client
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def upload(client: httpx.Client, images: Sequence[tuple[str, bytes]], **fields: Any) -> dict[str, Any]:
    """The stored batch of named files; other fields of the form are JSON."""
    answer = client.post(
        "/v1/image-batches",
        files=[("images", one) for one in images],
        data={name: json.dumps(value) for name, value in fields.items()},
    )
    assert answer.status_code == 201, answer.text
    return {"kind": "batch", "digest": answer.json()["digest"]}


def submit(client: httpx.Client, request: dict[str, Any]) -> str:
    """Id of the audit that a request starts."""
    answer = client.post("/v1/audits", json=request)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/audits/{answer.json()['id']}"
    return str(answer.json()["id"])


def wait(client: httpx.Client, audit_id: str, seconds: float = 240) -> dict[str, Any]:
    """The status of an audit that has ended."""
    deadline = time.monotonic() + seconds
    while (status := client.get(f"/v1/audits/{audit_id}").json())["state"] not in {"succeeded", "failed", "cancelled"}:
        assert time.monotonic() < deadline, status
        time.sleep(0.2)
    return dict(status)


def report_of(client: httpx.Client, audit_id: str) -> AuditReport:
    """The report of an audit, once it has succeeded."""
    status = wait(client, audit_id)
    assert status["state"] == "succeeded", status
    return AuditReport.model_validate_json(client.get(f"/v1/audits/{audit_id}/report").content)
