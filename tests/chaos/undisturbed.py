"""What audits come to when nothing goes wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chaos.deployment import EmbeddedDeployment
from chaos.scene import Scene
from chaos.small_audits import comparable
from running_service import wait


def undisturbed_reports(folder: Path, *, weights: Path, kinds: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
    """Kind -> the comparable report of an audit on a deployment of its own.

    Args:
        folder: For the deployment; removed at the end.
        weights: Folder of the weights; the path is in the report.
        kinds: Names in `KINDS`.
    """
    deployment = EmbeddedDeployment(folder, weights=weights)
    try:
        deployment.start()
        scene = Scene(deployment)
        audits = {kind: scene.submit(kind) for kind in kinds}
        reports = {}
        for kind, audit_id in audits.items():
            status = wait(deployment.client, audit_id)
            assert status["state"] == "succeeded", status
            reports[kind] = comparable(deployment.client.get(f"/v1/audits/{audit_id}/report").json())
    finally:
        deployment.stop()
        deployment.remove()
    return reports
