"""One image among good ones ends the process, hangs, or takes more memory than there is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.conftest import Play, running
from chaos.deployment import Deployment, EmbeddedDeployment, ScaledDeployment
from chaos.scene import Scene
from chaos.small_audits import batch_of, poisoned_request
from running_service import wait

GOOD = 7
SETTINGS = {"SHARD_LIMIT_S": "6", "SHARD_IMAGES": "4", "MEMORY_BYTES": str(2**31)}


@pytest.fixture(scope="module", params=["embedded", "scaled"])
def limited(folder: Path, weights: Path, request: pytest.FixtureRequest) -> Iterator[Deployment]:
    """A deployment with a limit of time and of memory."""
    kind = EmbeddedDeployment if request.param == "embedded" else ScaledDeployment
    yield from running(kind(folder / f"poison-{request.param}", weights=weights, settings=SETTINGS))


@pytest.mark.parametrize("name", ["killing", "hanging"])
def test_an_image_that_ends_its_process_is_left_out(limited: Deployment, play: Play, name: str) -> None:
    what, code = {"killing": ("kills the process", "ended_process"), "hanging": ("hangs", "time_limit")}[name]
    with play(f"an image that {what}, among {GOOD} good ones", limited) as scene:
        scene.end_s = 240
        audit_id = _submit_poisoned(scene, name)
        scene.submit("quick")
        report = _report(limited, scene, audit_id)
        excluded = [(one["index"], one["code"]) for one in report["images"]["excluded"]]
        scene.notes.append(f"left out: {excluded}")
        assert excluded == [(GOOD // 2, code)]
        assert report["images"]["used"] == GOOD


def test_an_image_that_takes_too_much_memory(limited: Deployment, play: Play) -> None:
    with play("an image whose pass needs more memory than allowed", limited) as scene:
        scene.end_s = 120
        audit_id = _submit_poisoned(scene, "hungry")
        scene.failing[audit_id] = "memory_exhausted"
        scene.submit("quick")


def _submit_poisoned(scene: Scene, name: str) -> str:
    deployment = scene.deployment
    batch = batch_of(deployment.client, GOOD, poisoned=True)
    return scene.submit(f"{name} image", body=poisoned_request(deployment.weights, name, batch))


def _report(deployment: Deployment, scene: Scene, audit_id: str) -> dict[str, Any]:
    status = wait(deployment.client, audit_id, scene.end_s)
    assert status["state"] == "succeeded", status["error"]
    report: dict[str, Any] = deployment.client.get(f"/v1/audits/{audit_id}/report").json()
    return report
