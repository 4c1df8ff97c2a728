"""A report in a real MLflow server: what it writes, and what it refuses without a trace."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import digits
import foreign_servers
from auditcore.auditing import audit
from auditcore.contracts.access import AccessRules
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.report.serialize import report_bytes
from auditcore.sources.resolving import resolve_model
from command_line import run
from pipeline_audits import PLAN, POLICIES

pytestmark = [
    pytest.mark.long,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"),
]


@dataclass(frozen=True)
class Registry:
    """A server with `digits`: trained (1), and with other weights (2)."""

    url: str
    client: Any

    def version(self, number: str) -> Any:
        return self.client.get_model_version("digits", number)

    def aliases(self) -> dict[str, str]:
        return dict(self.client.get_registered_model("digits").aliases)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("mlflow")
    with foreign_servers.mlflow(folder) as url, warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow.pytorch  # noqa: PLC0415 - 3 s of imports

        mlflow.set_tracking_uri(url)
        mlflow.set_registry_uri(url)
        for network in (digits.trained(), digits.DigitNet().eval()):
            with mlflow.start_run():
                mlflow.pytorch.log_model(
                    network,
                    name="model",
                    registered_model_name="digits",
                    pip_requirements=["torch"],
                    serialization_format="pickle",
                )
        yield Registry(url, mlflow.MlflowClient())


@pytest.fixture(scope="module")
def reports(registry: Registry) -> dict[str, AuditReport]:
    """Reports about version 1, by verdict."""
    found = {}
    access = AccessRules(factories=("digits:build",), mlflow_tracking_uri=registry.url)
    model = {
        "kind": "mlflow",
        "uri": "models:/digits/1",
        "architecture": {"kind": "factory", "target": "digits:build"},
        "preprocessing": digits.PREPROCESSING.model_dump(mode="json"),
    }
    for verdict in ("pass", "fail"):
        document = {"model": model, "plan": PLAN, "policy": POLICIES[verdict], "images": {"kind": "uris", "uris": []}}
        document["images"] = {"kind": "batch", "digest": f"sha256:{0:064}"}
        request = AuditRequest.model_validate(document)
        assert request.model is not None
        pinned = resolve_model(request.model, access).reference
        request = request.model_copy(update={"model": pinned})
        found[verdict] = audit(request, images=digits.encoded(10), access=access)
        assert found[verdict].verdict == verdict
    return found


def log(registry: Registry, folder: Path, report: AuditReport, number: str, *options: str) -> Any:
    path = folder / "report.json"
    path.write_bytes(report_bytes(report))
    return run("mlflow", "log", path, "--model", f"digits/{number}", "--tracking-uri", registry.url, *options)


def state_of(registry: Registry, number: str) -> tuple[dict[str, str], dict[str, float], dict[str, str]]:
    version = registry.version(number)
    run_data = registry.client.get_run(version.run_id).data
    return dict(version.tags), dict(run_data.metrics), registry.aliases()


def test_a_failed_verdict_or_other_files_leave_no_trace(
    registry: Registry, reports: dict[str, AuditReport], tmp_path: Path
) -> None:
    before = state_of(registry, "1"), state_of(registry, "2")
    refused = log(registry, tmp_path, reports["fail"], "1", "--gate-alias", "champion")
    assert refused.exit_code == 1
    other = log(registry, tmp_path, reports["pass"], "2", "--gate-alias", "champion")
    assert other.exit_code == 2
    assert "audit this one" in other.output
    assert (state_of(registry, "1"), state_of(registry, "2")) == before
    missing = log(registry, tmp_path, reports["pass"], "77")
    assert missing.exit_code == 2


def test_a_report_is_logged_and_the_version_earns_its_alias(
    registry: Registry, reports: dict[str, AuditReport], tmp_path: Path
) -> None:
    report = reports["pass"]
    found = log(registry, tmp_path, report, "1", "--gate-alias", "champion", "--stage", "Production")
    assert found.exit_code == 0, found.output
    assert "could not be compared" not in found.output
    tags, metrics, aliases = state_of(registry, "1")
    assert aliases == {"champion": "1"}
    assert registry.version("1").current_stage == "Production"
    assert tags["auditcore.verdict"] == "pass"
    assert tags["auditcore.audit_id"] == report.audit_id
    assert tags["auditcore.images_digest"] == report.images.digest
    assert tags["auditcore.plan_digest"] == report.manifest.plan_digest
    assert report.model is not None
    assert tags["auditcore.model_digest"] == report.model.digest
    mean = next(one.mean for one in report.results if one.metric == "inter_model_deletion")
    assert metrics["deletion/inter_model_deletion/gradient"] == pytest.approx(mean)
    run_id = registry.version("1").run_id
    place = f"auditcore/{report.audit_id}"
    names = {Path(one.path).name for one in registry.client.list_artifacts(run_id, place)}
    assert names == {"report.json", "report.html"}
    stored = registry.client.download_artifacts(run_id, f"{place}/report.json", str(tmp_path))
    assert json.loads(Path(stored).read_text())["audit_id"] == report.audit_id
    assert registry.client.get_run(run_id).data.tags["auditcore.verdict"] == "pass"


def test_a_failed_report_is_recorded_if_no_alias_is_asked_for(
    registry: Registry, reports: dict[str, AuditReport], tmp_path: Path
) -> None:
    found = log(registry, tmp_path, reports["fail"], "1")
    assert found.exit_code == 0, found.output
    assert registry.version("1").tags["auditcore.verdict"] == "fail"
