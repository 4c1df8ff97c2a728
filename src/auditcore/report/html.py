"""A report as one self-contained page: nothing is fetched, nothing runs, everything prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from auditcore.contracts.metrics import METRICS
from auditcore.contracts.models import DemoModel, FactoryModel, ModelReference, TimmModel, TorchvisionModel
from auditcore.contracts.report import AuditReport, Result
from auditcore.report.charts import Interval, Series, curve_chart, interval_chart
from auditcore.report.color_map import LEVELS, color_of
from auditcore.report.gallery import OPEN_ROWS, gallery_rows
from auditcore.report.table import SummaryColumn, check_kinds, summary_columns, summary_rows

CURVE_STYLES = {
    "pearson_score": ("correlation of maps", "one"),
    "top_k_score": ("top-k overlap", "two"),
    "lerf_auc": ("least relevant first", "one"),
    "morf_auc": ("most relevant first", "two"),
    "probability_score": ("target probability", "reference"),
    "rao_auc": ("random order", "reference"),
}
"""Metric -> legend and style of its curve; curves of other metrics are in the JSON report only."""

COLUMNS_ON_A_PAGE = 6
"""Numbers with their intervals that fit side by side on a printed page."""

COLOR_STEPS = tuple("#{:02x}{:02x}{:02x}".format(*color_of(level / LEVELS)) for level in range(-LEVELS, LEVELS + 1))
"""The legend of the maps, from the most negative value to the most positive."""

VERDICTS = {
    "pass": "Every condition of the policy was met.",
    "warn": "No condition of severity fail was missed, but at least one warning was.",
    "fail": "At least one condition of the policy was missed.",
    "inconclusive": "A condition could not be evaluated, so the audit decides nothing.",
    "not_evaluated": "The request named no policy, so there is nothing to pass or fail.",
}


@dataclass(frozen=True)
class _Panel:
    """Small multiples that belong together: one chart an explainer."""

    title: str
    axis: str
    legend: tuple[tuple[str, str], ...]
    charts: tuple[tuple[str, Markup], ...]


def render_html(report: AuditReport, pictures: Mapping[str, bytes] | None = None) -> str:
    """A page with verdict, conditions, maps, summary, curves, and everything needed to check them.

    Args:
        report: The audit's report.
        pictures: Digest -> bytes of at least those artifacts that `gallery_artifacts` names; they become part of the
            page. Without any there is no gallery.

    Returns:
        A complete HTML 5 document without scripts or external resources. Every text of the report is escaped.
    """
    columns = summary_columns(report)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            gallery=gallery_rows(report, pictures or {}),
            open_rows=OPEN_ROWS,
            color_steps=COLOR_STEPS,
            verdict_meaning=VERDICTS[report.verdict],
            model_name=model_name(report.model.reference),
            columns=columns,
            tables=tuple(_tables(columns)),
            rows=summary_rows(report),
            panels=tuple(_curve_panels(report)),
            forests=tuple(_forests(report)),
            glossary=_glossary(report),
            results=(*report.results, *(row for row in report.controls if row not in report.results)),
        )
    )


def model_name(reference: ModelReference) -> str:
    """What a reader calls the model."""
    match reference:
        case DemoModel():
            return "EfficientNet-Lite0 (demo)"
        case TorchvisionModel() | TimmModel():
            return f"{reference.name} ({reference.kind})"
        case FactoryModel():
            arguments = ", ".join(str(argument) for argument in reference.args)
            return f"{reference.target}({arguments})"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("auditcore.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    return environment


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _tables(columns: Sequence[SummaryColumn]) -> Iterator[tuple[str, list[int]]]:
    """Title and column numbers of every summary table: a check, or a metric of it where the check has many."""
    for check in dict.fromkeys(column.check for column in columns):
        own = [position for position, column in enumerate(columns) if column.check == check]
        if len(own) <= COLUMNS_ON_A_PAGE:
            yield check, own
            continue
        for metric in dict.fromkeys(columns[position].metric for position in own):
            yield f"{check}: {metric}", [position for position in own if columns[position].metric == metric]


def _curve_panels(report: AuditReport) -> Iterator[_Panel]:
    """One panel a check and family, in the order of the plan, with one chart an explainer."""
    units: dict[tuple[str, str | None], str] = {
        (check.label, family.kind): f"{family.kind} ({family.unit})"
        for check in report.plan.checks
        if check.kind == "sweep"
        for family in check.families
    }
    for check in report.plan.checks:
        drawn = [r for r in report.results if r.check == check.label and r.curve and r.metric in CURVE_STYLES]
        for variant in dict.fromkeys(result.variant for result in drawn):
            same = [result for result in drawn if result.variant == variant]
            shared = [result for result in same if result.explainer is None]
            explainers = dict.fromkeys(result.explainer for result in same if result.explainer is not None)
            title = check.label if variant is None else f"{check.label}: {variant}"
            charts = tuple(
                (name, curve_chart(f"{title}: {name}", series))
                for name in explainers
                if (series := _series([*shared, *(result for result in same if result.explainer == name)]))
            )
            legend = tuple(CURVE_STYLES[metric] for metric in dict.fromkeys(result.metric for result in same))
            axis = units.get((check.label, variant), "share of cells deleted")
            if charts:
                yield _Panel(title=title, axis=axis, legend=legend, charts=charts)


def _series(results: Sequence[Result]) -> list[Series]:
    """Curves that have at least one point, the reference first so that it lies below."""
    series = [
        Series(*CURVE_STYLES[result.metric], result.curve)
        for result in results
        if result.curve is not None and any(height is not None for height in result.curve.mean)
    ]
    return sorted(series, key=lambda one: one.style != "reference")


def _forests(report: AuditReport) -> Iterator[tuple[str, str, Markup]]:
    """Title, meaning and chart of the headline metrics: explainers side by side with their intervals."""
    rows = summary_rows(report)
    for position, column in enumerate(summary_columns(report)):
        intervals = [
            Interval(name=row.explainer, mean=cell.mean, ci=cell.ci, muted=row.control)
            for row in rows
            if (cell := row.cells[position]) is not None and cell.mean is not None
        ]
        if intervals:
            title = f"{column.check}: {column.title}"
            yield title, column.meaning, interval_chart(title, intervals)


def _glossary(report: AuditReport) -> list[tuple[str, str, str, str]]:
    """Metric, unit, direction and meaning of every number on the page."""
    used = dict.fromkeys(
        (check_kinds(report)[result.check], result.metric) for result in (*report.results, *report.controls)
    )
    directions = {True: "higher is better", False: "lower is better", None: "neither is better"}
    return [
        (
            metric,
            METRICS[kind][metric].unit,
            directions[METRICS[kind][metric].higher_is_better],
            METRICS[kind][metric].meaning,
        )
        for kind, metric in used
    ]
