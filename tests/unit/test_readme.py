"""The README names everything that exists, nothing that does not, and its request is accepted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest

import documented
from auditcore.contracts.augmentations import Augmentation
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.metrics import METRICS
from auditcore.contracts.presets import PRESETS
from auditcore.contracts.request import AuditRequest
from auditcore_service.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """Cells of the table below a heading, without its two header lines."""
    section = README.split(f"{heading}\n", 1)[1].split("\n#", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def test_every_explainer_has_a_row_with_its_source() -> None:
    contracts = get_args(get_args(Explainer)[0])
    expected = {(contract.model_fields["kind"].default, contract.paper) for contract in contracts}
    assert {(row[0], row[3]) for row in rows("### Explainers")} == expected


def test_every_metric_has_a_row_with_its_meaning() -> None:
    expected = {
        (kind, name, metric.meaning.replace("|", r"\|"))
        for kind, metrics in METRICS.items()
        for name, metric in metrics.items()
    }
    assert {tuple(row[:3]) for row in rows("### What the numbers mean")} == expected


def test_every_augmentation_has_a_row_with_its_unit() -> None:
    contracts = get_args(get_args(Augmentation)[0])
    expected = {(contract.model_fields["kind"].default, contract.unit) for contract in contracts}
    assert {(row[0], row[2]) for row in rows("### Augmentations")} == expected


def test_every_source_of_a_preset_is_documented() -> None:
    section = README.split("## Presets\n", 1)[1].split("\n## ", 1)[0]
    for name, preset in PRESETS.items():
        part = section.split(f"**`{name}`**", 1)[1].split("\n**`", 1)[0]
        assert preset.summary in part
        told = {
            tuple(cell.strip().strip("`") for cell in (line.split("|")[1], *line.split("|")[3:5]))
            for line in part.splitlines()
            if line.startswith("| `")
        }
        assert told == {(setting.path, setting.source, setting.note) for setting in preset.settings}


def test_every_setting_is_named_and_no_other() -> None:
    named = {name for row in rows("## Running it") for name in re.findall(r"AUDIT_[A-Z_]+", row[0])}
    assert named == {f"AUDIT_{name.upper()}" for name in Settings.model_fields}


def test_walk_through_request_is_accepted() -> None:
    text = README.split("cat > request.json <<'JSON'\n", 1)[1].split("\nJSON\n", 1)[0]
    request = json.loads(text)
    request["images"]["digest"] = "sha256:" + "0" * 64
    AuditRequest.model_validate(request)
    assert {part: request[part] for part in documented.REQUEST} == documented.REQUEST


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_links_lead_to_files(target: str) -> None:
    assert (ROOT / target).exists()


def test_no_gap_is_left() -> None:
    assert "@@" not in README
