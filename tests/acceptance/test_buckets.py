"""The service with everything in buckets: model, images, and what it stores itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import digits
import prediction_only
from auditcore.auditing import audit
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.packaged_models import MarModel
from auditcore.contracts.report import AuditReport
from auditcore.models.archive_writing import write_archive
from auditcore_service.embedded.process_tree import EmbeddedService
from auditcore_service.settings import Settings
from s3_server import s3

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]

IMAGES = 3
MICRO_BATCH = 8
PLAN = {
    "explainers": [{"kind": "gradient"}, {"kind": "ablation", "grid": 4}],
    "checks": [{"kind": "deletion", "grid": 4, "repeats": 1}, {"kind": "edda", "keep": [0.15]}],
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    reference = digits.reference(digits.write_weights(folder))
    path = folder / "digits.mar"
    write_archive(path, name="digits", version="1.0", model=reference, access=digits.access(folder))
    return path


@pytest.fixture(scope="module")
def buckets(archive: Path) -> Iterator[Any]:
    photos = {f"photos/{number}.png": digits.png(number) for number in range(IMAGES)}
    with s3({"models": {"digits.mar": archive.read_bytes(), **photos}, "audits": {}}) as client:
        yield client


@pytest.fixture(scope="module")
def service(buckets: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedService]:  # noqa: ARG001
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("service"),
        port=0,
        threads=1,
        device="cpu",
        blob_url="s3://audits/hospital",
        factories=("digits:build",),
        storage_prefixes=("s3://models/",),
        sweep_s=0.5,
        # what two processes measure may differ, and scores then differ by rounding
        micro_batch=MICRO_BATCH,
    )
    with pytest.MonkeyPatch.context() as patch:
        # the worker is a process of its own, in which the factory must be found
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
        with EmbeddedService(settings) as running:
            yield running


def body(**model: Any) -> dict[str, Any]:
    uris = [{"uri": f"s3://models/photos/{number}.png"} for number in range(IMAGES)]
    return {
        "model": {"kind": "mar", "uri": "s3://models/digits.mar", **model},
        "images": {"kind": "uris", "uris": uris},
        "plan": PLAN,
    }


def keys(client: Any, bucket: str) -> set[str]:
    return {one["Key"] for one in client.list_objects_v2(Bucket=bucket).get("Contents", [])}


def finished(client: httpx.Client, request: dict[str, Any]) -> dict[str, Any]:
    """What became of an audit."""
    answer = client.post("/v1/audits", json=request)
    assert answer.status_code == 202, answer.text
    deadline = time.monotonic() + 90
    while True:
        seen: dict[str, Any] = client.get(answer.headers["location"]).json()
        if seen["state"] in {"succeeded", "failed"}:
            return seen
        assert time.monotonic() < deadline, seen
        time.sleep(0.2)


def await_ready(client: httpx.Client) -> None:
    """Wait until the service says that it is ready, as a load balancer does.

    The first look at a bucket loads the client of object stores, which may take longer than a check is waited for.
    """
    deadline = time.monotonic() + 30
    while (answer := client.get("/readyz")).status_code != 200:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.2)


def test_an_audit_of_a_bucket_is_that_of_the_same_files(service: EmbeddedService, buckets: Any, archive: Path) -> None:
    with httpx.Client(base_url=service.base_url, timeout=60) as client:
        await_ready(client)
        seen = finished(client, body())
        assert seen["state"] == "succeeded", seen
        report = AuditReport.model_validate_json(client.get(f"/v1/audits/{seen['id']}/report").content)
    assert report.model.reference.sha256 == sha256(archive.read_bytes())  # type: ignore[union-attr]
    assert [one.digest for one in report.images.items] == [sha256(digits.png(number)) for number in range(IMAGES)]
    # the service keeps its own in the other bucket, below its prefix, and nothing on its disk
    assert keys(buckets, "audits")
    assert all(key.startswith("hospital/sha256/") for key in keys(buckets, "audits"))
    assert not (service.settings.data_dir / "blobs").exists()
    reference = MarModel(uri=archive.as_uri())
    itself = audit(
        prediction_only.request(reference, **PLAN),
        images=digits.encoded(IMAGES),
        access=digits.access(archive.parent),
        micro_batch=MICRO_BATCH,
    )
    assert [(row.metric, row.explainer, row.mean) for row in report.results] == [
        (row.metric, row.explainer, row.mean) for row in itself.results
    ]


def test_another_archive_than_the_pinned_one_fails_the_audit(service: EmbeddedService) -> None:
    with httpx.Client(base_url=service.base_url, timeout=60) as client:
        seen = finished(client, body(sha256=f"sha256:{'0' * 64}"))
    assert seen["state"] == "failed"
    assert (seen["error"]["code"], seen["error"]["field"]) == ("digest_mismatch", "model.sha256")
