"""Find explainers and checks whose baseline and fill differ.

A method with a baseline answers "why f(x) rather than f(baseline)"; a removal check asks what remains of f(x) with its
fill. If the two differ, map and score answer different questions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from auditcore.contracts.checks import (
    Check,
    DeletionCheck,
    EddaCheck,
    InsertionDeletionCheck,
    PixelFlippingCheck,
)
from auditcore.contracts.explainers import (
    Ablation,
    Baseline,
    DeepLift,
    Explainer,
    GradientShap,
    IntegratedGradients,
    KernelShap,
    NoiseTunnel,
    Occlusion,
    Tunneled,
)

BLUR_OF_GAMES = "blur of 11 pixels"
"""Fill of the insertion and deletion games toward blur; the baseline `blur` is a Gaussian of 31 pixels."""
FILLS_OF_GAMES = {"zero": "mean", "black": "black", "blur": BLUR_OF_GAMES}
"""Fill of a game, by the second half of its name."""


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
    """Return how baseline and fill differ; None if they match, or if the explainer or the check has none."""
    baseline = _baseline(explainer)
    if baseline is None:
        return None
    others = {place: fill for place, fill in _fills(check).items() if fill != baseline}
    if not others:
        return None
    fills = " and ".join(dict.fromkeys(others.values()))
    return Mismatch(baseline, fills, _remedy(explainer, check, baseline, others))


def _baseline(explainer: Explainer | Tunneled) -> Baseline | None:
    match explainer:
        case IntegratedGradients() | GradientShap() | DeepLift() | Occlusion() | Ablation() | KernelShap():
            return explainer.baseline
        case NoiseTunnel():
            return _baseline(explainer.method)
        case _:
            return None


def _fills(check: Check) -> Mapping[str, str]:
    """Return field or game -> fill of removed pixels, under the name of the equal baseline if there is one.

    Road has no fill: it computes removed pixels from their neighbors.
    """
    match check:
        case DeletionCheck() | PixelFlippingCheck():
            return {"fill": check.fill}
        case EddaCheck():
            return {"color": check.color}
        case InsertionDeletionCheck():
            return {game: FILLS_OF_GAMES[game.partition("_")[2]] for game in check.games}
        case _:
            return {}


def _remedy(explainer: Explainer, check: Check, baseline: Baseline, others: Mapping[str, str]) -> str:
    fills = set(others.values())
    place = "method.baseline" if isinstance(explainer, NoiseTunnel) else "baseline"
    ways = []
    if len(fills) == 1 and fills <= set(get_args(Baseline)):
        ways.append(f"`{place}` of {explainer.label} to `{fills.pop()}`")
    fields = type(check).model_fields
    ways += [
        f"`{field}` of {check.label} to `{baseline}`"
        for field in others
        if field in fields and baseline in get_args(fields[field].annotation)
    ]
    if isinstance(check, InsertionDeletionCheck) and (left := [game for game in check.games if game not in others]):
        ways.append(f"`games` of {check.label} to {', '.join(f'`{game}`' for game in left)}")
    if not ways:
        return f"No baseline is a {BLUR_OF_GAMES}; keep only the games toward zero, and set `{place}` to `mean`."
    return f"Set {', or '.join(ways)}."
