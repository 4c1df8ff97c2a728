"""Sketches of a shard's maps, so that a report can compare maps of different images."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Collection, Iterable

import numpy as np
import torch

from auditcore.checks.image_group import ImageGroup
from auditcore.contracts.shards import SKETCH_SCALE, MapSketches
from auditcore.devices.transfer import numbers_on
from auditcore.metrics.map_sketches import sketch_maps
from auditcore.metrics.reduction import reduce_channels

CONSTANT_MAP = "the map is constant or not finite, so it has no correlation"


def sketch_originals(group: ImageGroup, images: Collection[int]) -> tuple[MapSketches, ...]:
    """Sketches of the maps of the unchanged images by every explainer and the control; no pass through the model.

    If an image has several targets, the map of the first one counts.

    Args:
        group: Images whose original maps are computed.
        images: Indices of the images to sketch.
    """
    rows = [row for row, index in enumerate(group.indices) if index in images and index not in group.indices[:row]]
    found = []
    for explainer in group.explained:
        encoded: list[str | None] = []
        reasons: dict[int, str] = {}
        if rows:
            maps = group.original(explainer).maps[numbers_on(rows, group.pixels.device, torch.long)]
            # summed in float64: channels that cancel must not leave rounding behind as relevance
            sketches = sketch_maps(reduce_channels(maps.double(), "sum").flatten(1)).cpu().numpy()
            missing = group.without_map(explainer)
            for row, sketch in zip(rows, sketches, strict=True):
                reason = missing.get(row, CONSTANT_MAP if np.isnan(sketch).any() else None)
                encoded.append(None if reason is not None else _encoded(sketch))
                reasons |= {} if reason is None else {group.indices[row]: reason}
        found.append(
            MapSketches(
                explainer=explainer.label,
                images=tuple(group.indices[row] for row in rows),
                sketches=tuple(encoded),
                reasons=reasons,
            )
        )
    return tuple(found)


def join_sketches(groups: Iterable[Iterable[MapSketches]]) -> tuple[MapSketches, ...]:
    """The sketches of consecutive groups of images as those of one, explainer by explainer."""
    parts: dict[str, list[MapSketches]] = defaultdict(list)
    for group in groups:
        for one in group:
            parts[one.explainer].append(one)
    return tuple(
        MapSketches(
            explainer=explainer,
            images=tuple(index for one in own for index in one.images),
            sketches=tuple(sketch for one in own for sketch in one.sketches),
            reasons={index: reason for one in own for index, reason in one.reasons.items()},
        )
        for explainer, own in parts.items()
    )


def _encoded(sketch: np.ndarray) -> str:
    return base64.b64encode(np.rint(sketch * SKETCH_SCALE).astype("<i2").tobytes()).decode()
