"""`auditcore submit --name --tag`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from command_line import run
from commands_in_process import asking
from in_process import InProcess
from small_model import SMALL_MODEL
from two_tenants import PLAN, photo

URL = "http://testserver"


@pytest.fixture
def request_file(client: TestClient, tmp_path: Path) -> Iterator[Path]:
    """A request with a tag of its own; what the command line sends reaches the gateway of this process."""
    batch = client.post("/v1/image-batches", files=[("images", ("0.png", photo().stream.read()))]).json()["digest"]
    document = {
        "model": SMALL_MODEL,
        "images": {"kind": "batch", "digest": batch},
        "plan": PLAN,
        "tags": {"version": "1", "team": "scans"},
    }
    path = tmp_path / "request.json"
    path.write_text(json.dumps(document))
    with asking(InProcess(client)):
        yield path


def test_a_name_and_tags_are_those_of_the_audit(client: TestClient, request_file: Path) -> None:
    done = run("submit", request_file, "--url", URL, "--name", "nightly", "--tag", "version:3.1", "--tag", "stage:a:b")
    assert done.exit_code == 0, done.output
    (audit,) = client.get("/v1/audits", params={"name": "nightly", "tag": "stage:a:b"}).json()["items"]
    assert audit["name"] == "nightly"
    assert audit["tags"] == {"stage": "a:b", "team": "scans", "version": "3.1"}


@pytest.mark.parametrize("tag", ["version", "version:", ":3.1"])
def test_a_tag_without_key_or_value_is_refused(client: TestClient, request_file: Path, tag: str) -> None:
    done = run("submit", request_file, "--url", URL, "--tag", tag)
    assert done.exit_code == 2
    assert "KEY:VALUE" in done.output
    assert client.get("/v1/audits").json()["items"] == []
