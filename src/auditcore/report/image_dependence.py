"""The control `image_dependence`: each map is compared with the maps of other images."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import numpy as np

from auditcore.contracts.image_dependence import COMPARED_IMAGES, sketched_images
from auditcore.contracts.metrics import EXPLAINER_METRICS
from auditcore.contracts.report import Result
from auditcore.contracts.shards import SKETCH_SCALE, Measurement
from auditcore.contracts.significance import VALUE_DIGITS, rounded, significant
from auditcore.metrics.map_sketches import mean_correlations
from auditcore.report.measured_model import MeasuredModel

METRIC = "image_dependence"

NOT_COMPARED = f"only the first {COMPARED_IMAGES} different images are compared"
NO_OTHER = "there is no map of a different image to compare with"


def image_dependence(
    model: MeasuredModel, images: Sequence[int], order: Sequence[int] | None = None
) -> tuple[Measurement, ...]:
    """Compute the mean correlation of each image's map with those of other images, channels summed, per explainer.

    The first 32 different images that the model used are compared; copies of a photo count as the same image. The
    values are computed from sketches in the shard results (see `metrics.map_sketches` for their error), so they depend
    neither on shards nor on batches. For maps that depend on the explained class but not on the image, the value is
    only as high as the similarity of maps of different classes.

    Args:
        model: The shards of one model.
        images: Indices of the images of the report.
        order: Indices of all images in the order of the audit; None for the order of the batch.

    Returns:
        One control per explainer; an image that is not compared has a reason instead of a value.
    """
    compared, excluded = _compared(model, images, order)
    labels = dict.fromkeys(one.explainer for shard in model.shards for one in shard.sketches)
    found = []
    for label in labels:
        own = [one for shard in model.shards for one in shard.sketches if one.explainer == label]
        encoded = {
            index: sketch
            for one in own
            for index, sketch in zip(one.images, one.sketches, strict=True)
            if sketch is not None and index in compared
        }
        reasons = {index: reason for one in own for index, reason in one.reasons.items()} | excluded
        values = _values(encoded)
        found.append(_measurement(label, images, values, reasons))
    return tuple(found)


def _compared(
    model: MeasuredModel, images: Sequence[int], order: Sequence[int] | None
) -> tuple[frozenset[int], dict[int, str]]:
    """Return the images that are compared, and the reasons why the others are not."""
    sketched = sketched_images(order)
    rank = {index: position for position, index in enumerate(order or ())}
    compared: list[int] = []
    first: dict[str, int] = {}
    reasons: dict[int, str] = {}
    for index in sorted(images, key=lambda index: rank.get(index, index)):
        record = model.records[index]
        if not record.targets:
            reasons[index] = model.why_missing(index)
            continue
        same = first.setdefault(record.digest or str(index), index)
        if same != index:
            reasons[index] = f"a copy of image {same}; copies count once"
        elif index in sketched and len(compared) < COMPARED_IMAGES:
            compared.append(index)
        else:
            reasons[index] = NOT_COMPARED
    return frozenset(compared), reasons


def _values(encoded: Mapping[int, str]) -> dict[int, float]:
    """Return the value of each image that has a map; empty below two images."""
    if len(encoded) < 2:  # noqa: PLR2004 - one map has no other
        return {}
    ordered = sorted(encoded)
    rows = [np.frombuffer(base64.b64decode(encoded[index]), dtype="<i2") / SKETCH_SCALE for index in ordered]
    return dict(zip(ordered, mean_correlations(np.stack(rows)).tolist(), strict=True))


def _measurement(
    label: str, images: Sequence[int], values: Mapping[int, float], reasons: Mapping[int, str]
) -> Measurement:
    meaning = EXPLAINER_METRICS[METRIC]
    return Measurement(
        check="explainer",
        explainer=label,
        metric=METRIC,
        unit=meaning.unit,
        higher_is_better=meaning.higher_is_better,
        values=tuple(significant(values[index], VALUE_DIGITS) if index in values else None for index in images),
        reasons={index: reasons.get(index, NO_OTHER) for index in images if index not in values},
        control=True,
    )


def of_pairs(result: Result) -> Result:
    """Correct the standard error and interval of a result of `image_dependence`; other results are unchanged.

    The correlation of each pair of images is part of the values of both, so the mean varies almost twice as much as it
    would with independent values: by the jackknife, 2 (n - 1) / (n - 2) times.
    """
    if (result.check, result.metric) != ("explainer", METRIC) or result.mean is None:
        return result
    if result.n <= 2 or result.sem is None or result.ci is None:  # noqa: PLR2004 - one pair has no spread
        return result.model_copy(update={"sem": None, "ci": None})
    wider = 2 * (result.n - 1) / (result.n - 2)
    low, high = (result.mean + wider * (end - result.mean) for end in result.ci)
    return result.model_copy(
        update={"sem": significant(wider * result.sem), "ci": (rounded(max(low, -1.0)), rounded(min(high, 1.0)))}
    )
