"""Shared code asks checks questions; it names no single one, so that a new one needs no change there."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditcore.contracts.checks import CHECK_CONTRACTS
from naming_single_methods import violations

ROOT = Path(__file__).parents[3]
OWN = ("src/auditcore/checks/", "src/auditcore/contracts/checks/")
"""Where single checks live."""

PLANS = ("src/auditcore/contracts/presets.py", "src/auditcore/__init__.py")
"""Presets are plans, which name checks, and the public surface lists them all; neither may ask which one it has."""

CLASSES = frozenset(contract.__name__ for contract in CHECK_CONTRACTS)
KINDS = frozenset(contract.model_fields["kind"].default for contract in CHECK_CONTRACTS)


def found_in(source: str, *, may_import: bool = False) -> list[str]:
    return list(
        violations(source, package="auditcore.contracts.checks", classes=CLASSES, kinds=KINDS, may_import=may_import)
    )


def test_shared_code_asks_for_no_single_check() -> None:
    modules = [
        (path, path.relative_to(ROOT).as_posix()) for top in ("src", "service") for path in (ROOT / top).rglob("*.py")
    ]
    shared = [(path, name) for path, name in modules if not name.startswith(OWN)]
    assert len(shared) > 200
    found = [
        f"{name}:{violation}"
        for path, name in shared
        for violation in found_in(path.read_text(), may_import=name in PLANS)
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "from auditcore.contracts.checks import Check, SweepCheck",
        "from auditcore.contracts.checks.deletion import DeletionCheck",
        "found = isinstance(check, (DeletionCheck, RoadCheck))",
        "found = issubclass(contract, checks.SweepCheck)",
        "match check:\n    case EddaCheck(color=color):\n        pass",
        "found = type(check) is RoadCheck",
        "found = check.kind == 'sweep'",
        "found = 'deletion' != check.kind",
        "found = kind in {'sweep', 'ssim_sweep'}",
        "found = entry['kind'] == 'road'",
        "PRICES = {SweepCheck: sweep}",
        "HEADLINES = {'sweep': ('s_pearson',), 'deletion': ('srg',)}",
    ],
)
def test_every_way_to_ask_for_one_is_found(source: str) -> None:
    assert found_in(source)


@pytest.mark.parametrize(
    "source",
    [
        "from auditcore.contracts.checks import CHECK_OF_KIND, Check",
        "found = isinstance(explainer, Random)",
        "found = check.question == 'stability'",
        "found = explainer.kind == 'random'",
        "CHECKS[type(check)].compute(check, group)",
        "ORDER_OF_KIND = {'sensitivity': 'magnitude', 'region': 'signed'}",
    ],
)
def test_other_questions_are_not(source: str) -> None:
    assert found_in(source) == []
