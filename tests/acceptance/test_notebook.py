"""The notebook of the documentation runs from its first cell to its last, with a service that it starts itself."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from auditcore.client import Client
from auditcore.client.answers import ImageBatch
from auditcore.contracts.report import AuditReport

pytestmark = pytest.mark.slow

NOTEBOOK = Path(__file__).parents[2] / "docs" / "tutorial.ipynb"


def test_it_is_committed_without_outputs() -> None:
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


def test_its_cells_use_what_there_is() -> None:
    """The quick part of the next test, which leaves out the computing."""
    used: set[tuple[str, str]] = set()
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    used.add((node.value.id, node.attr))
    assert {name for owner, name in used if owner == "client"} >= {"upload", "submit", "wait", "report", "verify"}
    for owner, kind in (("client", Client), ("report", AuditReport), ("batch", ImageBatch)):
        for name in (name for one, name in used if one == owner):
            assert name in kind.__dict__ or name in getattr(kind, "model_fields", {}), (owner, name)


@pytest.mark.long
def test_every_cell_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the size that is measured of the demo model, which would take many seconds
    monkeypatch.setenv("AUDIT_MICRO_BATCH", "8")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [
        "".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
    everything = "\n".join(shown)
    assert "succeeded 100%" in everything
    assert "('inconclusive'," in everything
    assert "inter_model_deletion" in everything
    assert "<NA>" in everything
    assert any("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ()))
    assert not list(tmp_path.glob("*.db"))
