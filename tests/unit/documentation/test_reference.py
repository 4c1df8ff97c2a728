"""The generated pages name everything that exists, and Sphinx builds all pages without a warning."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

import auditcore
from auditcore import errors
from auditcore.client import Client, answers
from auditcore.client import errors as client_errors
from auditcore.contracts.augmentations import Augmentation
from auditcore.contracts.checks import Check
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.metrics import METRICS
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.presets import PRESETS
from auditcore.contracts.training.methods import TrainingMethod
from auditcore_service.settings import Settings

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    found = importlib.util.spec_from_file_location("reference_pages", DOCS / "reference_pages.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(generator: ModuleType) -> Mapping[str, str]:
    written: Mapping[str, str] = generator.reference_pages()
    return written


@pytest.mark.parametrize(
    ("page", "union"),
    [
        ("explainers.md", Explainer),
        ("checks.md", Check),
        ("augmentations.md", Augmentation),
        ("models.md", ModelReference),
        ("training-methods.md", TrainingMethod),
    ],
)
def test_every_method_has_a_section_with_its_parameters(pages: Mapping[str, str], page: str, union: object) -> None:
    for contract in get_args(get_args(union)[0]):
        section = pages[page].split(f"\n## {contract.model_fields['kind'].default}\n", 1)[1].split("\n## ", 1)[0]
        for name, field in contract.model_fields.items():
            assert name == "kind" or f"| `{field.alias or name}` |" in section, (contract, name)


def test_the_client_has_every_method_error_and_answer(pages: Mapping[str, str]) -> None:
    text = pages["client.md"]
    for name, one in vars(Client).items():
        if not name.startswith("_") and callable(one):
            assert f".. autofunction:: auditcore.client.Client.{name}\n" in f"{text}\n", name
    for module in (client_errors, answers):
        for name, one in vars(module).items():
            if isinstance(one, type) and one.__module__ == module.__name__ and name not in {"ClientError", "Mistake"}:
                assert f"| `{name}` |" in text, name


def test_every_method_names_its_source(pages: Mapping[str, str]) -> None:
    for page, union in (("explainers.md", Explainer), ("checks.md", Check)):
        for contract in get_args(get_args(union)[0]):
            assert f"| {contract.paper} |" in pages[page]


def test_every_metric_has_a_row_with_its_meaning(pages: Mapping[str, str]) -> None:
    for kind, metrics in METRICS.items():
        section = pages["metrics.md"].split(f"\n## {kind}\n", 1)[1].split("\n## ", 1)[0]
        for name, metric in metrics.items():
            meaning = metric.meaning.replace("|", r"\|")
            assert f"| `{name}` | {meaning} | {metric.unit} |" in section


def test_every_source_of_a_preset_is_told(pages: Mapping[str, str]) -> None:
    for name, preset in PRESETS.items():
        section = pages["presets.md"].split(f"\n## {name}\n", 1)[1].split("\n## ", 1)[0]
        assert preset.summary in section
        for setting in preset.settings:
            row = next(line for line in section.splitlines() if line.startswith(f"| `{setting.path}` |"))
            assert row.endswith(f"| {setting.source} | {setting.note} |")


def test_every_setting_is_named_and_no_other(pages: Mapping[str, str]) -> None:
    rows = re.findall(r"^\| `(AUDIT_[A-Z_]+)` \|", pages["settings.md"], re.MULTILINE)
    assert rows == [f"AUDIT_{name.upper()}" for name in Settings.model_fields]


def test_every_error_has_a_row(pages: Mapping[str, str]) -> None:
    named = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.AuditcoreError) and value is not errors.AuditcoreError
    ]
    assert len(named) > 15
    for error in named:
        assert re.search(rf"^\| `{error.code}` \| \d\d\d .* \| `{error.__name__}` \|", pages["errors.md"], re.MULTILINE)


def test_every_public_name_is_listed(pages: Mapping[str, str]) -> None:
    for name in auditcore.__all__:
        assert f"`{name}`" in pages["library.md"] or f"autofunction:: auditcore.{name}\n" in pages["library.md"]


def test_text_is_escaped_and_code_is_not(generator: ModuleType) -> None:
    assert generator._escaped("a < b, `c < d`, <e>") == "a &lt; b, `c < d`, &lt;e>"


@pytest.mark.long
@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Links between pages are checked by it; `make docs` is the same command."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "sphinx",
            "-W",
            "--keep-going",
            "-q",
            "-b",
            "html",
            "-d",
            tmp_path / "trees",
            DOCS,
            tmp_path,
        ],
        capture_output=True,
        check=False,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    pages = [*tmp_path.rglob("*.html")]
    assert len(pages) > 60
    loaded = {
        url
        for page in pages
        for url in re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', page.read_text("utf-8"))
    }
    assert loaded == set()
