"""Find explainers and checks whose baseline and fill differ.

A method with a baseline answers "why f(x) rather than f(baseline)"; a removal check asks what remains of f(x) with its
fill. If the two differ, map and score answer different questions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from auditcore.contracts.checks import Check
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.explainers.baselines import Baseline


@dataclass(frozen=True)
class Mismatch:
    """A baseline and a fill that differ.

    Attributes:
        baseline: Baseline of the explainer.
        fill: Fill of the check.
        remedy: One sentence that says what to set so that they match.
    """

    baseline: str
    fill: str
    remedy: str


def mismatch(explainer: Explainer, check: Check) -> Mismatch | None:
    """How the baseline of an explainer and the fill of a check differ; None if they match or one has none."""
    baseline = explainer.compared_with
    if baseline is None:
        return None
    others = {place: fill for place, fill in check.fills.items() if fill != baseline}
    if not others:
        return None
    fills = " and ".join(dict.fromkeys(others.values()))
    return Mismatch(baseline, fills, _remedy(explainer, check, baseline, others))


def _remedy(explainer: Explainer, check: Check, baseline: Baseline, others: Mapping[str, str]) -> str:
    fills = set(others.values())
    place = explainer.baseline_field
    ways = []
    if len(fills) == 1 and fills <= set(get_args(Baseline)):
        ways.append(f"`{place}` of {explainer.label} to `{fills.pop()}`")
    ways += check.ways_to_fill(baseline)
    return f"Set {', or '.join(ways)}." if ways else check.advice_on_fills(place)
