"""The policies that come with auditcore: complete, free of advice, and judged on real reports of their presets."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import digits
from auditcore.auditing import audit
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.plan import PresetName, PresetPlan
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.shipped_policies import shipped_policies

POLICIES = {document.name: document for document in shipped_policies()}
PRESETS: list[tuple[str, PresetName]] = [
    ("quick-look", "quick"),
    ("pre-deployment", "standard"),
    ("regression", "quick"),
    ("regression", "standard"),
]

Audit = Callable[[PresetName], AuditReport]


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """Eight digits audited by a preset, once for each preset."""
    folder = tmp_path_factory.mktemp("weights")
    weights = digits.write_weights(folder)
    reports: dict[PresetName, AuditReport] = {}

    def report(preset: PresetName) -> AuditReport:
        if preset not in reports:
            request = AuditRequest(
                model=digits.reference(weights),
                images=ImageBatchReference(digest=f"sha256:{0:064}"),
                plan=PresetPlan(preset=preset, seed=3),
            )
            reports[preset] = audit(request, images=digits.encoded(8), access=digits.access(folder))
        return reports[preset]

    return report
