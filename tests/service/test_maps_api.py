"""Uploaded maps over HTTP: stored by content, checked by their header, refused at submit where they do not fit."""

from __future__ import annotations

import io

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image
from safetensors.numpy import save

from auditcore.contracts.canonical_json import sha256
from small_model import SMALL_MODEL

MAPS = save({"maps": np.random.default_rng(0).normal(size=(2, 32, 32)).astype(np.float32)})


def upload_images(client: TestClient, count: int) -> dict[str, str]:
    files = []
    for number in range(count):
        buffer = io.BytesIO()
        Image.new("RGB", (32, 32), (number, 0, 0)).save(buffer, "PNG")
        files.append(("images", (f"{number}.png", buffer.getvalue())))
    return {"kind": "batch", "digest": client.post("/v1/image-batches", files=files).json()["digest"]}


def submit(client: TestClient, maps: str, images: int) -> dict[str, object]:
    body = {
        "model": SMALL_MODEL,
        "images": upload_images(client, images),
        "plan": {
            "explainers": [{"kind": "random"}, {"kind": "precomputed", "maps": maps}],
            "checks": [{"kind": "complexity"}],
        },
    }
    answer = client.post("/v1/audits", json=body)
    found: dict[str, object] = answer.json()
    return {"status": answer.status_code, **found}


def test_maps_are_stored_by_content_and_can_be_named_in_a_plan(client: TestClient) -> None:
    answer = client.post("/v1/maps", files={"maps": ("maps.safetensors", MAPS)})
    assert answer.status_code == 201
    assert answer.json() == {
        "digest": sha256(MAPS),
        "size_bytes": len(MAPS),
        "file": {"images": 2, "channels": 1, "height": 32, "width": 32, "ordered": True, "targeted": False},
    }
    assert submit(client, sha256(MAPS), 2)["status"] == 202


def test_other_files_are_refused_and_nothing_is_stored(client: TestClient) -> None:
    answer = client.post("/v1/maps", files={"maps": ("maps.npz", b"PK\x03\x04")})
    assert answer.status_code == 422
    assert answer.json()["code"] == "maps_invalid"
    assert answer.json()["errors"][0]["pointer"] == "#/maps"
    refused = submit(client, sha256(b"PK\x03\x04"), 2)
    assert (refused["status"], refused["code"]) == (422, "unreachable_resource")


def test_maps_of_another_number_of_images_are_refused_at_submit(client: TestClient) -> None:
    client.post("/v1/maps", files={"maps": ("maps.safetensors", MAPS)})
    refused = submit(client, sha256(MAPS), 3)
    assert (refused["status"], refused["code"]) == (422, "maps_invalid")
    assert "2 maps" in str(refused["detail"])
    assert "#/plan/explainers/1/maps" in str(refused["errors"])
