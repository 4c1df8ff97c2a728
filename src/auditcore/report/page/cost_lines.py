"""What each check of an audit cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from auditcore.contracts.report import AuditReport

COST_PARTS = {
    "originals": "maps of the unchanged images, which all checks share",
    "repeatability": "maps of stochastic explainers under another draw",
    "measure": "the first wave: quantities of the whole audit",
    "deviation": "a sample of the images once more, exactly",
}
"""Entries of the cost that are no check."""


@dataclass(frozen=True)
class CostLine:
    """What one check paid; `share` is in [0, 1]."""

    name: str
    meaning: str
    forward: int
    backward: int
    share: float


def cost_lines(report: AuditReport) -> Iterator[CostLine]:
    """What every check paid, the most expensive first."""
    for name, cost in sorted(report.cost.checks.items(), key=lambda entry: -entry[1].share):
        yield CostLine(name, COST_PARTS.get(name, ""), cost.forward_images, cost.backward_images, cost.share)
