"""Slices: headline metrics by class, and by whether the predicted class changes within a sweep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.report import Slice
from auditcore.contracts.shards import ExplainedClass, Measurement
from auditcore.report.bootstrap import summaries
from auditcore.report.bounds import bounds_of, kinds_of
from auditcore.report.headlines import is_headline

LEAST_IMAGES = 2
"""Smallest number of images of a part; one image has no interval."""

MOST_CLASSES = 20

REPORT_BYTES = 1_100_000
"""Largest size of a report of 100 images."""

BASE_BYTES, ROW_BYTES, VALUE_BYTES, SLICE_BYTES = 105_400, 490, 7.4, 230
"""Size of parts of a report: pictures, images and averages; a result with its curve; a value of an image; a slice.
Measured on the standard plan: 746 results of 100 images take 1.03 MB, estimated at 1.02 MB."""

Values = tuple[float | None, ...]


class Part(NamedTuple):
    """A part of the images with the values of a metric; None for images outside the part."""

    name: str
    measured: Measurement
    values: Values


def slices_of(
    plan: AuditPlan,
    measurements: Mapping[str | None, Sequence[Measurement]],
    targets: Mapping[str | None, Sequence[tuple[ExplainedClass, ...]]],
    digests: Sequence[str],
) -> tuple[Slice, ...]:
    """Compute headline metrics by target class, and for sweeps by whether the predicted class changes.

    Args:
        plan: The full plan.
        measurements: Model -> all its measurements, over the images of the report.
        targets: Model -> explained classes of each of these images; empty for an image that the model did not use.
        digests: Digest of each of these images; images with the same digest count as one.

    Returns:
        Slices, model by model. Both sides of a sweep are listed if each has at least two images. Classes are listed if
        they have at least two images: the 20 most frequent, or as many as fit into a report of about a megabyte; none
        if all images have the same class. A slice has at least two values.
    """
    kinds = kinds_of(plan)
    headlines = {
        model: [one for one in found if not one.control and _is_headline(one, kinds)]
        for model, found in measurements.items()
    }
    parts = _with_values(
        (model, part) for model in headlines for part in _by_flip(plan, headlines[model], measurements[model])
    )
    room = _room(rows=sum(map(len, measurements.values())), images=max(map(len, targets.values())))
    if len(parts) > room:
        return ()
    most = min(MOST_CLASSES, (room - len(parts)) // max(1, sum(map(len, headlines.values()))))
    parts += _with_values(
        (model, part) for model in headlines for part in _by_class(headlines[model], targets[model], most)
    )
    found_means = summaries(
        [part.values for _, part in parts],
        images=digests,
        bounds=[bounds_of(kinds, part.measured.check, part.measured.metric) for _, part in parts],
        seed=plan.seed,
    )
    return tuple(
        Slice(
            part=part.name,
            model=model,
            check=part.measured.check,
            explainer=part.measured.explainer or "",
            metric=part.measured.metric,
            variant=part.measured.variant,
            n=summary.n,
            mean=summary.mean,
            std=summary.std,
            sem=summary.sem,
            ci=summary.ci,
            ci_reason=summary.ci_reason,
        )
        for (model, part), summary in zip(parts, found_means, strict=True)
        if summary.mean is not None
    )


def _room(*, rows: int, images: int) -> int:
    """Return the number of slices that still fit into a report after its results."""
    return max(0, int((REPORT_BYTES - BASE_BYTES - rows * (ROW_BYTES + VALUE_BYTES * images)) // SLICE_BYTES))


def _with_values(parts: Iterable[tuple[str | None, Part]]) -> list[tuple[str | None, Part]]:
    return [(model, part) for model, part in parts if sum(value is not None for value in part.values) >= LEAST_IMAGES]


def _is_headline(measured: Measurement, kinds: Mapping[str, str]) -> bool:
    kind = kinds.get(measured.check)
    return kind is not None and measured.explainer is not None and is_headline(kind, measured.metric, measured.variant)


def _by_class(
    headlines: Sequence[Measurement], targets: Sequence[tuple[ExplainedClass, ...]], most: int
) -> Iterator[Part]:
    counts = Counter(explained.target for own in targets for explained in own)
    if len(counts) < LEAST_IMAGES:
        return  # a part with all images adds nothing
    # if two classes are equally frequent, the lower class index comes first
    ranked = sorted(counts, key=lambda target: (-counts[target], target))
    frequent = [target for target in ranked[:most] if counts[target] >= LEAST_IMAGES]
    for measured in headlines:
        for target in frequent:
            yield Part(f"class={target}", measured, tuple(_of_class(measured, targets, target)))


def _of_class(
    measured: Measurement, targets: Sequence[tuple[ExplainedClass, ...]], target: int
) -> Iterator[float | None]:
    """Yield the value of each image for this class; None if the class is not explained for the image."""
    for position, own in enumerate(targets):
        classes = [explained.target for explained in own]
        if target not in classes:
            yield None
        elif measured.per_target is None:
            yield measured.values[position]
        else:
            yield measured.per_target[position][classes.index(target)]


def _by_flip(plan: AuditPlan, headlines: Sequence[Measurement], measurements: Sequence[Measurement]) -> Iterator[Part]:
    flip_rates = {(check.label, check.flip_rate) for check in plan.checks if check.flip_rate is not None}
    rates = {(one.check, one.variant): one.values for one in measurements if (one.check, one.metric) in flip_rates}
    for measured in headlines:
        flips = rates.get((measured.check, measured.variant), ())
        flipped = tuple(rate is not None and rate > 0 for rate in flips)
        steady = tuple(rate == 0 for rate in flips)
        if min(sum(flipped), sum(steady)) < LEAST_IMAGES:
            continue
        for name, side in (("flipped", flipped), ("not_flipped", steady)):
            values = (value if inside else None for value, inside in zip(measured.values, side, strict=True))
            yield Part(name, measured, tuple(values))
