"""Limits of a tenant on running audits, passes of a day and stored bytes."""

from __future__ import annotations

import base64
import dataclasses
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import httpx
import numpy as np
import pytest
import safetensors.numpy
from fastapi.testclient import TestClient
from PIL import Image
from pydantic import SecretStr
from sqlalchemy import delete

from auditcore.contracts.request import AuditRequest
from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS, Principal, Scope
from auditcore_service.settings import Settings
from auditcore_service.store.records import ShardKey
from auditcore_service.store.shards import claim_shard, complete_shard
from auditcore_service.store.tables import AUDITS
from auditcore_service.store.tenants import NO_LIMIT, set_tenant
from auditcore_service.timestamps import rfc3339
from auditcore_service.use_cases.image_batches import UploadedFile
from auditcore_service.use_cases.refusals import QuotaExceeded

OTHER = Principal("other", "bob", frozenset(get_args(Scope)))
NOON = 1_795_780_800.0
"""2026-11-27T12:00:00Z."""

Gateway = Callable[..., Any]


@pytest.fixture
def gateway(make_settings: Callable[..., Settings], database_url: str) -> Gateway:
    """Makes gateways of one service; keywords are settings."""

    @contextmanager
    def make(**settings: Any) -> Iterator[TestClient]:
        with TestClient(create_app(make_settings(database_url=SecretStr(database_url), **settings))) as client:
            yield client

    return make


def service_of(client: TestClient) -> Service:
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    return service


def png(color: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (color, 10, 200)).save(buffer, "PNG")
    return buffer.getvalue()


def body(color: int = 1, images: int = 1) -> dict[str, Any]:
    inline = [{"data": base64.b64encode(png(color)).decode()}] * images
    return {"model": {"kind": "demo"}, "images": {"kind": "inline", "images": inline}, "plan": {"preset": "quick"}}


def submit(client: TestClient, color: int = 1, images: int = 1, **headers: str) -> httpx.Response:
    return client.post("/v1/audits", json=body(color, images), headers=headers)


def passes_of(client: TestClient) -> int:
    passes: int = client.post("/v1/estimates", json=body()).json()["estimate"]["passes"]
    return passes


def refused(answer: httpx.Response, status: int, code: str, *sentences: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    for sentence in sentences:
        assert sentence in answer.json()["detail"]


def upload(client: TestClient, *files: bytes, **more: Any) -> httpx.Response:
    parts: list[Any] = [("images", (f"{number}.png", data)) for number, data in enumerate(files)]
    return client.post("/v1/image-batches", files=[*parts, *more.items()])


def finish(service: Service, audit_id: str) -> None:
    """Play the worker: complete every shard."""
    digest = service.blobs.put(b"{}")
    for wave in range(2):
        key = ShardKey(audit_id, wave, 0)
        with service.database.writing() as connection:
            assert claim_shard(connection, key, now=1.0, lease_s=9.0)
            complete_shard(connection, key, attempt=1, result_digest=digest, now=2.0, verdict="pass")


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_audits_that_wait_or_run_are_limited_until_one_ends(gateway: Gateway, tmp_path: Path) -> None:
    with gateway(running_audits=2) as client:
        first, _ = (submit(client).json()["id"] for _ in range(2))
        stored = files_below(tmp_path / "service" / "blobs")
        third = submit(client, color=99)
        refused(
            third,
            429,
            "quota_exceeded",
            "tenant 'default' has 2 audits, trainings and experiments that wait or run, and its limit is 2",
        )
        assert third.headers["retry-after"] == "60"
        # it is refused before its image is stored
        assert files_below(tmp_path / "service" / "blobs") == stored
        service_of(client).audits.submit(OTHER, AuditRequest.model_validate(body()))
        client.post(f"/v1/audits/{first}/cancel")
        assert submit(client).status_code == 202
        assert submit(client).status_code == 429


def test_passes_of_a_day_are_counted_in_the_database(gateway: Gateway) -> None:
    with gateway() as client:
        passes = passes_of(client)
    limits = {"passes_per_day": 2 * passes + 1}
    with gateway(**limits) as client:
        service = service_of(client)
        service.quotas._clock = lambda: NOON
        audit_id = submit(client).json()["id"]
        assert submit(client).status_code == 202
        # what is deleted has been computed all the same
        with service.database.writing() as connection:
            connection.execute(delete(AUDITS).where(AUDITS.c.id == audit_id))
    with gateway(**limits) as client:
        service = service_of(client)
        service.quotas._clock = lambda: NOON + 0.5
        third = submit(client)
        tomorrow = NOON + 12 * 3600
        message = (
            f"the audit is estimated at {passes} forward passes, and tenant 'default' has submitted {2 * passes} of "
            f"its {2 * passes + 1} for today; wait until {rfc3339(tomorrow)}, or use fewer images"
        )
        refused(third, 429, "quota_exceeded", message)
        assert third.headers["retry-after"] == str(12 * 3600)
        assert third.json()["errors"][0]["pointer"] == "#/plan"
        quote = client.post("/v1/estimates", json=body()).json()
        assert (quote["within_budget"], quote["advice"]) == (False, third.json()["detail"])
        service.audits.submit(OTHER, AuditRequest.model_validate(body()))
        service.quotas._clock = lambda: tomorrow
        assert client.post("/v1/estimates", json=body()).json()["within_budget"] is True
        assert submit(client).status_code == 202


def test_an_audit_of_more_passes_than_a_whole_day_is_no_matter_of_waiting(gateway: Gateway) -> None:
    with gateway() as client:
        passes = passes_of(client)
    with gateway(passes_per_day=passes - 1) as client:
        answer = submit(client)
        message = (
            f"the audit is estimated at {passes} forward passes, and tenant 'default' may submit {passes - 1} in a day"
        )
        refused(answer, 422, "budget_exceeded", message)
        assert "retry-after" not in answer.headers
        quote = client.post("/v1/estimates", json=body()).json()
        assert (quote["within_budget"], quote["advice"]) == (False, answer.json()["detail"])


def test_stored_bytes_are_limited_and_what_is_stored_already_needs_no_room(gateway: Gateway, tmp_path: Path) -> None:
    one, two, three = (png(color) for color in (1, 2, 3))
    with gateway(stored_bytes=len(one) + len(two)) as client:
        assert upload(client, one).status_code == 201
        stored = files_below(tmp_path / "service" / "blobs")
        both = upload(client, three, two)
        message = (
            f"tenant 'default' stores {len(one)} bytes of image batches and maps, its limit is {len(one) + len(two)}, "
            f"and these are {len(two) + len(three)} more; delete what you no longer need"
        )
        refused(both, 429, "quota_exceeded", message)
        assert "retry-after" not in both.headers
        # the second image is the one that does not fit
        (new,) = files_below(tmp_path / "service" / "blobs") - stored
        assert new.read_bytes() == three
        assert upload(client, two).status_code == 201
        for again in (one, two):
            assert upload(client, again).status_code == 201
        refused(submit(client, color=4), 429, "quota_exceeded")
        service = service_of(client)
        found = service.batches.store(OTHER, [UploadedFile("a.png", io.BytesIO(two), "images.0")])
        assert len(found.manifest.entries) == 1
        assert service.quotas.usage("other").stored_bytes == len(two)


def test_masks_and_maps_need_room_too(gateway: Gateway, tmp_path: Path) -> None:
    image, mask = png(1), io.BytesIO()
    Image.new("L", (16, 16), 255).save(mask, "PNG")
    maps = safetensors.numpy.save({"maps": np.ones((1, 8, 8), np.float32)})
    with gateway(stored_bytes=len(image) + len(mask.getvalue()) - 1) as client:
        refused(upload(client, image, masks=("0.png", mask.getvalue(), "image/png")), 429, "quota_exceeded")
        assert upload(client, image).status_code == 201
        stored = files_below(tmp_path / "service" / "blobs")
        refused(client.post("/v1/maps", files={"maps": maps}), 429, "quota_exceeded", f"these are {len(maps)} more")
        assert files_below(tmp_path / "service" / "blobs") == stored
    with gateway(stored_bytes=len(image) + len(maps)) as client:
        assert client.post("/v1/maps", files={"maps": maps}).status_code == 201
    everything = 2 * len(image) + len(mask.getvalue()) + len(maps)
    with gateway(stored_bytes=everything) as client:
        # what is stored already needs no room
        assert client.post("/v1/maps", files={"maps": maps}).status_code == 201
        assert upload(client, image, masks=("0.png", mask.getvalue(), "image/png")).status_code == 201
        usage = client.get("/v1/usage").json()["stored_bytes"]
        assert usage == {"limit": everything, "used": everything, "resets_at": None}
        refused(client.post("/v1/maps", files={"maps": maps + b" "}), 429, "quota_exceeded")


def test_space_that_becomes_free_during_an_upload_does_not_complete_it(gateway: Gateway) -> None:
    image = png(1)
    with gateway(stored_bytes=len(image) - 1) as client:
        service = service_of(client)
        file = UploadedFile("a.png", io.BytesIO(image), "images.0")

        class Raising(io.BytesIO):
            """Its last byte arrives when the operator has lifted the limit."""

            def read(self, size: int | None = -1) -> bytes:
                with service.database.writing() as connection:
                    set_tenant(connection, "default", {"stored_bytes": NO_LIMIT}, now=1.0)
                return super().read(size)

        with pytest.raises(QuotaExceeded):
            service.batches.store(ANONYMOUS, [dataclasses.replace(file, stream=Raising(image))])
        assert service.batches.store(ANONYMOUS, [file]).digest


def test_a_key_of_a_refused_request_is_free_and_a_known_key_needs_no_place(gateway: Gateway) -> None:
    with gateway(running_audits=1) as client:
        accepted = submit(client, **{"Idempotency-Key": "a"}).json()["id"]
        assert submit(client, **{"Idempotency-Key": "b"}).status_code == 429
        assert submit(client, **{"Idempotency-Key": "a"}).json()["id"] == accepted
        client.post(f"/v1/audits/{accepted}/cancel")
        assert submit(client, **{"Idempotency-Key": "b"}).status_code == 202


def at_once(count: int, call: Callable[[int], object]) -> tuple[int, int]:
    """How many calls of threads that start together succeed, and how many meet a quota."""
    start, results = threading.Barrier(count), list[object]()

    def run(number: int) -> None:
        start.wait()
        try:
            results.append(call(number))
        except QuotaExceeded as refusal:
            results.append(refusal)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == count
    exceeded = sum(isinstance(result, QuotaExceeded) for result in results)
    return count - exceeded, exceeded


def test_two_requests_at_once_do_not_both_take_the_last_place(gateway: Gateway) -> None:
    request = AuditRequest.model_validate(body())
    with gateway() as client:
        passes = passes_of(client)
        service_of(client).audits.submit(ANONYMOUS, request)

    def submit_eight(**limits: int) -> tuple[int, int]:
        with gateway(**limits) as client:
            service = service_of(client)
            # the early check passes all of them, and the one in the transaction passes three
            service.quotas.check_audit = lambda *_: None  # type: ignore[method-assign]
            return at_once(8, lambda _: service.audits.submit(ANONYMOUS, request))

    assert submit_eight(running_audits=4) == (3, 5)
    assert submit_eight(passes_per_day=7 * passes) == (3, 5)


def test_two_uploads_at_once_do_not_both_take_the_last_bytes(gateway: Gateway) -> None:
    images = [png(10 + number) for number in range(6)]
    assert len(set(map(len, images))) == 1
    with gateway(stored_bytes=2 * len(images[0])) as client:
        batches = service_of(client).batches

        def store(number: int) -> object:
            return batches.store(ANONYMOUS, [UploadedFile("a.png", io.BytesIO(images[number]), "images.0")])

        assert at_once(6, store) == (2, 4)
        # of the same batch, any number may come at the same time
        assert service_of(client).quotas.usage("default").stored_bytes == 2 * len(images[0])
    with gateway(stored_bytes=3 * len(images[0])) as client:
        batches = service_of(client).batches
        new = png(99)
        assert at_once(6, lambda _: batches.store(ANONYMOUS, [UploadedFile("a.png", io.BytesIO(new), "images.0")])) == (
            6,
            0,
        )


def test_what_was_accepted_is_computed_whatever_the_limits_are_by_then(gateway: Gateway) -> None:
    with gateway() as client:
        service = service_of(client)
        audit_id = submit(client).json()["id"]
        nothing = {"running_audits": 0, "passes_per_day": 0, "stored_bytes": 0, "requests_per_minute": 1}
        with service.database.writing() as connection:
            set_tenant(connection, "default", nothing, now=1.0)  # type: ignore[arg-type]  # names of settings
        service.sweeper.sweep()
        finish(service, audit_id)
        assert service.audits.get(ANONYMOUS, audit_id).state == "succeeded"


def test_usage_is_told_before_a_pipeline_runs(gateway: Gateway) -> None:
    image = png(1)
    with gateway(running_audits=3, stored_bytes=10_000) as client:
        service = service_of(client)
        service.quotas._clock = lambda: NOON
        passes = submit(client).json()["estimate"]["passes"]
        service.audits.submit(OTHER, AuditRequest.model_validate(body()))
        assert client.get("/v1/usage").json() == {
            "tenant": "default",
            "requests_per_minute": {"limit": None, "used": None, "resets_at": None},
            "running_audits": {"limit": 3, "used": 1, "resets_at": None},
            "passes_per_day": {"limit": None, "used": passes, "resets_at": "2026-11-28T00:00:00.000Z"},
            "stored_bytes": {"limit": 10_000, "used": len(image), "resets_at": None},
        }


def test_a_replay_counts_like_any_audit(gateway: Gateway) -> None:
    with gateway(running_audits=1) as client:
        audit_id = submit(client).json()["id"]
        finish(service_of(client), audit_id)
        assert client.post(f"/v1/audits/{audit_id}/replay").status_code == 202
        refused(client.post(f"/v1/audits/{audit_id}/replay"), 429, "quota_exceeded")
