"""A client that a generator makes of the OpenAPI document, against a real service."""

from __future__ import annotations

import io
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import foreign_servers
from auditcore_service.embedded.process_tree import EmbeddedService
from auditcore_service.settings import Settings

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow

USE = """
import json, sys, time
from pathlib import Path
from auditcore_client import Client
from auditcore_client.api.audits import get_audit, get_report, submit_audit
from auditcore_client.api.image_batches import upload_image_batch
from auditcore_client.models import AuditReport, AuditRequest, AuditStatus, ImageBatch, Problem
from auditcore_client.models import UploadImageBatchBody
from auditcore_client.types import File

url, photos = sys.argv[1], [Path(name) for name in sys.argv[2:]]
client = Client(base_url=url, raise_on_unexpected_status=True)
files = [File(payload=photo.open("rb"), file_name=photo.name, mime_type="image/png") for photo in photos]
batch = upload_image_batch.sync(client=client, body=UploadImageBatchBody(images=files))
assert isinstance(batch, ImageBatch), batch
request = AuditRequest.from_dict({
    "model": {"kind": "torchvision", "name": "mobilenet_v3_small", "weights": {"uri": "random:1"}, "classes": 5,
              "preprocessing": {"resize": 32, "crop": 32}},
    "images": {"kind": "batch", "digest": batch.digest},
    "plan": {"explainers": [{"kind": "noise_tunnel", "samples": 2}],
             "checks": [{"kind": "deletion", "grid": 2, "repeats": 1}]},
})
status = submit_audit.sync(client=client, body=request)
assert isinstance(status, AuditStatus), status
while str(status.state) not in {"succeeded", "failed", "cancelled"}:
    time.sleep(0.2)
    status = get_audit.sync(status.id, client=client)
report = get_report.sync(status.id, client=client)
assert isinstance(report, AuditReport), report
missing = get_audit.sync("a1", client=client)
assert isinstance(missing, Problem), missing
json.dump({"state": str(status.state), "report": report.to_dict(), "missing": missing.code}, sys.stdout)
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a client that is generated without a word of warning, and without any network."""
    folder = tmp_path_factory.mktemp("client")
    config = folder / "config.yaml"
    # the generator has no type for pictures
    config.write_text('post_hooks: []\ncontent_type_overrides: {"image/png": "application/octet-stream"}\n')
    command = [foreign_servers.environment("openapi_client"), "-m", "openapi_python_client", "generate"]
    options = {
        "--path": ROOT / "openapi/openapi.json",
        "--meta": "none",
        "--config": config,
        "--output-path": folder / "auditcore_client",
    }
    done = subprocess.run(
        [*command, *(str(part) for pair in options.items() for part in pair)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"},
    )
    # a warning would follow this line
    assert (done.stdout.split(), done.stderr) == (["Generating", str(folder / "auditcore_client")], "")
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("data"), redis_url=None, port=0, device="cpu", threads=1, sweep_s=1.0
    )
    with EmbeddedService(settings) as running:
        yield running.base_url


@pytest.mark.long
def test_it_submits_follows_and_reads_the_report(client: Path, service: str, tmp_path: Path) -> None:
    photos = []
    for number in range(2):
        buffer = io.BytesIO()
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, "PNG")
        photos.append(tmp_path / f"{number}.png")
        photos[-1].write_bytes(buffer.getvalue())
    done = subprocess.run(
        [foreign_servers.environment("openapi_client"), "-c", USE, service, *map(str, photos)],
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
        env={**os.environ, "PYTHONPATH": str(client)},
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["state"] == "succeeded"
    assert answer["missing"] == "not_found"
    assert answer["report"]["verdict"] == "not_evaluated"
    assert [image["name"] for image in answer["report"]["images"]["items"]] == ["0.png", "1.png"]
    assert {"noise_tunnel"} <= {result["explainer"] for result in answer["report"]["results"]}
