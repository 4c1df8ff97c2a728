"""One scenario: what it submits, what the oracle says, and the row of the tables."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import httpx
import psutil

from chaos.deployment import Deployment
from chaos.oracle import Observed, judge
from chaos.record import Record, Row
from chaos.service_process import computing
from chaos.small_audits import KINDS, batch_of, request

END_S = 180.0
"""Longest wait for the audits of a scenario; they take seconds, and the machine may be busy."""


@final
class Scene:
    """Submits audits to a deployment, and remembers them for the oracle.

    Attributes:
        accepted: Audit -> its kind.
        failing: Audits that have to fail -> their code.
        refused: Submits that were answered with an error, or not at all.
        notes: What the tables say beside the figures.
        nothing_repeated: Whether the fault must not end a shard, so that none may have started twice.
    """

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.accepted: dict[str, str] = {}
        self.failing: dict[str, str | None] = {}
        self.refused: list[str] = []
        self.notes: list[str] = []
        self.nothing_repeated = False
        self.end_s = END_S
        self._lock = threading.Lock()
        self._batches: dict[int, dict[str, Any]] = {}

    def body(self, kind: str, *, client: httpx.Client | None = None) -> dict[str, Any]:
        """The request of an audit of a kind; its images are uploaded once."""
        images = KINDS[kind][1]
        if images not in self._batches:
            self._batches[images] = batch_of(client or self.deployment.client, images)
        return request(self.deployment.weights, kind, self._batches[images])

    def submit(self, kind: str, *, gateway: int = 0, body: dict[str, Any] | None = None) -> str:
        """Start an audit that has to be accepted."""
        client = self.deployment.client_of(self.deployment.base_urls[gateway])
        answer = client.post("/v1/audits", json=self.body(kind, client=client) if body is None else body)
        assert answer.status_code == 202, answer.text
        return self._accept(answer, kind)

    def try_submit(self, kind: str, *, gateway: int = 0, timeout: float = 10.0) -> str | None:
        """Start an audit during a fault; None if it was not accepted, which is then counted."""
        client = self.deployment.client_of(self.deployment.base_urls[gateway])
        try:
            answer = client.post("/v1/audits", json=self.body(kind, client=client), timeout=timeout)
        except httpx.HTTPError as error:
            self.refused.append(type(error).__name__)
            return None
        if answer.status_code != 202:
            self.refused.append(str(answer.status_code))
            return None
        return self._accept(answer, kind)

    def _accept(self, answer: httpx.Response, kind: str) -> str:
        audit_id = str(answer.json()["id"])
        with self._lock:
            self.accepted[audit_id] = kind
        return audit_id

    def wait_running(self, audit_id: str, *, above: float = 0.0, seconds: float = 150.0) -> None:
        """Wait until an audit computes and has got further than a share."""
        until(lambda: self._fraction(audit_id) > above, seconds=seconds, what=f"audit {audit_id} to run")

    def _fraction(self, audit_id: str) -> float:
        status = self.deployment.client.get(f"/v1/audits/{audit_id}").json()
        assert status["state"] in {"queued", "running"}, status
        return float(status["fraction"]) if status["state"] == "running" else -1.0

    def busy_worker(self) -> int:
        """The place in `worker_pids` of a worker whose process computes now."""
        usage: dict[int, float] = {}
        for place, pid in enumerate(self.deployment.worker_pids()):
            found = computing(pid)
            usage[place] = sum(sum(one.cpu_times()[:2]) for one in found)
        time.sleep(0.5)
        for place, pid in enumerate(self.deployment.worker_pids()):
            usage[place] = sum(sum(one.cpu_times()[:2]) for one in computing(pid)) - usage[place]
        return max(usage, key=lambda place: usage[place])

    def computing(self) -> psutil.Process:
        """The process that computes, of the worker that is busiest."""
        return computing(self.deployment.worker_pids()[self.busy_worker()])[0]


def until(condition: Callable[[], bool], *, seconds: float, what: str) -> float:
    """Wait for something; returns how long it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"waited {seconds:g} s for {what}"
        time.sleep(0.1)
    return time.monotonic() - started


@contextmanager
def scenario(
    name: str,
    deployment: Deployment,
    record: Record,
    undisturbed: Mapping[str, Mapping[str, Any]],
) -> Iterator[Scene]:
    """Do something to a deployment in the block; afterwards the oracle judges, and the row is recorded.

    The block has to end the fault.
    """
    # a scenario that failed may have left something broken
    deployment.heal()
    deployment.start_again()
    deployment.wait_until_ready()
    scene = Scene(deployment)
    for kind in KINDS:
        scene.body(kind)  # an upload during the fault would hide what becomes of the submit
    started = time.monotonic()
    observed = Observed()
    sizes = {log: log.stat().st_size for log in deployment.logs()}
    try:
        yield scene
        observed = judge(deployment, scene.accepted, undisturbed, seconds=scene.end_s, failing=scene.failing)
        if scene.nothing_repeated and observed.repeated:
            observed.findings.append(f"{observed.repeated} shards were started again")
    except BaseException as error:
        observed.findings.append(f"{type(error).__name__}: {str(error)[:400]}")
        raise
    finally:
        row = Row(
            scenario=name,
            deployment=deployment.kind,
            audits=len(scene.accepted),
            shards=observed.shards,
            repeated=observed.repeated,
            longest_wait_s=round(observed.longest_wait_s, 1),
            longest_audit_s=round(observed.longest_audit_s, 1),
            seconds=round(time.monotonic() - started, 1),
            refused=len(scene.refused),
            notes=tuple(scene.notes),
            findings=tuple(observed.findings),
        )
        record.add(row)
        if row.findings:
            keep_logs(record.logs / f"{name} ({deployment.kind})".replace(" ", "-").replace("/", "-"), sizes)
    assert not observed.findings, "\n".join(observed.findings)


def keep_logs(folder: Path, sizes: Mapping[Path, int]) -> None:
    """Keep what was logged since, at most the last lines of each file."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for log, size in sizes.items():
        with log.open("rb") as file:
            file.seek(size)
            (folder / log.name).write_bytes(b"\n".join(file.read().splitlines()[-400:]) + b"\n")
