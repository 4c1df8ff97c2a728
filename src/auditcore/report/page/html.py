"""A report as one self-contained page: nothing is fetched, nothing runs, everything prints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from auditcore.contracts.checks import CurveLine
from auditcore.contracts.metrics import METRICS
from auditcore.contracts.plan import PresetPlan
from auditcore.contracts.presets import PRESETS, Preset, Setting, plan_for_models, setting_value
from auditcore.contracts.report import AuditReport, ReportModel, Result, Verdict
from auditcore.report.color_map import LEVELS, color_of
from auditcore.report.deviation import deviation_rows
from auditcore.report.headlines import (
    SummaryRow,
    SummaryTable,
    all_results,
    check_kinds,
    orders_used,
    results_by_key,
    small_samples,
    summary_columns,
    summary_rows,
    summary_tables,
    why_not,
)
from auditcore.report.model_names import model_name, size_of
from auditcore.report.page.average_rows import average_blocks, correlation_rows
from auditcore.report.page.charts import Interval, Series, curve_chart, interval_chart, mark, style_of, svg
from auditcore.report.page.gallery import OPEN_ROWS, gallery_rows
from auditcore.report.page.performance_charts import line_mark, performance_charts
from auditcore.report.page.scatter import Scatter, scatter_chart, scatters
from auditcore.report.page.side_by_side import opponents, reliability_rows, side_by_side
from auditcore.report.parts import class_rows, flip_rows
from auditcore.report.warnings import warning_text

COST_PARTS = {
    "originals": "maps of the unchanged images, which all checks share",
    "repeatability": "maps of stochastic explainers under another draw",
    "measure": "the first wave: quantities of the whole audit",
    "deviation": "a sample of the images once more, exactly",
}
"""Entries of the cost that are no check."""

COLUMNS_ON_A_PAGE = 6
"""Numbers with their intervals that fit side by side on a printed page."""

COLOR_STEPS = tuple("#{:02x}{:02x}{:02x}".format(*color_of(level / LEVELS)) for level in range(-LEVELS, LEVELS + 1))
"""The legend of the maps, from the most negative value to the most positive."""

VERDICTS: Mapping[Verdict, str] = {
    "pass": "Every condition of the policy was met.",
    "warn": "Every condition of severity fail was met, but at least one of severity warn was not.",
    "fail": "At least one condition of the policy was missed.",
    "inconclusive": "No condition of severity fail was missed, but the images do not show that all of them are met.",
    "not_evaluated": "The request named no policy, so there is nothing to pass or fail.",
}
"""What a verdict means, for reports of earlier versions, which give no reason."""


@dataclass(frozen=True)
class _Panel:
    """Small multiples that belong together: one chart an explainer."""

    title: str
    axis: str
    legend: tuple[tuple[str, str], ...]
    charts: tuple[tuple[str, Markup], ...]


@dataclass(frozen=True)
class _CostLine:
    """What one check paid; `share` is in [0, 1]."""

    name: str
    meaning: str
    forward: int
    backward: int
    share: float


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
    rows = summary_rows(report)
    preset = _preset(report)
    gallery = gallery_rows(report, pictures or {})
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            size_of=size_of,
            several=len(report.audited_models) > 1,
            models=tuple((model, model_name(model.reference)) for model in report.audited_models),
            preset=preset,
            settings=() if preset is None else tuple(_settings(preset, report)),
            longest_sides={model.name: max(model.preprocessing.shape[1:]) for model in report.audited_models},
            gallery=gallery,
            pictured=len({row.image.index for row in gallery}),
            open_rows=OPEN_ROWS,
            color_steps=COLOR_STEPS,
            verdict_meaning=report.verdict_reason or VERDICTS[report.verdict],
            title=_title(report.audited_models),
            explainers_run=_explainers_run(report),
            papers={check.label: check.paper for check in report.plan.checks},
            columns=columns,
            tables=tuple(_packed(summary_tables(columns, COLUMNS_ON_A_PAGE))),
            groups=_by_model(rows),
            warnings=tuple(warning_text(warning) for warning in report.warnings),
            orders_used=orders_used(report),
            small_samples=small_samples(report),
            floors=any(column.floor_shown for column in columns),
            expectations=any(cell is not None and cell.expected is not None for row in rows for cell in row.cells),
            scatters=tuple(_drawn(found) for found in scatters(report)),
            curves=tuple((model.name, tuple(_curve_panels(report, model.name))) for model in report.audited_models),
            forests=tuple(_forests(report)),
            model_marks=tuple(_model_marks(report)),
            side_by_side=tuple(side_by_side(report)),
            opponents=opponents(report),
            averages=average_blocks(report),
            correlations=tuple(correlation_rows(report)),
            reliability=reliability_rows(report),
            performance_charts=performance_charts(report),
            line_mark=line_mark,
            classes=class_rows(report),
            flips=flip_rows(report),
            deviations=() if report.deviation is None else deviation_rows(report.deviation),
            costs=tuple(_costs(report)),
            glossary=_glossary(report),
            results=tuple(results_by_key(report).values()),
            pooled=any(result.pooled is not None for result in all_results(report)),
        )
    )


def _title(models: Sequence[ReportModel]) -> str:
    """What was audited, in a few words: the model, or the names of several."""
    if len(models) == 1:
        return model_name(models[0].reference)
    *first, last = (model.name or "" for model in models)
    return f"{', '.join(first)} and {last}"


def _preset(report: AuditReport) -> Preset | None:
    """The preset that was asked for, unless another version of it was: what it says of settings would be wrong."""
    if report.upgraded_from is not None:
        return None
    models = [model.name for model in report.models if model.name is not None]
    return next(
        (
            preset
            for name, preset in PRESETS.items()
            if name == report.manifest.preset
            and plan_for_models(PresetPlan(preset=name, seed=report.plan.seed), models) == report.plan
        ),
        None,
    )


def _settings(preset: Preset, report: AuditReport) -> Iterator[tuple[Setting, str]]:
    """Settings of the preset with their values in words, without those of checks that this audit leaves out."""
    known = {f"checks.{check.label}" for check in report.plan.checks}
    for setting in preset.settings:
        of_check = ".".join(setting.path.split(".")[:2])
        if of_check.startswith("checks.") and of_check not in known:
            continue
        value = setting_value(report.plan, setting.path)
        yield setting, ", ".join(str(part) for part in value) if isinstance(value, list) else str(value)


def _explainers_run(report: AuditReport) -> int:
    """Explainers of the plan that could run on at least one model."""
    return sum(
        any(why_not(report, model.name, explainer.label) is None for model in report.audited_models)
        for explainer in report.plan.explainers
    )


def _packed(tables: Iterable[SummaryTable]) -> Iterator[tuple[SummaryTable, ...]]:
    """Neighbors that fit on a page side by side, so that many checks of one number are not as many tables."""
    row: list[SummaryTable] = []
    for table in tables:
        if row and sum(len(one.positions) for one in (*row, table)) > COLUMNS_ON_A_PAGE:
            yield tuple(row)
            row = []
        row.append(table)
    if row:
        yield tuple(row)


def _by_model(rows: Sequence[SummaryRow]) -> tuple[tuple[str | None, tuple[SummaryRow, ...]], ...]:
    return tuple((model, tuple(same)) for model, same in groupby(rows, key=lambda row: row.model))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("auditcore.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    environment.filters["class_name"] = _class_name
    return environment


@pass_context
def _class_name(context: Context, number: int) -> str:
    """A class as the page calls it: its index, and its name if that is known."""
    name = context["report"].images.class_names.get(number)
    return str(number) if name is None else f"{number} ({name})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _curve_panels(report: AuditReport, model: str | None) -> Iterator[_Panel]:
    """One panel per check and augmentation of a model, in the order of the plan, with one chart per explainer."""
    own = [result for result in all_results(report) if result.model == model and result.curve is not None]
    for check in report.plan.checks:
        drawn = [result for result in own if result.check == check.label and result.metric in check.lines]
        # what no order changes, such as a random one, is drawn beside each order
        shared = [result for result in drawn if not check.metrics[result.metric].of_order]
        ordered = [result for result in drawn if check.metrics[result.metric].of_order]
        for variant in dict.fromkeys(result.variant for result in ordered):
            title = check.label if variant is None else f"{check.label}: {variant}"
            together = [*(result for result in ordered if result.variant == variant), *shared]
            panel = _panel(title, check.axis_of(variant), check.lines, together)
            if panel.charts:
                yield panel


def _panel(title: str, axis: str, lines: Mapping[str, CurveLine], results: Sequence[Result]) -> _Panel:
    """Charts of one check and augmentation: curves of model and image are in all of them."""
    shared = [result for result in results if result.explainer is None]
    explainers = dict.fromkeys(result.explainer for result in results if result.explainer is not None)
    charts = tuple(
        (name, curve_chart(f"{title}: {name}", series))
        for name in explainers
        if (series := _series(lines, [*shared, *(result for result in results if result.explainer == name)]))
    )
    legend = tuple(lines[metric] for metric in dict.fromkeys(result.metric for result in results))
    return _Panel(title=title, axis=axis, legend=legend, charts=charts)


def _series(lines: Mapping[str, CurveLine], results: Sequence[Result]) -> list[Series]:
    """Curves that have at least one point, each metric once, the reference first so that it lies below."""
    series = {
        result.metric: Series(*lines[result.metric], result.curve)
        for result in results
        if result.curve is not None and any(height is not None for height in result.curve.mean)
    }
    return sorted(series.values(), key=lambda one: one.style != "reference")


def _forests(report: AuditReport) -> Iterator[tuple[str, str, Markup]]:
    """Title, meaning and chart of the headline metrics: explainers side by side with their intervals."""
    rows = summary_rows(report)
    numbers = {model.name: number for number, model in enumerate(report.audited_models)}
    explainers = list(dict.fromkeys(row.explainer for row in rows))
    together = sorted(rows, key=lambda row: (explainers.index(row.explainer), numbers[row.model]))
    for position, column in enumerate(summary_columns(report)):
        intervals = [
            Interval(row.explainer, cell.mean, cell.ci, muted=row.control, number=numbers[row.model], model=row.model)
            for row in together
            if (cell := row.cells[position]) is not None and cell.mean is not None
        ]
        if intervals:
            title = f"{column.check}: {column.title}"
            yield title, column.meaning, interval_chart(title, intervals)


def _model_marks(report: AuditReport) -> Iterator[tuple[str, Markup]]:
    """Name and mark of every model of several, for the legend of the interval charts."""
    for number, model in enumerate(report.models):
        name = model.name or ""
        yield name, svg(name, 12, 12, [mark(number, style_of(number), 6, 6, name)])


def _drawn(found: Scatter) -> tuple[Scatter, Markup]:
    title = "Robustness against faithfulness"
    return found, scatter_chart(title if found.model is None else f"{title}: {found.model}", found)


def _costs(report: AuditReport) -> Iterator[_CostLine]:
    """What every check paid, the most expensive first."""
    for name, cost in sorted(report.cost.checks.items(), key=lambda entry: -entry[1].share):
        yield _CostLine(name, COST_PARTS.get(name, ""), cost.forward_images, cost.backward_images, cost.share)


def _glossary(report: AuditReport) -> list[tuple[str, str, str, str]]:
    """Metric, unit, direction and meaning of every number on the page."""
    kinds = check_kinds(report)
    used = dict.fromkeys((kinds[result.check], result.metric) for result in all_results(report))
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
