"""One chart of curves for each check and sub-case, in which explainers are switched on and off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from auditcore.contracts.checks import CurveLine
from auditcore.contracts.report import AuditReport, Curve, Result
from auditcore.report.headlines import all_results, listed_explainers
from auditcore.report.page.charts import mark, svg
from auditcore.report.page.curve_chart import Series, curve_chart

COLORS: Final = ("one", "two", "three", "four", "five", "six")
"""CSS classes of colors that differ in hue and lightness."""

SHOWN_FIRST: Final = 4
"""Explainers that are on at first: more curves with their bands cannot be told apart."""


@dataclass(frozen=True)
class Toggle:
    """The switch of one explainer.

    Attributes:
        name: The explainer.
        number: Its number in the audit, from 0.
        sign: Its mark in its color.
        on: Whether its curves are shown at first.
    """

    name: str
    number: int
    sign: Markup
    on: bool


@dataclass(frozen=True)
class CurvePanel:
    """One chart.

    Attributes:
        title: Check and sub-case.
        lines: What each kind of stroke stands for: words and CSS class.
        toggles: Switches; the random control has none, because it is always shown.
        random: Name of the random control; None if it has no curve here.
        chart: The drawing.
    """

    title: str
    lines: tuple[tuple[str, str], ...]
    toggles: tuple[Toggle, ...]
    random: str | None
    chart: Markup


def curve_panels(report: AuditReport, model: str | None) -> Iterator[CurvePanel]:
    """The charts of a model, check by check in the order of the plan."""
    own = [result for result in all_results(report) if result.model == model and _has_points(result.curve)]
    for check in report.plan.checks:
        drawn = [result for result in own if result.check == check.label and result.metric in check.lines]
        # what no order changes, such as a random one, is drawn beside each order
        shared = [result for result in drawn if not check.metrics[result.metric].of_order]
        ordered = [result for result in drawn if check.metrics[result.metric].of_order]
        for variant in dict.fromkeys(result.variant for result in ordered):
            title = check.label if variant is None else f"{check.label}: {variant}"
            together = [*shared, *(result for result in ordered if result.variant == variant)]
            yield _panel(report, title, check.axis_of(variant), check.lines, together)


def _has_points(curve: Curve | None) -> bool:
    return curve is not None and any(height is not None for height in curve.mean)


def _panel(
    report: AuditReport, title: str, axis: str, lines: Mapping[str, CurveLine], results: Sequence[Result]
) -> CurvePanel:
    explainers = listed_explainers(report)
    numbers = {name: number for number, name in enumerate(explainers)}
    controls = {name for name, explainer in explainers.items() if explainer.is_control}
    shown = [name for name in numbers if any(result.explainer == name for result in results)]
    switched = [name for name in shown if name not in controls]
    series = list(_series(results, lines, numbers, controls))
    return CurvePanel(
        title=title,
        lines=tuple(lines[metric] for metric in dict.fromkeys(result.metric for result in results)),
        toggles=tuple(
            Toggle(name, numbers[name], sign_of(name, numbers[name]), on=place < SHOWN_FIRST)
            for place, name in enumerate(switched)
        ),
        random=next((name for name in shown if name in controls), None),
        chart=curve_chart(title, axis, series),
    )


def _series(
    results: Sequence[Result], lines: Mapping[str, CurveLine], numbers: Mapping[str, int], controls: set[str]
) -> Iterator[Series]:
    """Curves without knowledge first, so that they lie below; those that are equal for all explainers only once."""
    seen: set[Curve] = set()
    last: list[Series] = []
    for result in results:
        line, curve = lines[result.metric], result.curve
        if curve is None:
            continue
        of_all = result.explainer is None or line.style == "reference"
        if of_all and curve in seen:
            continue
        if of_all:
            seen.add(curve)
        name = line.legend if result.explainer is None or of_all else f"{result.explainer}: {line.legend}"
        if of_all or result.explainer in controls:
            yield Series(name, "reference", line.style, curve)
        elif result.explainer is not None:
            number = numbers[result.explainer]
            last.append(Series(name, color_of(number), line.style, curve, number))
    yield from last


def color_of(number: int) -> str:
    """CSS class of the explainer with this number; together with its shape it is unique up to 12."""
    return COLORS[number % len(COLORS)]


def sign_of(name: str, number: int) -> Markup:
    """The mark of an explainer in its color, for a legend."""
    return svg(name, 14, 14, [Markup('<g class="{}">{}</g>').format(color_of(number), mark(number, "", 7, 7, name))])
