"""`auditcore mlflow log` where nothing may be written; tests/acceptance/test_mlflow_log.py has a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditcore.contracts.policy import Condition
from auditcore.report.serialize import report_bytes
from command_line import run
from made_up_audits import report as made_up
from made_up_audits import row, shard

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """A report with the verdict `fail`."""
    policy = (Condition(check="deletion", explainer="grad_cam", metric="srg", at_least=0.9),)
    path = tmp_path / "report.json"
    path.write_bytes(
        report_bytes(made_up(shard(None, {i: [1] for i in range(10)}, row("grad_cam", [0.5] * 10)), policy=policy))
    )
    return path


@pytest.mark.parametrize("option", ["--gate-alias", "--stage"])
def test_a_verdict_that_forbids_asks_no_server(report: Path, option: str) -> None:
    found = run("mlflow", "log", report, "--model", "scans/3", "--tracking-uri", NOBODY, option, "champion")
    assert found.exit_code == 1
    assert "the verdict is fail" in found.output
    assert "nothing was written" in found.output


@pytest.mark.parametrize("model", ["scans", "scans/", "/3", "scans/latest", "scans@champion"])
def test_what_names_no_version_is_an_error_with_the_way_to_write_it(report: Path, model: str) -> None:
    found = run("mlflow", "log", report, "--model", model, "--tracking-uri", NOBODY)
    assert found.exit_code == 2
    assert "write NAME/VERSION" in found.output


def test_an_audit_that_nobody_knows_is_an_error(tmp_path: Path) -> None:
    found = run("mlflow", "log", tmp_path / "no.json", "--model", "scans/3", "--tracking-uri", NOBODY, "--url", NOBODY)
    assert found.exit_code == 2
    assert "there is no file" in found.output


def test_a_file_that_is_no_report_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("{}")
    found = run("mlflow", "log", path, "--model", "scans/3", "--tracking-uri", NOBODY)
    assert found.exit_code == 2
    assert "report.json" in found.output
