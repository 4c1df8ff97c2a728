"""Images as the page lists them: the worst first, with the values that decide, and what is special about each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from auditcore.contracts.report import AuditReport, ReportModel, Result, UsedImage
from auditcore.contracts.shards import ExplainedClass
from auditcore.report.headlines import Key, check_kinds, is_headline, number_text, results_by_key
from auditcore.report.page.condition_rows import STATUS_WORDS
from auditcore.report.page.embedded_pictures import ImageKey, Pictures
from auditcore.report.worst_images import RankedImage

MOST_COLUMNS: Final = 6
"""Numbers beside name, class and flags that fit on a screen of 1280 pixels."""

COARSE_BELOW_PX: Final = 112
"""Inputs with a smaller longest side are shown with sharp pixels: blurred, a digit of 8 x 8 says nothing."""


@dataclass(frozen=True)
class ImageColumn:
    """A number of every image.

    Attributes:
        title: Metric and sub-case.
        about: Explainer and check, or the average over explainers.
        higher_is_better: Direction; None where neither is better.
        kind: Kind of the check, which with `metric` names the meaning.
        metric: Name of the metric.
    """

    title: str
    about: str
    higher_is_better: bool | None
    kind: str
    metric: str


@dataclass(frozen=True)
class ImageCell:
    """A number of one image; without one, `reason` says why."""

    value: float | None
    reason: str

    @property
    def text(self) -> str:
        """The value with three decimals; a dash without one."""
        return "\N{EN DASH}" if self.value is None else number_text(self.value, abs(self.value))


@dataclass(frozen=True)
class ImageRow:
    """One image.

    Attributes:
        rank: From 1, the worst.
        image: The image.
        name: What a reader calls it.
        explained: The class whose maps are shown, and its probability.
        further: Other classes that were explained.
        misclassified: Whether the predicted class is known and not among its labels.
        flipped: Sweeps in which the predicted class changes, such as `sweep rotate`.
        missing: Headline numbers of explainers that have no value for it.
        cells: One a column.
        worst: Result in which it ranks worst, with its value; empty without one.
        first: Explainer of this result, whose map is shown first; empty if it has none.
        pictures: Its pictures on the page; None where the budget was used, or there are none.
        elsewhere: Whether the report lists pictures that the page does not have.
    """

    rank: int
    image: UsedImage
    name: str
    explained: ExplainedClass
    further: tuple[ExplainedClass, ...]
    misclassified: bool
    flipped: tuple[str, ...]
    missing: int
    cells: tuple[ImageCell, ...]
    worst: str
    first: str
    pictures: Pictures | None
    elsewhere: bool

    @property
    def has_gap(self) -> bool:
        """Whether a headline number or a number of a column is missing."""
        return self.missing > 0 or any(cell.value is None for cell in self.cells)


@dataclass(frozen=True)
class ImageTable:
    """The images of one model.

    Attributes:
        model: Name of the model in an audit of several.
        columns: The numbers.
        left_out: Further results that conditions judge, which have no column.
        rows: The images.
        width: Of the model's input, in pixels.
        height: Of the model's input, in pixels.
        with_pictures: Number of rows with pictures.
    """

    model: str | None
    columns: tuple[ImageColumn, ...]
    left_out: int
    rows: tuple[ImageRow, ...]
    width: int
    height: int
    with_pictures: int

    @property
    def coarse(self) -> bool:
        """Whether pixels are shown as squares."""
        return max(self.width, self.height) < COARSE_BELOW_PX

    @property
    def classes(self) -> tuple[int, ...]:
        """All classes explained, in ascending order."""
        return tuple(sorted({row.explained.target for row in self.rows}))


@dataclass(frozen=True)
class _Values:
    """A column with the value of every image, in the order of `images.items`."""

    column: ImageColumn
    cells: tuple[ImageCell, ...]


def image_tables(
    report: AuditReport, ranked: Mapping[str | None, Sequence[RankedImage]], pictures: Mapping[ImageKey, Pictures]
) -> tuple[ImageTable, ...]:
    """One table a model.

    Args:
        report: The audit's report.
        ranked: Model -> its images, the worst first.
        pictures: Image and model -> its pictures.

    Returns:
        Tables whose columns are the results that conditions judge, open conditions first; without conditions, the
        average over explainers of each headline metric.
    """
    return tuple(_table(report, model, ranked[model.name], pictures) for model in report.audited_models)


def _table(
    report: AuditReport, model: ReportModel, ranked: Sequence[RankedImage], pictures: Mapping[ImageKey, Pictures]
) -> ImageTable:
    values = _values(report, model.name)
    kept = values[:MOST_COLUMNS]
    flips = _flips(report, model.name)
    rows = tuple(_row(report, model, number, one, kept, flips, pictures) for number, one in enumerate(ranked, 1))
    _, height, width = model.preprocessing.shape
    return ImageTable(
        model=model.name,
        columns=tuple(one.column for one in kept),
        left_out=len(values) - len(kept),
        rows=rows,
        width=width,
        height=height,
        with_pictures=sum(row.pictures is not None for row in rows),
    )


def _row(
    report: AuditReport,
    model: ReportModel,
    rank: int,
    one: RankedImage,
    values: Sequence[_Values],
    flips: Mapping[str, Result],
    pictures: Mapping[ImageKey, Pictures],
) -> ImageRow:
    explained, *further = explained_classes(one.image, model.name)
    own = pictures.get((one.image.index, model.name))
    return ImageRow(
        rank=rank,
        image=one.image,
        name=one.image.name or f"image {one.image.index}",
        explained=explained,
        further=tuple(further),
        misclassified=_misclassified(report, model, one.image, explained),
        flipped=tuple(name for name, result in flips.items() if (result.per_image[one.position] or 0) > 0),
        missing=_missing(report, model.name, one.position),
        cells=tuple(column.cells[one.position] for column in values),
        worst="" if one.worst is None or one.value is None else _worst(one.worst, one.value),
        first="" if one.worst is None else one.worst.explainer or "",
        pictures=own,
        elsewhere=own is None and any(artifact.image == one.image.index for artifact in report.artifacts),
    )


def explained_classes(image: UsedImage, model: str | None) -> tuple[ExplainedClass, ...]:
    """What was explained for an image and a model, the first class first."""
    first = ExplainedClass(target=image.target, probability=image.probability)
    by_one = (first, *image.further_targets)
    return by_one if model is None else image.by_model.get(model) or by_one


def _misclassified(report: AuditReport, model: ReportModel, image: UsedImage, explained: ExplainedClass) -> bool:
    """Whether the most probable class is known to be none of the labels.

    Where labels are explained, the report does not say what was predicted. A multi-label model has no single class.
    """
    # only a multi-label model has no accuracy where images with labels were classified
    multi_label = model.performance.n > 0 and model.performance.accuracy is None
    known = report.plan.target in {"predicted", "top"} and not multi_label
    return known and bool(image.labels) and explained.target not in image.labels


def _flips(report: AuditReport, model: str | None) -> dict[str, Result]:
    """Check and sub-case -> how often the predicted class changes there, image by image."""
    rates = {(check.label, check.flip_rate) for check in report.plan.checks if check.flip_rate is not None}
    return {
        " ".join(part for part in (result.check, result.variant) if part): result
        for result in report.results
        if result.model == model and (result.check, result.metric) in rates
    }


def _missing(report: AuditReport, model: str | None, position: int) -> int:
    """Headline numbers of explainers that are not defined for an image."""
    kinds = check_kinds(report)
    return sum(
        result.per_image[position] is None
        for result in report.results
        if result.model == model
        and result.explainer is not None
        and result.n
        and is_headline(kinds[result.check], result.metric, result.variant)
    )


def _worst(result: Result, value: float) -> str:
    parts = (result.metric, result.variant, f"of {result.explainer}" if result.explainer else None)
    return f"{' '.join(part for part in parts if part)} {number_text(value, abs(value))}"


def _values(report: AuditReport, model: str | None) -> list[_Values]:
    """The columns of the conditions, or of the averages if there are none."""
    order = list(STATUS_WORDS)
    results = results_by_key(report)
    judged = sorted((one for one in report.conditions if one.model == model), key=lambda one: order.index(one.status))
    keys = dict.fromkeys((one.model, one.check, one.metric, one.variant, one.explainer) for one in judged)
    found = [_of_result(report, results[key]) for key in keys if key in results]
    return found or list(_averages(report, model, results))


def _of_result(report: AuditReport, result: Result) -> _Values:
    column = ImageColumn(
        title=_title(result.metric, result.variant),
        about=f"{result.explainer or 'model'}, {result.check}",
        higher_is_better=result.higher_is_better,
        kind=check_kinds(report)[result.check],
        metric=result.metric,
    )
    cells = (
        ImageCell(value, "" if value is not None else result.reasons.get(image.index, "no value"))
        for value, image in zip(result.per_image, report.images.items, strict=True)
    )
    return _Values(column, tuple(cells))


def _averages(report: AuditReport, model: str | None, results: Mapping[Key, Result]) -> Iterator[_Values]:
    """Headline metrics averaged over explainers, image by image, as `averages` of the report defines it."""
    kinds = check_kinds(report)
    for average in report.averages:
        if average.model != model or not average.explainers:
            continue
        if not is_headline(kinds[average.check], average.metric, average.variant):
            continue
        own = [
            results[model, average.check, average.metric, average.variant, name].per_image
            for name in average.explainers
        ]
        column = ImageColumn(
            title=_title(average.metric, average.variant),
            about=f"average over {len(own)} explainers, {average.check}",
            higher_is_better=average.higher_is_better,
            kind=kinds[average.check],
            metric=average.metric,
        )
        yield _Values(column, tuple(_average(values) for values in zip(*own, strict=True)))


def _average(values: Sequence[float | None]) -> ImageCell:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return ImageCell(None, f"{len(values) - len(known)} of {len(values)} explainers have no value")
    return ImageCell(sum(known) / len(known), "")


def _title(metric: str, variant: str | None) -> str:
    return metric if variant is None else f"{metric} {variant}"
