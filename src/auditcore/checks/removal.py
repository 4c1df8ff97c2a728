"""What checks that remove single pixels share: the order of the pixels, and the passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from auditcore.checks.image_group import ImageGroup, Prediction
from auditcore.checks.step_curves import CurveErrors, step_curves
from auditcore.contracts.checks import InsertionDeletionCheck, PixelFlippingCheck, RoadCheck
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.ranking_orders import RankingOrder
from auditcore.metrics.constancy import is_constant
from auditcore.metrics.ranking import rank_descending
from auditcore.metrics.reduction import ranking_relevance
from auditcore.metrics.removal_curves import removal_rank
from auditcore.metrics.rounded_relevance import resolved_relevance

CONSTANT_MAP = "all pixels are equally relevant or the map is not finite, so the map gives no order"


class PixelRanking(NamedTuple):
    """In which order a map removes the pixels of each image.

    Attributes:
        rank: Place of each pixel, 0 for the most relevant; pixels that differ by rounding only are ordered by chance.
        constant: Images whose map gives no order.
    """

    rank: Int[Tensor, "image pixel"]
    constant: Bool[Tensor, " image"]


class RemovalCurves(NamedTuple):
    """What the model says of each image step by step.

    Attributes:
        values: Target probability before the first step and after each.
        predicted: Whether the target is predicted after each step that went through the model; False at the others.
        errors: Of the areas of adaptive curves.
    """

    values: Float[Tensor, "image step"]
    predicted: Bool[Tensor, "image step"]
    errors: CurveErrors | None


def pixel_ranking(
    check: PixelFlippingCheck | InsertionDeletionCheck | RoadCheck,
    group: ImageGroup,
    explainer: Explainer,
    order: RankingOrder,
) -> PixelRanking:
    """Rank the pixels of every image by the map of its original, in one of the orders of `ranking_relevance`."""
    maps = ranking_relevance(group.original(explainer).maps, order, check.reduce).flatten(1)
    ties = group.streams.uniform((maps.shape[1],), f"{check.kind}/ties", device=maps.device)
    constant = is_constant(maps, torch.ones_like(maps, dtype=torch.bool))
    return PixelRanking(removal_rank(rank_descending(resolved_relevance(maps), ties)), constant)


def removal_curve(
    group: ImageGroup,
    before: Float[Tensor, "image channel height width"],
    after: Float[Tensor, "image channel height width"],
    rank: Int[Tensor, "image pixel"],
    counts: Sequence[int],
    first: Float[Tensor, " image"],
    last: Float[Tensor, " image"] | None = None,
    *,
    tolerance: float | None = None,
) -> RemovalCurves:
    """What the model says while the pixels of one picture are replaced by those of another.

    Args:
        group: Model, targets and micro-batches.
        before: Pictures that lose pixels: the originals, or a fill into which the originals are inserted.
        after: What the pixels become.
        rank: Place of each pixel in the order of replacement.
        counts: Pixels replaced after each step, ascending from 0.
        first: Target probability before the first step, known already.
        last: Target probability after the last step, where it is known: when every pixel is replaced.
        tolerance: What the area under each curve may be off by; every step is measured if None.
    """
    height, width = group.pixels.shape[-2:]
    replaced = torch.tensor(counts, device=group.pixels.device)
    predicted = torch.zeros(len(group), len(counts), dtype=torch.bool, device=group.pixels.device)

    def predict(own: Int[Tensor, " copy"], step: Int[Tensor, " copy"]) -> Float[Tensor, " copy"]:
        gone = (rank[own] < replaced[step, None]).view(-1, 1, height, width)
        copies = torch.where(gone, pictures_of(after, own), pictures_of(before, own))
        told = group.judge(group.classifier.logits(copies), group.targets[own])
        predicted[own, step] = told.predicted
        return told.probability

    curves = step_curves(group, first, last, steps=len(counts) - 1, predict=predict, tolerance=tolerance)
    return RemovalCurves(curves.values, predicted, curves.errors)


def mean_color(group: ImageGroup) -> Float[Tensor, "image channel height width"]:
    """The model's mean color on every pixel: zero after normalization. All images share its memory."""
    return group.classifier.mean.expand_as(group.pixels)


def pictures_of(
    pictures: Float[Tensor, "image channel height width"], own: Int[Tensor, " copy"]
) -> Float[Tensor, "#copy channel height width"]:
    """The picture of each copy's image; where all images share one, only that one, which is broadcast."""
    return pictures[:1] if pictures.stride(0) == 0 else pictures[own]


def blurred(
    pixels: Float[Tensor, "image channel height width"], kernel_px: int, sigma_px: float
) -> Float[Tensor, "image channel height width"]:
    """Images under a Gaussian whose kernel shrinks on images too small for it."""
    # reflection needs more than half a kernel of image
    kernel = min(kernel_px, 2 * min(pixels.shape[2:]) - 1)
    picture: Tensor = gaussian_blur(pixels, [kernel, kernel], [sigma_px, sigma_px])
    return picture


def fill_prediction(
    group: ImageGroup, fill: Float[Tensor, "image channel height width"], color: Literal["black", "mean"] | None
) -> Prediction:
    """What the model says of images in which every pixel is filled.

    Args:
        group: Model, targets and micro-batches.
        fill: What the pixels become.
        color: Name of the color that the fill is, so that one pass serves all images; None where each has its own.
    """
    if color is not None:
        return group.color_prediction(color, fill[:1])
    logits = torch.empty(len(group), group.classifier.classes, device=fill.device)

    def work(part: slice) -> None:
        logits[part] = group.classifier.logits(fill[part])

    group.each(len(group), work)
    return group.judge(logits, group.targets)
