"""Shards are processed in groups of images, so that memory does not grow with the number of images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import Measurement, SharedSample, worst_error
from auditcore.engine.shared import mergers

GROUP_IMAGES = 16
"""Images whose pixels and maps are in memory together: enough to fill micro-batches of any check. A group of 16 at 224
pixels takes 10 MB, and as much for each explainer."""

LARGE_GROUP_IMAGES = 64
"""The same where a check makes some passes again for every group, such as those of random models."""


PIXELS_A_GROUP = {"cpu": 64 * 224 * 224, "cuda": 512 * 224 * 224}
"""Most pixels of a group, unless one image has more. Everything that is kept of a group grows with them: a sweep keeps
up to 36 bytes per pixel and explainer, and needs about as much again while it compares. On CUDA a group of two of the
first micro-batches of `calibration` fits."""


def group_size(plan: AuditPlan, *, micro_batch: int, shape: InputShape, device: str) -> int:
    """Images of a group: at least a micro-batch, so that none is left half empty, unless they have too many pixels.

    The size does not depend on free memory, so that the same audit gives the same bytes.

    Args:
        plan: Its checks say whether large groups save passes.
        micro_batch: Images per pass.
        shape: Channels, height and width of the model's input.
        device: Type of the model's device.
    """
    images = LARGE_GROUP_IMAGES if any(check.pays_per_group for check in plan.checks) else GROUP_IMAGES
    pixels = PIXELS_A_GROUP.get(device, PIXELS_A_GROUP["cpu"])
    return max(1, min(max(images, micro_batch), pixels // shape.pixels))


def groups_grow(plan: AuditPlan) -> bool:
    """Whether groups may begin small, so that the first can run soon: they may where no check pays for each group."""
    return not any(check.pays_per_group for check in plan.checks)


def shortened_group(size: int, *, image_s: float | None, group_s: float | None) -> int:
    """A size of groups halved until a group takes about as long as it may.

    Args:
        size: Images of a group.
        image_s: Expected seconds of an image; None if nothing was measured.
        group_s: Seconds that a group may take; None if any.
    """
    if image_s is None or group_s is None:
        return size
    while size > 1 and size * image_s > group_s:
        size //= 2
    return size


def join_measurements(groups: Sequence[Sequence[Measurement]]) -> tuple[Measurement, ...]:
    """The measurements of consecutive groups of images as those of one; every group lists the same metrics.

    Raises:
        ValueError: Two groups list different metrics, which is a bug of a check.
    """
    return tuple(_joined(parts) for parts in zip(*groups, strict=True))


def join_samples(plan: AuditPlan, groups: Sequence[Sequence[SharedSample]]) -> tuple[SharedSample, ...]:
    """Contributions of consecutive groups to quantities of the whole audit, in the order of images.

    Rows that an explainer of the plan can merge are merged.
    """
    merge = mergers(plan)
    rows: dict[str, list[Sequence[float]]] = {}
    for sample in chain.from_iterable(groups):
        rows.setdefault(sample.key, []).extend(sample.rows)
    return tuple(SharedSample.of(key, merge[key](found) if key in merge else found) for key, found in rows.items())


def _joined(parts: Sequence[Measurement]) -> Measurement:
    first = parts[0]
    if len(parts) == 1:
        return first
    if len({(part.check, part.explainer, part.metric, part.variant) for part in parts}) > 1:
        msg = f"groups of images list different metrics in the place of {first.check} {first.metric}"
        raise ValueError(msg)
    curves = [part.curve for part in parts if part.curve is not None]
    several = any(part.per_target is not None for part in parts)
    return first.model_copy(
        update={
            "values": tuple(chain.from_iterable(part.values for part in parts)),
            "reasons": {index: reason for part in parts for index, reason in part.reasons.items()},
            "curve": curves[0].model_copy(
                update={"values": tuple(chain.from_iterable(curve.values for curve in curves))}
            )
            if curves
            else None,
            "error": worst_error(part.error for part in parts),
            "per_target": tuple(
                chain.from_iterable(
                    part.per_target if part.per_target is not None else ((value,) for value in part.values)
                    for part in parts
                )
            )
            if several
            else None,
        }
    )
