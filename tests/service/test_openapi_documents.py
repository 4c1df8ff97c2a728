"""The documents under `openapi/` are what the code says."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from auditcore_service.cli.commands import app
from auditcore_service.cli.documents import documents

FOLDER = Path(__file__).parents[2] / "openapi"


@pytest.mark.parametrize("name", ["openapi.json", "report.schema.json"])
def test_no_drift(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == documents()[name], "run `make openapi` and commit"


@pytest.mark.long
def test_check_compares_and_never_writes(tmp_path: Path) -> None:
    def run(*options: str) -> int:
        return CliRunner().invoke(app, ["openapi", "--out", str(tmp_path), *options]).exit_code

    assert run("--check") == 1
    assert list(tmp_path.iterdir()) == []
    assert run() == 0
    assert run("--check") == 0
    (tmp_path / "openapi.json").write_text("{}")
    assert run("--check") == 1
    assert (tmp_path / "openapi.json").read_text() == "{}"
