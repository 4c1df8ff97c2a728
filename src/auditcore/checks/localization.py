"""Localization: positive relevance against the boxes or masks of the target. No passes through the model at all.

Source: Wang et al. 2020 (energy pointing game); Zhang et al. 2021 (effective heat ratio); Won et al. 2025 (box of
the whole mask, filters); Choe et al. 2020 (box of the largest region); Arun et al. 2021 (average precision); Saporta et
al. 2022 (mIoU); Zhang et al. 2018 (pointing game).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from auditcore.checks.image_group import ImageGroup
from auditcore.checks.measuring import measurement
from auditcore.contracts.checks import LocalizationCheck
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.shards import Measurement
from auditcore.images.preprocess import PixelBox
from auditcore.metrics.constancy import is_constant
from auditcore.metrics.localization import (
    average_precision,
    effective_heat_ratio,
    energy_pointing_game,
    hit_rate,
    inside_boxes,
    mask_box,
    mask_iou,
    near_objects,
    wsol_iou,
    wsol_iou_largest_region,
)
from auditcore.metrics.reduction import reduce_channels

NO_BOX = "no box for this class: no box or mask was given, or all of them lie outside the model's input"
CONSTANT_MAP = "the map is constant or not finite, so it points nowhere"
NO_POSITIVE = "no pixel has positive relevance, so the map points nowhere"


def compute(check: LocalizationCheck, group: ImageGroup, _shared: Mapping[str, tuple[float, ...]]) -> list[Measurement]:
    """All metrics of a localization check on one group; several objects of an image count as their union."""
    boxes, inside = _objects(group)
    near = near_objects(inside, check.tolerance_px)
    share = inside.double().mean(dim=(1, 2))
    left_out = _left_out(check, group, share)
    unfit = torch.tensor([row in left_out for row in range(len(group))], device=share.device)
    found = [
        measurement(
            check,
            "box_share",
            share.masked_fill(unfit, torch.nan).cpu(),
            indices=group.indices,
            undefined=left_out,
        )
    ]
    for explainer in group.explained:
        maps = reduce_channels(group.original(explainer).maps.double(), check.reduce)[:, 0]
        constant = is_constant(maps.flatten(1), torch.ones_like(maps.flatten(1), dtype=torch.bool))
        scores = {
            "energy_pointing_game": energy_pointing_game(maps, inside),
            "effective_heat_ratio": effective_heat_ratio(maps, inside),
            "wsol_iou": wsol_iou(maps, boxes, threshold=check.threshold),
            "wsol_iou_largest_region": wsol_iou_largest_region(maps, boxes, threshold=check.threshold),
            "average_precision": average_precision(maps, inside),
            "mask_iou": mask_iou(
                maps, inside, threshold=None if check.mask_threshold == "otsu" else check.mask_threshold
            ),
            "hit_rate": hit_rate(maps, near),
        }
        reasons = {row: CONSTANT_MAP if flat else NO_POSITIVE for row, flat in enumerate(constant.tolist())} | left_out
        found += _measurements(check, group, explainer, scores, reasons, undefined=constant | unfit)
    return found


def _objects(group: ImageGroup) -> tuple[list[tuple[PixelBox, ...]], Bool[Tensor, "image height width"]]:
    """Return the boxes around the objects of each row, and the pixels of the objects; masks come before boxes.

    A box of an object that has a mask would count the corners around it as part of it.
    """
    height, width = group.pixels.shape[2:]
    boxes = list(group.boxes or (() for _ in range(len(group))))
    inside = inside_boxes(boxes, height, width)
    for row, masks in enumerate(group.masks):
        if masks:
            boxes[row] = tuple(mask_box(mask) for mask in masks)
            inside[row] = torch.stack(masks).any(dim=0)
    return boxes, inside.to(group.pixels.device)


def _left_out(check: LocalizationCheck, group: ImageGroup, share: Float[Tensor, " image"]) -> dict[int, str]:
    """Why images do not take part, whatever their map, by position."""
    low, high = check.box_share
    reasons: dict[int, str] = {}
    for row, (covered, probability) in enumerate(zip(share.tolist(), group.probabilities.tolist(), strict=True)):
        if covered == 0:
            reasons[row] = NO_BOX
        # 0 is no filter: a float32 probability may be exactly 0
        elif check.min_probability > 0 and probability <= check.min_probability:
            reasons[row] = f"the target probability is not above {check.min_probability:g}"
        elif not low <= covered <= high:
            reasons[row] = f"the objects cover a share of the image outside [{low:g}, {high:g}]"
    return reasons


def _measurements(
    check: LocalizationCheck,
    group: ImageGroup,
    explainer: Explainer,
    scores: Mapping[str, Float[Tensor, " image"]],
    reasons: Mapping[int, str],
    undefined: Tensor,
) -> list[Measurement]:
    return [
        measurement(
            check,
            metric,
            values.masked_fill(undefined, torch.nan).cpu(),
            indices=group.indices,
            explainer=explainer.label,
            undefined=reasons,
            control=explainer in group.controls,
        )
        for metric, values in scores.items()
    ]
