"""Several models beside one another: means, paired differences, and whether explainers keep their order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from auditcore.contracts.report import AuditReport, Comparison, MeasureReliability, Result
from auditcore.report.headlines import (
    Key,
    SummaryCell,
    SummaryColumn,
    cell_of,
    check_kinds,
    column_of,
    interval_text,
    is_headline,
    listed_explainers,
    number_text,
    results_by_key,
    summary_columns,
)

AGAINST_ON_A_PAGE = 4
"""Columns of differences that fit beside a mean; the JSON report holds all pairs."""


@dataclass(frozen=True)
class Difference:
    """A model minus another one, on the images both have a value for.

    Attributes:
        text: Mean difference with its sign; a dash where no image has both values.
        interval: 95 % paired confidence interval; empty below two images.
        apart: Whether the interval leaves out 0.
        n: Images with both values.
    """

    text: str
    interval: str
    apart: bool
    n: int


@dataclass(frozen=True)
class ModelLine:
    """One model on one metric; `differences` are against the first models, None where there is nothing to compare."""

    model: str
    cell: SummaryCell | None
    differences: tuple[Difference | None, ...]


@dataclass(frozen=True)
class MetricBlock:
    """One metric of all models."""

    column: SummaryColumn
    lines: tuple[ModelLine, ...]


@dataclass(frozen=True)
class ExplainerBlock:
    """All headline metrics of one explainer, or those of model and image where `explainer` is None."""

    explainer: str | None
    control: bool
    metrics: tuple[MetricBlock, ...]


@dataclass(frozen=True)
class ReliabilityRow:
    """How alike the models order the explainers by one metric.

    Attributes:
        check: Name of the check.
        title: Metric and sub-case.
        found: What the contract says; its models by ascending accuracy, where that is known.
        headline: Whether the summary shows this metric.
        orders: Model and its explainers from best to worst, models of the same order together.
    """

    check: str
    title: str
    found: MeasureReliability
    headline: bool
    orders: tuple[tuple[str, str], ...]


def opponents(report: AuditReport) -> tuple[str, ...]:
    """The models that others are compared with on the page, in the order of the request."""
    names = [model.name for model in report.models if model.name is not None]
    return tuple(names[:-1][:AGAINST_ON_A_PAGE])


def side_by_side(report: AuditReport) -> Iterator[ExplainerBlock]:
    """The metrics of model and image, then one block per explainer, controls last; nothing for one model."""
    names = [model.name for model in report.models if model.name is not None]
    numbers = _Numbers(names, opponents(report), results_by_key(report), _comparisons(report))
    explainers = listed_explainers(report)
    of_models = {
        (result.check, result.metric, result.variant): column_of(report, result)
        for result in report.results
        if result.explainer is None
    }
    yield from numbers.explainer(None, tuple(of_models.values()), control=False)
    columns = summary_columns(report)
    for name, explainer in sorted(explainers.items(), key=lambda item: item[1].is_control):
        yield from numbers.explainer(name, columns, control=explainer.is_control)


@dataclass(frozen=True)
class _Numbers:
    """Everything there is to put beside one another."""

    models: Sequence[str]
    against: Sequence[str]
    results: Mapping[Key, Result]
    comparisons: Mapping[tuple[str, str, Key], Comparison]

    def explainer(
        self, explainer: str | None, columns: Sequence[SummaryColumn], *, control: bool
    ) -> Iterator[ExplainerBlock]:
        """The block of an explainer, if any model has a number of it."""
        blocks = [MetricBlock(column, self._lines(column, explainer)) for column in columns]
        known = tuple(block for block in blocks if any(line.cell is not None for line in block.lines))
        if known:
            yield ExplainerBlock(explainer, control, known)

    def _lines(self, column: SummaryColumn, explainer: str | None) -> tuple[ModelLine, ...]:
        return tuple(
            ModelLine(
                model,
                cell_of(self.results, column, model, explainer),
                tuple(
                    self._difference(model, other, (None, column.check, column.metric, column.variant, explainer))
                    if other in self.models[:position]
                    else None
                    for other in self.against
                ),
            )
            for position, model in enumerate(self.models)
        )

    def _difference(self, model: str, other: str, key: Key) -> Difference | None:
        """`model` minus `other`, whichever way round the report has it."""
        if (found := self.comparisons.get((model, other, key))) is not None:
            return _shown(found, sign=1)
        if (found := self.comparisons.get((other, model, key))) is not None:
            return _shown(found, sign=-1)
        return None


def _comparisons(report: AuditReport) -> dict[tuple[str, str, Key], Comparison]:
    return {(c.model, c.against, (None, c.check, c.metric, c.variant, c.explainer)): c for c in report.comparisons}


def _shown(comparison: Comparison, *, sign: int) -> Difference:
    mean, ends = comparison.difference, comparison.ci
    # + 0.0 turns -0.0 into 0.0
    ci = None if ends is None else (min(sign * end for end in ends) + 0.0, max(sign * end for end in ends) + 0.0)
    return Difference(
        text="-" if mean is None else _signed(sign * mean + 0.0),
        interval=interval_text(ci),
        apart=ci is not None and not ci[0] <= 0 <= ci[1],
        n=comparison.n,
    )


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else ''}{number_text(value, abs(value))}"


def reliability_rows(report: AuditReport) -> tuple[ReliabilityRow, ...]:
    """Every metric that several models were asked about, in the order of the report."""
    kinds = check_kinds(report)
    return tuple(
        ReliabilityRow(
            check=found.check,
            title=found.metric if found.variant is None else f"{found.metric} {found.variant}",
            found=found,
            headline=is_headline(kinds[found.check], found.metric, found.variant),
            orders=tuple(_orders(found)),
        )
        for found in report.reliability
    )


def _orders(found: MeasureReliability) -> Iterator[tuple[str, str]]:
    for order in dict.fromkeys(found.orders.values()):
        models = [model for model, own in found.orders.items() if own == order]
        yield ", ".join(models), " > ".join(order)
