"""A report as one self-contained page: nothing is fetched, one script of the package only changes what is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup

from auditcore.contracts.metrics import METRICS
from auditcore.contracts.presets import Preset
from auditcore.contracts.report import AuditReport, ReportModel, Verdict
from auditcore.report.certainty import certainty_sentences
from auditcore.report.decision import decision_sentence
from auditcore.report.deviation import deviation_rows
from auditcore.report.headlines import (
    all_results,
    check_kinds,
    orders_used,
    results_by_key,
    small_samples,
    summary_columns,
    summary_rows,
)
from auditcore.report.model_names import model_name, size_of
from auditcore.report.page.anchors import Anchors, anchors_of
from auditcore.report.page.average_rows import average_blocks, correlation_rows
from auditcore.report.page.condition_rows import condition_rows
from auditcore.report.page.content_policy import CONTENT_POLICY, SCRIPT
from auditcore.report.page.cost_lines import cost_lines
from auditcore.report.page.curve_panels import curve_panels
from auditcore.report.page.embedded_pictures import ReadPicture, embedded_pictures
from auditcore.report.page.environment import environment
from auditcore.report.page.forests import forests, model_marks
from auditcore.report.page.glossary import glossary, meaning_anchor
from auditcore.report.page.image_rows import image_tables
from auditcore.report.page.performance_charts import line_mark, performance_charts
from auditcore.report.page.preset_settings import preset_of, preset_settings
from auditcore.report.page.repeat_commands import request_text
from auditcore.report.page.scatter import Scatter, scatter_chart, scatters
from auditcore.report.page.side_by_side import opponents, reliability_rows, side_by_side
from auditcore.report.page.summary_sections import cell_tints, explainers_run, packed_tables, rows_by_model
from auditcore.report.page.tint import SCALE
from auditcore.report.parts import class_rows, flip_rows
from auditcore.report.warnings import warning_text
from auditcore.report.worst_images import worst_first

VERDICTS: Final[Mapping[Verdict, str]] = {
    "pass": "Every condition of the policy was met.",
    "warn": "Every condition of severity fail was met, but at least one of severity warn was not.",
    "fail": "At least one condition of the policy was missed.",
    "inconclusive": "No condition of severity fail was missed, but the images do not show that all of them are met.",
    "not_evaluated": "The request named no policy, so there is nothing to pass or fail.",
}
"""What a verdict means, for reports of earlier versions, which give no reason."""


def render_html(report: AuditReport, read_picture: ReadPicture | None = None) -> str:
    """A page with decision, conditions, images, explainers, and everything needed to check them.

    Args:
        report: The audit's report.
        read_picture: Bytes of a picture by its digest, None if it is no longer stored. It is asked for the worst images
            first, until the pictures fill their part of the page. Without it there are no pictures.

    Returns:
        A complete HTML 5 document with one script and without external resources, below 3 MB. It shows everything
        without the script too. Every text of the report is escaped.
    """
    return environment().get_template("report.html.j2").render(**_context(report, read_picture))


def _context(report: AuditReport, read_picture: ReadPicture | None) -> dict[str, Any]:
    """Everything that the templates name, section by section."""
    anchors, preset = anchors_of(report), preset_of(report)
    return {
        "report": report,
        "several": len(report.audited_models) > 1,
        "models": tuple((model, model_name(model.reference)) for model in report.audited_models),
        "size_of": size_of,
        "content_policy": CONTENT_POLICY,
        "script": Markup(SCRIPT),  # noqa: S704 # nosec B704 - a file of this package
        "preset": preset,
        **_decision(report, anchors),
        **_images(report, read_picture),
        **_explainers(report),
        **_models(report),
        **_appendix(report, anchors, preset),
    }


def _decision(report: AuditReport, anchors: Anchors) -> dict[str, Any]:
    """The box at the top, the conditions, and what to read with care."""
    return {
        "title": _title(report.audited_models),
        "decision": decision_sentence(report),
        "verdict_meaning": report.verdict_reason or VERDICTS[report.verdict],
        "certainty": certainty_sentences(report),
        "warnings": tuple(warning_text(warning) for warning in report.warnings),
        "explainers_run": explainers_run(report),
        "anchors": anchors,
        "conditions": condition_rows(report, anchors),
    }


def _images(report: AuditReport, read_picture: ReadPicture | None) -> dict[str, Any]:
    """The tables of images with their pictures."""
    ranked = {model.name: worst_first(report, model.name) for model in report.audited_models}
    pictures = {} if read_picture is None else embedded_pictures(report, ranked, read_picture)
    return {
        "image_tables": image_tables(report, ranked, pictures),
        "controls_drawn": frozenset(explainer.label for explainer in report.plan.explainers if explainer.is_control),
    }


def _explainers(report: AuditReport) -> dict[str, Any]:
    """Summary, charts and curves."""
    columns, rows = summary_columns(report), summary_rows(report)
    return {
        "columns": columns,
        "tables": packed_tables(columns),
        "groups": rows_by_model(rows),
        "tints": cell_tints(columns, rows),
        "tint_scale": SCALE,
        "papers": {check.label: check.paper for check in report.plan.checks},
        "leads": {(one.model, one.check, one.metric, one.variant): one for one in report.leads},
        "orders_used": orders_used(report),
        "small_samples": small_samples(report),
        "floors": any(column.floor_shown for column in columns),
        "expectations": any(cell is not None and cell.expected is not None for row in rows for cell in row.cells),
        "scatters": tuple(_drawn(found) for found in scatters(report)),
        "curves": tuple((model.name, tuple(curve_panels(report, model.name))) for model in report.audited_models),
        "forests": tuple(forests(report)),
        "model_marks": tuple(model_marks(report)),
    }


def _models(report: AuditReport) -> dict[str, Any]:
    """Models beside one another, averages, and parts of the images."""
    return {
        "side_by_side": tuple(side_by_side(report)),
        "opponents": opponents(report),
        "averages": average_blocks(report),
        "correlations": tuple(correlation_rows(report)),
        "reliability": reliability_rows(report),
        "performance_charts": performance_charts(report),
        "line_mark": line_mark,
        "classes": class_rows(report),
        "flips": flip_rows(report),
    }


def _appendix(report: AuditReport, anchors: Anchors, preset: Preset | None) -> dict[str, Any]:
    """What is needed to check and to repeat the audit."""
    kinds = check_kinds(report)
    return {
        "kinds": kinds,
        "meaning_anchor": meaning_anchor,
        "glossary": glossary(report),
        "control_results": tuple(one for one in report.controls if METRICS[kinds[one.check]][one.metric].control),
        "meanings": METRICS,
        "deviations": () if report.deviation is None else deviation_rows(report.deviation),
        "costs": tuple(cost_lines(report)),
        "settings": () if preset is None else tuple(preset_settings(preset, report)),
        "results": tuple((anchors.rows[key], result) for key, result in results_by_key(report).items()),
        "pooled": any(result.pooled is not None for result in all_results(report)),
        "request_text": request_text(report),
    }


def _title(models: Sequence[ReportModel]) -> str:
    """What was audited, in a few words: the model, or the names of several."""
    if len(models) == 1:
        return model_name(models[0].reference)
    *first, last = (model.name or "" for model in models)
    return f"{', '.join(first)} and {last}"


def _drawn(found: Scatter) -> tuple[Scatter, Markup]:
    title = "Robustness against faithfulness"
    return found, scatter_chart(title if found.model is None else f"{title}: {found.model}", found)
