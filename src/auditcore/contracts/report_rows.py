"""The results of a report as rows of a table, for files and data frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, final

from auditcore.contracts.report import AuditReport, Result, UsedImage


@final
class ResultRow(NamedTuple):
    """One metric of one explainer under one check, over all distinct images.

    Attributes:
        model: Name of the model in an audit of several; None in an audit of one.
        check: The check, by its name in the plan.
        explainer: The explainer, by its name in the plan; None for a property of model and image only.
        metric: Name of the metric.
        variant: Sub-case, such as `rotate`; None if there is none.
        unit: Unit of the values.
        higher_is_better: Whether larger values are better; None if neither is.
        control: Whether it says how far the other results can be trusted.
        n: Distinct images with a value.
        n_not_applicable: Distinct images without a value.
        mean: Mean over distinct images.
        std: Sample standard deviation over distinct images.
        sem: Standard error of the mean.
        ci_low: Lower end of the 95 % confidence interval of the mean.
        ci_high: Upper end of it.
        floor: Mean of the random control; None where there is none.
        small_sample: Whether n is below 30.
        ranked_by: By what a check ordered the pixels of the maps; None without an order.
        reason: Why `mean` is None: the reasons of the images, each once.
        ci_reason: Why there is no interval.
    """

    model: str | None
    check: str
    explainer: str | None
    metric: str
    variant: str | None
    unit: str
    higher_is_better: bool | None
    control: bool
    n: int
    n_not_applicable: int
    mean: float | None
    std: float | None
    sem: float | None
    ci_low: float | None
    ci_high: float | None
    floor: float | None
    small_sample: bool
    ranked_by: str | None
    reason: str | None
    ci_reason: str | None


@final
class ImageRow(NamedTuple):
    """One value: one metric of one explainer under one check, of one image.

    Attributes:
        model: Name of the model in an audit of several; None in an audit of one.
        check: The check, by its name in the plan.
        explainer: The explainer, by its name in the plan; None for a property of model and image only.
        metric: Name of the metric.
        variant: Sub-case, such as `rotate`; None if there is none.
        unit: Unit of the value.
        control: Whether it says how far the other results can be trusted.
        image: Position of the image in the batch, from 0.
        name: Name of its file; None if unknown.
        label: Its true class; None if unknown, or if there are several.
        labels: All its true classes, separated by a space; None if unknown.
        target: The class that was explained, the first one of several; None for a model that left the image out.
        target_name: Name of this class; None if the report has no names.
        value: The value; None if undefined.
        reason: Why it is undefined.
    """

    model: str | None
    check: str
    explainer: str | None
    metric: str
    variant: str | None
    unit: str
    control: bool
    image: int
    name: str | None
    label: int | None
    labels: str | None
    target: int | None
    target_name: str | None
    value: float | None
    reason: str | None


def result_rows(report: AuditReport) -> Iterator[ResultRow]:
    """One row per result of a report, controls last, in the order of the report."""
    for control, result in _results(report):
        low, high = (None, None) if result.ci is None else result.ci
        yield ResultRow(
            model=result.model,
            check=result.check,
            explainer=result.explainer,
            metric=result.metric,
            variant=result.variant,
            unit=result.unit,
            higher_is_better=result.higher_is_better,
            control=control,
            n=result.n,
            n_not_applicable=result.n_not_applicable,
            mean=result.mean,
            std=result.std,
            sem=result.sem,
            ci_low=low,
            ci_high=high,
            floor=result.floor,
            small_sample=result.small_sample,
            ranked_by=result.ranked_by,
            reason=None if result.mean is not None else "; ".join(dict.fromkeys(result.reasons.values())) or None,
            ci_reason=result.ci_reason,
        )


def image_rows(report: AuditReport) -> Iterator[ImageRow]:
    """One row per result and image of a report: results in the order of `result_rows`, images in that of the batch."""
    names = report.images.class_names
    for control, result in _results(report):
        for image, value in zip(report.images.items, result.per_image, strict=True):
            target = _target(image, result.model)
            yield ImageRow(
                model=result.model,
                check=result.check,
                explainer=result.explainer,
                metric=result.metric,
                variant=result.variant,
                unit=result.unit,
                control=control,
                image=image.index,
                name=image.name,
                label=image.labels[0] if len(image.labels) == 1 else None,
                labels=" ".join(map(str, image.labels)) or None,
                target=target,
                target_name=None if target is None else names.get(target),
                value=value,
                reason=result.reasons.get(image.index),
            )


def _results(report: AuditReport) -> Iterator[tuple[bool, Result]]:
    """Every result, and whether it is a control."""
    yield from ((False, result) for result in report.results)
    yield from ((True, result) for result in report.controls)


def _target(image: UsedImage, model: str | None) -> int | None:
    """The class that a model explained first; None if it left the image out."""
    if model is None or not image.by_model:
        return image.target
    explained = image.by_model.get(model)
    return explained[0].target if explained else None
