"""A report as a person reads it in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from auditcore.contracts.report import AuditReport, ConditionOutcome, ReportModel
from auditcore.report.deviation import deviation_rows
from auditcore.report.headlines import (
    SummaryCell,
    SummaryColumn,
    SummaryRow,
    SummaryTable,
    interval_text,
    orders_used,
    small_samples,
    summary_columns,
    summary_rows,
    summary_tables,
)
from auditcore.report.outcomes import judged_value, result_name
from auditcore.report.warnings import warning_text

_VERDICT_STYLE = {"pass": "bold green", "warn": "bold yellow", "fail": "bold red", "inconclusive": "bold yellow"}
_STATUS_STYLE = {
    "passed": "green",
    "warned": "yellow",
    "failed": "red",
    "inconclusive": "yellow",
    "not_applicable": "dim",
    "vacuous": "yellow",
    "skipped": "dim",
}
_WANTED = {
    "at_least": ">=",
    "at_most": "<=",
    "min_absolute_change": "change >=",
    "min_relative_change": "relative change >=",
    "non_inferiority_margin": "change >= -",
}
_NUMBER_WIDTH = 16
"""Characters of `0.874 ± 0.012 †` with the gap after it."""
_MOST_MESSAGES = 20
"""Messages of conditions that are printed; one with a pattern may have hundreds."""
_SMALL_SAMPLES = {
    "some": "† fewer than 30 images: the interval may hold the true mean less often than in 95 % of audits",
    "all": "All means rest on fewer than 30 images: intervals may hold them less often than in 95 % of audits",
}


def show_report(report: AuditReport, console: Console) -> None:
    """Print what was audited, tables check by check, the conditions, what was left out, and the verdict."""
    images = report.images
    console.print(f"{images.used} of {images.count} images; mean ± standard error over images", highlight=False)
    if report.stopping is not None:
        console.print(report.stopping.reason, highlight=False, markup=False)
    for model in report.audited_models:
        console.print(_model_line(model), highlight=False, markup=False)
    columns, rows = summary_columns(report), summary_rows(report)
    names = max((len(row.explainer) for row in rows), default=0)
    small = small_samples(report)
    for table in summary_tables(columns, max(1, (console.width - names) // _NUMBER_WIDTH)):
        console.print()
        console.print(Text(table.title, style="bold"))
        console.print(_summary_table(table, columns, rows, marked=small == "some"))
    for sentence in orders_used(report):
        console.print(sentence, style="dim", highlight=False, markup=False)
    if small in _SMALL_SAMPLES:
        console.print(_SMALL_SAMPLES[small], style="dim", highlight=False)
    _show_conditions(report, console)
    _show_gaps(report, console)
    _show_reliability(report, console)
    _show_deviation(report, console)
    _show_remarks(report, console)
    cost = report.cost
    console.print()
    console.print(
        f"{cost.forward_images} images forward and {cost.backward_images} backward through the model"
        f"{'' if len(report.audited_models) == 1 else 's'} in {cost.seconds:.0f} s on {cost.device}",
        style="dim",
        highlight=False,
    )
    _show_verdict(report, console)


def show_outcomes(report: AuditReport, console: Console) -> None:
    """Print the policy, what became of its conditions, and the verdict."""
    if report.policy is not None:
        policy = report.policy
        # a digest is copied, so that it must not break at the end of a line
        console.print(f"policy: {policy.name}@{policy.version}, {policy.digest}", highlight=False, soft_wrap=True)
    _show_conditions(report, console)
    console.print()
    _show_verdict(report, console)


def _show_conditions(report: AuditReport, console: Console) -> None:
    if not report.conditions:
        return
    console.print()
    console.print(_conditions_table(report.conditions))
    open_ = [condition for condition in report.conditions if condition.status != "passed"]
    for condition in open_[:_MOST_MESSAGES]:
        console.print(f"{condition.id}, {result_name(condition)}: {condition.message}", highlight=False, markup=False)
    if len(open_) > _MOST_MESSAGES:
        console.print(f"{len(open_) - _MOST_MESSAGES} more messages are in the report", highlight=False)


def _show_verdict(report: AuditReport, console: Console) -> None:
    console.print(Text.assemble("verdict: ", (report.verdict, _VERDICT_STYLE.get(report.verdict, "bold"))))
    if report.verdict_reason is not None and report.conditions:
        console.print(report.verdict_reason, highlight=False, markup=False)


def _show_remarks(report: AuditReport, console: Console) -> None:
    for warning in report.warnings:
        console.print(f"warning: {warning_text(warning)}", style="yellow", highlight=False, markup=False)
    for note in report.notes:
        console.print(f"note: {note}", highlight=False, markup=False)


def _model_line(model: ReportModel) -> str:
    name = "" if model.name is None else f"{model.name}: "
    untrained = "" if model.trained else ", UNTRAINED weights"
    size = "black box" if model.parameters is None else f"{model.parameters / 1e6:.1f} M parameters"
    return f"{name}{size}, {model.classes} classes{untrained}"


def _summary_table(
    table: SummaryTable, columns: Sequence[SummaryColumn], rows: Sequence[SummaryRow], *, marked: bool
) -> Table:
    shown = Table(box=None, padding=(0, 1, 0, 0))
    shown.add_column("explainer", no_wrap=True)
    for position in table.positions:
        column = columns[position]
        shown.add_column(f"{table.heading(column)} {column.arrow}".rstrip(), justify="right", overflow="fold")
    for model, same in groupby(rows, key=lambda row: row.model):
        if model is not None:
            shown.add_row(Text(model, style="italic"))
        for row in same:
            if row.not_applicable is None:
                cells = (_cell_text(row.cells[position], marked=marked) for position in table.positions)
                shown.add_row(row.explainer, *cells, style=_row_style(row))
    return shown


def _row_style(row: SummaryRow) -> str:
    return "dim" if row.control else ""


def _cell_text(cell: SummaryCell | None, *, marked: bool) -> Text:
    if cell is None:
        return Text("")
    mark = " †" if marked and cell.small_sample and cell.mean is not None else ""
    return Text.assemble((cell.text, "bold" if cell.best else ""), mark)


def _conditions_table(conditions: Iterable[ConditionOutcome]) -> Table:
    table = Table(title="conditions", title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0))
    table.add_column("condition", overflow="fold")
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("images", justify="right")
    table.add_column("wanted", justify="right", no_wrap=True)
    table.add_column("")
    for condition in conditions:
        value, interval = judged_value(condition)
        table.add_row(
            result_name(condition),
            "-" if value is None else f"{value:.3f}",
            interval_text(interval) or "-",
            str(condition.n),
            f"{_WANTED[condition.comparison]} {condition.threshold:g}",
            Text(condition.status.replace("_", " "), style=_STATUS_STYLE[condition.status]),
        )
    return table


def _show_reliability(report: AuditReport, console: Console) -> None:
    """How many metrics order the explainers in the same way for every model, of all models and of each architecture."""
    known: dict[str | None, list[bool]] = {}
    for found in report.reliability:
        if found.reliable is not None:
            known.setdefault(found.architecture, []).append(found.reliable)
    if known:
        console.print()
    for architecture, reliable in known.items():
        models = "every model" if architecture is None else f"every model of {architecture}"
        console.print(
            f"{sum(reliable)} of {len(reliable)} metrics order the explainers in the same way for {models}",
            highlight=False,
            markup=False,
        )


def _show_deviation(report: AuditReport, console: Console) -> None:
    """What faster modes changed: for each check, the metric that moved farthest."""
    if report.deviation is None:
        return
    sample = report.deviation.sample_images
    console.print()
    console.print(f"faster modes: {', '.join(report.deviation.modes)}", highlight=False, markup=False)
    rows = [row for row in deviation_rows(report.deviation) if row.max_abs is not None]
    for check, same in groupby(rows, key=lambda row: row.check):
        worst = max(same, key=lambda row: row.max_abs or 0.0)
        stated = "" if worst.stated is None else f"; stated error {worst.stated:.2g}, {worst.saved:.1f} x fewer steps"
        console.print(
            f"{check}: at most {worst.max_abs:.2g} off exact fp32 on {sample} images ({worst.metric}){stated}",
            highlight=False,
            markup=False,
        )
    if not rows:
        console.print("their deviation from exact fp32 was not measured: no image of the sample could be used")


def _show_gaps(report: AuditReport, console: Console) -> None:
    """What the tables do not show, and why."""
    for model in report.audited_models:
        for explainer, layer in model.layers.items():
            name = explainer if model.name is None else f"{model.name}/{explainer}"
            console.print(f"layer: {name}: {layer}", style="dim", highlight=False, markup=False)
    for explainer, reason in report.not_applicable.items():
        console.print(f"not applicable: {explainer}: {reason}", style="yellow", highlight=False, markup=False)
    for image in report.images.excluded:
        name = image.name or f"image {image.index}"
        console.print(f"excluded: {name}: {image.reason}", style="yellow", highlight=False, markup=False)
