"""Target probability of every image step by step: over all steps, or over those that the area needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from auditcore.checks.image_group import ImageGroup
from auditcore.contracts.shards import AreaError
from auditcore.contracts.significance import VALUE_DIGITS, rounded
from auditcore.metrics.adaptive_curves import adaptive_curves

Predict = Callable[[Int[Tensor, " copy"], Int[Tensor, " copy"]], Float[Tensor, " copy"]]
"""(image, step) of one micro-batch of copies -> their target probabilities."""


class CurveErrors(NamedTuple):
    """What is known of the errors of areas under adaptive curves.

    Attributes:
        estimated: Two standard errors of each image's area.
        bound: Its largest error if the curve is monotone between measured steps.
        steps_measured: Steps between the ends that went through the model, of all curves.
        steps: Steps that exact curves would have taken.
    """

    estimated: Float[Tensor, " image"]
    bound: Float[Tensor, " image"]
    steps_measured: int
    steps: int

    def stated(self, undefined: Bool[Tensor, " image"]) -> AreaError:
        """The largest of the images that have an area, for the report."""
        estimated, bound = (
            float(errors[~undefined].amax()) if not undefined.all() else 0.0 for errors in (self.estimated, self.bound)
        )
        return AreaError(
            estimated=rounded(estimated, VALUE_DIGITS),
            bound=rounded(bound, VALUE_DIGITS),
            steps_measured=self.steps_measured,
            steps=self.steps,
        )


class StepCurves(NamedTuple):
    """Target probability of each image before the first step and after each; `errors` only of adaptive curves."""

    values: Float[Tensor, "image step"]
    errors: CurveErrors | None = None


def step_curves(
    group: ImageGroup,
    first: Float[Tensor, " image"],
    last: Float[Tensor, " image"] | None,
    *,
    steps: int,
    predict: Predict,
    tolerance: float | None = None,
) -> StepCurves:
    """One curve per image, from what the model says of changed copies.

    Args:
        group: Model and micro-batches.
        first: Target probability before the first step, known already.
        last: Target probability after the last one, where it is known.
        steps: Steps of a curve.
        predict: Makes copies of images at steps, and passes them.
        tolerance: What each area may be off by; every step is measured if None.
    """
    device = first.device

    def evaluate(owner: Int[Tensor, " copy"], step: Int[Tensor, " copy"]) -> Float[Tensor, " copy"]:
        found = torch.empty(len(owner), device=device)

        def work(part: slice) -> None:
            found[part] = predict(owner[part], step[part])

        group.each(len(owner), work)
        return found

    if tolerance is not None:
        every = torch.arange(len(first), device=device)
        last = evaluate(every, torch.full_like(every, steps)) if last is None else last
        curves = adaptive_curves(first, last, steps=steps, evaluate=evaluate, tolerance=tolerance)
        measured = int(curves.measured[:, 1:-1].sum())
        errors = CurveErrors(curves.estimated_error, curves.bound, measured, len(first) * (steps - 1))
        return StepCurves(curves.values, errors)
    values = torch.empty(len(first), steps + 1, device=device)
    values[:, 0] = first
    unknown = torch.arange(1, steps + 1, device=device)
    if last is not None:
        values[:, -1] = last
        unknown = unknown[:-1]
    # images first, so that a micro-batch mixes few images
    owner = torch.arange(len(first), device=device).repeat_interleave(len(unknown))
    step = unknown.repeat(len(first))
    values[owner, step] = evaluate(owner, step)
    return StepCurves(values)


def added(first: CurveErrors | None, second: CurveErrors | None) -> CurveErrors | None:
    """Errors of the sum or difference of two areas: they may all go the same way."""
    if first is None or second is None:
        return None
    return CurveErrors(
        first.estimated + second.estimated,
        first.bound + second.bound,
        first.steps_measured + second.steps_measured,
        first.steps + second.steps,
    )


def averaged(errors: Sequence[CurveErrors | None]) -> CurveErrors | None:
    """Errors of the mean of several areas: they may all go the same way."""
    known = [each for each in errors if each is not None]
    if not known:
        return None
    return CurveErrors(
        torch.stack([each.estimated for each in known]).mean(dim=0),
        torch.stack([each.bound for each in known]).mean(dim=0),
        sum(each.steps_measured for each in known),
        sum(each.steps for each in known),
    )
