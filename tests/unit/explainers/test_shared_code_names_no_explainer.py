"""Shared code asks explainers questions; it names no single one, so that a new one needs no change there."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditcore.contracts.explainers import EXPLAINER_CONTRACTS
from naming_single_methods import violations

ROOT = Path(__file__).parents[3]
OWN = ("src/auditcore/explainers/", "src/auditcore/contracts/explainers/")
"""Where single explainers live."""

PLANS = (
    "src/auditcore/contracts/presets.py",
    "src/auditcore/contracts/training/methods/explanation_driven.py",
    "src/auditcore/__init__.py",
)
"""Presets are plans, which name explainers, the papers' training methods have one by default, and the public surface
lists them all; none may ask which one it has."""

CLASSES = frozenset(contract.__name__ for contract in EXPLAINER_CONTRACTS)
KINDS = frozenset(contract.model_fields["kind"].default for contract in EXPLAINER_CONTRACTS)
WORDS = frozenset({"gradient"})
"""Also a kind of recorded pass."""


def found_in(source: str, *, may_import: bool = False) -> list[str]:
    return list(
        violations(
            source,
            package="auditcore.contracts.explainers",
            classes=CLASSES,
            kinds=KINDS,
            words=WORDS,
            may_import=may_import,
        )
    )


def test_shared_code_asks_for_no_single_explainer() -> None:
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
        "from auditcore.contracts.explainers import Explainer, Random",
        "from auditcore.contracts.explainers.random import Random",
        "found = isinstance(explainer, (Iba, Random))",
        "found = issubclass(contract, explainers.NoiseTunnel)",
        "match explainer:\n    case KernelShap(baseline=baseline):\n        pass",
        "found = type(explainer) is Precomputed",
        "found = explainer.kind == 'random'",
        "found = 'iba' != explainer.kind",
        "found = kind in {'precomputed', 'random'}",
        "found = entry['kind'] == 'noise_tunnel'",
        "found = explainer.kind == 'gradient'",
        "ORDERS = {'iba': 'signed', 'rise': 'signed'}",
    ],
)
def test_every_way_to_ask_for_one_is_found(source: str) -> None:
    assert found_in(source)


@pytest.mark.parametrize(
    "source",
    [
        "from auditcore.contracts.explainers import CONTROL, Explainer",
        "found = isinstance(check, SweepCheck)",
        "found = kind == 'gradient'",
        "found = explainer.is_control",
        "found = check.kind == 'sweep'",
    ],
)
def test_other_questions_are_not(source: str) -> None:
    assert found_in(source) == []
