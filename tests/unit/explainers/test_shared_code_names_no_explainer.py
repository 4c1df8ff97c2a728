"""Shared code asks explainers questions; it names no single one, so that a new one needs no change there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditcore.contracts.explainers import EXPLAINER_CONTRACTS

ROOT = Path(__file__).parents[3]
OWN = ("src/auditcore/explainers/", "src/auditcore/contracts/explainers/")
"""Where single explainers live."""

PLANS = ("src/auditcore/contracts/presets.py", "src/auditcore/__init__.py")
"""Presets are plans, which name explainers, and the public surface lists them all; neither may ask which one it has."""

CLASSES = frozenset(contract.__name__ for contract in EXPLAINER_CONTRACTS)
KINDS = frozenset(contract.model_fields["kind"].default for contract in EXPLAINER_CONTRACTS)
QUESTIONS = frozenset({"isinstance", "issubclass"})


def names_in(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} | {
        part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)
    }


def asks_for_kind(node: ast.Compare) -> bool:
    """Whether `.kind`, `["kind"]` or a variable `kind` is compared with the kind of an explainer."""
    sides = [node.left, *node.comparators]
    found = {part.value for side in sides for part in ast.walk(side) if isinstance(part, ast.Constant)} & KINDS
    for side in sides:
        if isinstance(side, ast.Attribute) and side.attr == "kind":
            return bool(found)
        if isinstance(side, ast.Subscript) and isinstance(side.slice, ast.Constant) and side.slice.value == "kind":
            return bool(found)
        if isinstance(side, ast.Name) and side.id == "kind":
            return bool(found - {"gradient"})  # also a kind of recorded pass
    return False


def violations(source: str, *, may_import: bool = False) -> Iterator[str]:
    """What in a module knows a single explainer, with its line."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module.startswith("auditcore.contracts.explainers"):
                known = {name.name for name in names} & CLASSES
                if known and not may_import:
                    yield f"{node.lineno}: imports {', '.join(sorted(known))}"
            case ast.Call(func=ast.Name(id=called), args=[_, classes]) if called in QUESTIONS:
                if names_in(classes) & CLASSES:
                    yield f"{node.lineno}: asks {called}"
            case ast.MatchClass(cls=cls) if names_in(cls) & CLASSES:
                yield f"{cls.lineno}: matches a class"
            case ast.Compare() if asks_for_kind(node) or any(
                isinstance(op, ast.Is | ast.IsNot | ast.Eq | ast.NotEq | ast.In | ast.NotIn)
                and names_in(right) & CLASSES
                for op, right in zip(node.ops, node.comparators, strict=True)
            ):
                yield f"{node.lineno}: compares a class or a kind"


def test_shared_code_asks_for_no_single_explainer() -> None:
    modules = [
        (path, path.relative_to(ROOT).as_posix()) for top in ("src", "service") for path in (ROOT / top).rglob("*.py")
    ]
    shared = [(path, name) for path, name in modules if not name.startswith(OWN)]
    assert len(shared) > 200
    found = [
        f"{name}:{violation}"
        for path, name in shared
        for violation in violations(path.read_text(), may_import=name in PLANS)
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
    ],
)
def test_every_way_to_ask_for_one_is_found(source: str) -> None:
    assert list(violations(source))


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
    assert list(violations(source)) == []
