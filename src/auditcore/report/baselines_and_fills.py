"""What explainers compare an image with, and what checks put in place of removed pixels: the same, or two questions.

A method with a baseline answers "why f(x) rather than f(baseline)"; a removal check asks what is left of f(x) under its
fill.
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
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.explainers.baselines import Baseline

BLUR_OF_GAMES = "blur of 11 pixels"
"""Fill of the insertion and deletion games towards blur; the baseline `blur` is a Gaussian of 31 pixels."""


FILLS_OF_GAMES = {"zero": "mean", "black": "black", "blur": BLUR_OF_GAMES}
"""What a game removes pixels towards, by the second half of its name."""


@dataclass(frozen=True)
class Mismatch:
    """A baseline and a fill that differ.

    Attributes:
        baseline: What the explainer compares the image with.
        fill: What the check puts in place of removed pixels.
        remedy: What to set so that they match, as a sentence.
    """

    baseline: str
    fill: str
    remedy: str


def mismatch(explainer: Explainer, check: Check) -> Mismatch | None:
    """How the baseline of an explainer and the fill of a check differ; None if they match or one has none."""
    baseline = explainer.compared_with
    if baseline is None:
        return None
    others = {place: fill for place, fill in _fills(check).items() if fill != baseline}
    if not others:
        return None
    fills = " and ".join(dict.fromkeys(others.values()))
    return Mismatch(baseline, fills, _remedy(explainer, check, baseline, others))


def _fills(check: Check) -> Mapping[str, str]:
    """Field or game -> what it puts in place of removed pixels, in the words of baselines where it is one.

    Road has none: it computes removed pixels from their neighbors.
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
    place = explainer.baseline_field
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
        return f"No baseline is a {BLUR_OF_GAMES}; keep the games towards zero only, with `{place}` `mean`."
    return f"Set {', or '.join(ways)}."
