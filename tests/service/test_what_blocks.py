"""Slow requests do not keep quick ones waiting: health and `cancel` always answer at once."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient

from auditcore.errors import InvalidRequest
from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.readiness import ANSWER_S, Dependency, Readiness
from auditcore_service.gateway.request_bodies import MOST_VALUES, read_json
from auditcore_service.gateway.service import Service
from auditcore_service.gateway.thread_limits import SLOW_THREADS
from auditcore_service.settings import Settings
from running_gateway import running_gateway, url_of

SMALL_MODEL = {"kind": "torchvision", "name": "mobilenet_v3_small", "classes": 5, "weights": {"uri": "random:1"}}
REQUEST: dict[str, Any] = {
    "model": {"kind": "demo"},
    "images": {"kind": "inline", "images": [{"data": base64.b64encode(b"x").decode()}]},
    "plan": {"preset": "quick"},
}
BOXES = {"data": "eA==", "boxes": [{}] * 300_000}
LONG_S, PATIENCE_S = 300.0, 60.0
"""How long slow requests wait in these tests, and how long quick ones may take, on the busiest of machines."""


@pytest.fixture
def server(make_settings: Callable[..., Settings]) -> Iterator[uvicorn.Server]:
    with running_gateway(make_settings(inspection_wait_s=LONG_S)) as running:
        yield running


@pytest.fixture
def http(server: uvicorn.Server) -> Iterator[httpx.Client]:
    """One client for all threads: each new one reads certificates for a tenth of a second."""
    limits = httpx.Limits(max_connections=100)
    with httpx.Client(base_url=url_of(server), limits=limits, timeout=PATIENCE_S) as opened:
        yield opened


def test_inspections_that_wait_hold_no_threads(server: uvicorn.Server, http: httpx.Client) -> None:
    audit = http.post("/v1/audits", json=REQUEST).json()["id"]
    service: Service = server.config.app.state.service  # type: ignore[union-attr]
    with ThreadPoolExecutor(60) as pool:
        waiting = [
            pool.submit(http.post, "/v1/models:inspect", json={"model": SMALL_MODEL}, timeout=LONG_S) for _ in range(60)
        ]
        try:
            deadline = time.monotonic() + PATIENCE_S
            while service.inspections.waiting < len(waiting) and time.monotonic() < deadline:
                time.sleep(0.01)
            # with a thread for each, all of these would time out
            for path in ("/livez", "/readyz", "/v1/audits"):
                assert http.get(path).status_code == 200, path
            assert http.post(f"/v1/audits/{audit}/cancel").status_code == 202
            assert not any(one.done() for one in waiting)
        finally:
            server.should_exit = True


def test_submits_that_wait_for_a_registry_leave_threads_for_the_others(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, arrived = threading.Event(), threading.Semaphore(0)

    def wait_for_a_registry(*_: object, **__: object) -> None:
        arrived.release()
        go_on.wait(LONG_S)
        msg = "the registry says no"
        raise InvalidRequest(msg, field="model")

    audit = http.post("/v1/audits", json=REQUEST).json()["id"]
    monkeypatch.setattr("auditcore_service.use_cases.priced_requests.prepare_request", wait_for_a_registry)
    with ThreadPoolExecutor(60) as pool:
        waiting = [pool.submit(http.post, "/v1/audits", json=REQUEST, timeout=LONG_S) for _ in range(60)]
        try:
            for _ in range(SLOW_THREADS):
                assert arrived.acquire(timeout=PATIENCE_S)
            for path in ("/readyz", f"/v1/audits/{audit}"):
                assert http.get(path).status_code == 200
            assert http.post(f"/v1/audits/{audit}/cancel").status_code == 202
            assert not any(one.done() for one in waiting)
        finally:
            go_on.set()
        assert {one.result().status_code for one in waiting} == {422}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"[" + b"1," * MOST_VALUES + b"1]", 413, id="a million numbers"),
        pytest.param(json.dumps({**REQUEST, "policy": [{}] * 300_000}).encode(), 422, id="300 000 mistakes"),
        pytest.param(
            json.dumps({**REQUEST, "images": {"kind": "inline", "images": [BOXES]}}).encode(),
            422,
            id="300 000 boxes without corners",
        ),
    ],
)
def test_of_a_large_body_only_the_first_mistakes_are_listed(client: TestClient, body: bytes, status: int) -> None:
    answer = client.post("/v1/audits", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    # listing all of them would stop the gateway for seconds
    assert len(answer.json()["errors"]) < 10
    assert len(answer.content) < 10_000


def test_a_body_with_too_many_values_is_refused_unread() -> None:
    assert len(read_json(b"[" + b"1," * 1000 + b"1]")) == 1001
    with pytest.raises(Exception, match="values, more than the"):
        read_json(b"[" + b"x," * MOST_VALUES + b"1]")


def test_many_valid_values_are_valid(client: TestClient) -> None:
    polygon = [float(number % 200) for number in range(30_000)]
    image = {"data": "eA==", "masks": [{"polygons": [polygon]}]}
    answer = client.post("/v1/audits", json={**REQUEST, "images": {"kind": "inline", "images": [image]}})
    assert answer.status_code == 202, answer.text
    wrong = {"data": "eA==", "masks": [{"polygons": [[*polygon, "x", "y"]]}]}
    answer = client.post("/v1/audits", json={**REQUEST, "images": {"kind": "inline", "images": [wrong]}})
    assert answer.json()["errors"][0]["pointer"] == "#/images/images/0/masks/0/polygons/0/30000"


def test_a_dependency_that_hangs_holds_one_thread_and_no_probe() -> None:
    go_on = threading.Event()
    calls = []

    def hang() -> None:
        calls.append(1)
        go_on.wait(30)

    readiness = Readiness({"blobs": Dependency(hang), "queue": Dependency(lambda: None)})

    async def probe() -> list[dict[str, str | None]]:
        return list(await asyncio.gather(*(readiness.faults() for _ in range(20))))

    try:
        found = asyncio.run(probe())
        assert found == [{"blobs": f"does not answer within {ANSWER_S:g} seconds", "queue": None}] * 20
        assert calls == [1]
    finally:
        go_on.set()


def test_an_answer_is_used_again_for_some_seconds() -> None:
    now, calls = 0.0, []
    readiness = Readiness({"blobs": Dependency(lambda: calls.append(1), kept_s=10.0)}, clock=lambda: now)
    for now, asked in ((1.0, 1), (2.0, 1), (10.5, 1), (11.5, 2)):  # noqa: B007 - the clock reads it
        assert asyncio.run(readiness.faults()) == {"blobs": None}
        assert len(calls) == asked


def test_a_full_disk_is_not_ready_and_says_why(client: TestClient) -> None:
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    (service.settings.data_dir / "blobs").mkdir(parents=True, exist_ok=True)
    (service.settings.data_dir / "blobs" / "probes").write_text("a file where a folder should be")
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert [one["pointer"] for one in answer.json()["errors"]] == ["#blobs"]
    assert "blob store cannot be used" in answer.json()["detail"]


@pytest.mark.parametrize("volume", [None, "volume/blobs"])
def test_the_files_of_an_upload_lie_in_the_folder_of_the_blobs(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, volume: str | None
) -> None:
    """The folder may be a volume, and everything beside it read-only."""
    settings = make_settings(**({} if volume is None else {"blob_url": f"file://{tmp_path / volume}"}))
    blobs = settings.data_dir / "blobs" if volume is None else tmp_path / volume
    seen: list[Path] = []

    def store(_self: object, _principal: object, stream: Any) -> None:
        # it has no name any more, so that it is gone with the process
        seen.append(Path(f"/proc/self/fd/{stream.fileno()}").readlink().parent)
        msg = "not looked at here"
        raise InvalidRequest(msg, field="maps")

    monkeypatch.setattr("auditcore_service.use_cases.uploaded_maps.MapUploads.store", store)
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        client.post("/v1/maps", files={"maps": ("maps.safetensors", b"x" * 2**21)})
    assert [folder.parent for folder in seen] == [blobs]
    assert not list(seen[0].iterdir())
