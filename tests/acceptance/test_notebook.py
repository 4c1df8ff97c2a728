"""The notebook of the documentation runs from its first cell to its last, with a service that it starts itself."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import markdown_blocks
from auditcore.client import Client
from auditcore.client.answers import ImageBatch
from auditcore.contracts.report import AuditReport

pytestmark = pytest.mark.slow

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "use-the-python-client.md"
NOTEBOOK = Path(__file__).parents[2] / "docs" / "tutorial.ipynb"


def test_it_is_committed_without_outputs() -> None:
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


def _cells() -> list[str]:
    return [cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]


def _blocks() -> list[str]:
    return [block.text for block in markdown_blocks.blocks(GUIDE) if block.language == "python"]


@pytest.mark.parametrize("texts", [_cells, _blocks])
def test_what_is_shown_uses_what_there_is(texts: Callable[[], list[str]]) -> None:
    """The quick part of running the notebook and the guide, which leaves out the computing."""
    used: set[tuple[str, str]] = set()
    for text in texts():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                used.add((node.value.id, node.attr))
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("auditcore"):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, one.name) for one in node.names), ast.unparse(node)
    assert {name for owner, name in used if owner == "client"} >= {"upload", "submit", "wait", "report"}
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
