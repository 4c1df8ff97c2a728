"""A measure against the accuracy of models of one architecture, a line an explainer (Erdem 2021, figure 5.8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from auditcore.contracts.report import AuditReport, MeasureReliability
from auditcore.report.headlines import check_kinds, is_headline, results_by_key
from auditcore.report.page.charts import mark, round_ticks, style_of, svg

WIDTH_PX, HEIGHT_PX = 440, 260
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 56, 14, 12, 42


@dataclass(frozen=True)
class ExplainerLine:
    """The means of one explainer.

    Attributes:
        explainer: Its name.
        points: Accuracy of a model and the mean there, by ascending accuracy.
    """

    explainer: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class PerformanceChart:
    """One measure on the models of one architecture.

    Attributes:
        title: Check, metric and sub-case.
        architecture: What the models have in common.
        reliable: Whether the order of explainers is the same for all of them; None where there is none.
        lines: One an explainer.
        drawing: The chart.
    """

    title: str
    architecture: str
    reliable: bool | None
    lines: tuple[ExplainerLine, ...]
    drawing: Markup


def performance_charts(report: AuditReport) -> tuple[PerformanceChart, ...]:
    """Every headline metric on every architecture of which at least two models differ in accuracy."""
    return tuple(_charts(report))


def _charts(report: AuditReport) -> Iterator[PerformanceChart]:
    kinds = check_kinds(report)
    accuracies = {model.name: model.performance.accuracy for model in report.models}
    means = {key: result.mean for key, result in results_by_key(report).items()}
    for found in report.reliability:
        if found.architecture is None or not is_headline(kinds[found.check], found.metric, found.variant):
            continue
        known = {name: accuracy for name in found.models if (accuracy := accuracies[name]) is not None}
        if len(known) < len(found.models) or len(set(known.values())) < 2:  # noqa: PLR2004 - a line has two ends
            continue
        lines = tuple(
            ExplainerLine(
                explainer,
                tuple(
                    (accuracy, mean)
                    for name, accuracy in known.items()
                    if (mean := means[name, found.check, found.metric, found.variant, explainer]) is not None
                ),
            )
            for explainer in _explainers(found)
        )
        if lines:
            variant = "" if found.variant is None else f" {found.variant}"
            title = f"{found.check}: {found.metric}{variant}"
            drawing = performance_chart(title, found.metric, lines)
            yield PerformanceChart(title, found.architecture, found.reliable, lines, drawing)


def _explainers(found: MeasureReliability) -> list[str]:
    """Those that have a mean on every model, in an order that no model decides."""
    return sorted(next(iter(found.orders.values())))


def performance_chart(title: str, metric: str, lines: Sequence[ExplainerLine]) -> Markup:
    """Means over accuracy, a line with marks for each explainer.

    Args:
        title: Read by screen readers and shown as a tooltip.
        metric: Name of the vertical axis.
        lines: At least one, each with at least one point.

    Returns:
        One `<svg>`; both axes cover the points and need not hold 0, as the order is what is asked about.
    """
    left, right = _ends([x for line in lines for x, _ in line.points])
    low, high = _ends([y for line in lines for _, y in line.points])

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT_PX + (x - left) / (right - left) * (WIDTH_PX - LEFT_PX - RIGHT_PX),
            HEIGHT_PX - BOTTOM_PX - (y - low) / (high - low) * (HEIGHT_PX - TOP_PX - BOTTOM_PX),
        )

    parts = []
    rule = Markup('<line class="grid" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>')
    number = Markup('<text class="tick {}" x="{:.1f}" y="{:.1f}">{:g}</text>')
    for tick in round_ticks(left, right):
        x, floor = at(tick, low)
        parts += [rule.format(x, x, TOP_PX, floor), number.format("middle", x, floor + 14, tick)]
    for tick in round_ticks(low, high):
        wall, y = at(left, tick)
        parts += [rule.format(wall, WIDTH_PX - RIGHT_PX, y, y), number.format("end", wall - 6, y + 3, tick)]
    name = Markup('<text class="tick middle" x="{:.1f}" y="{:.1f}"{}>{}</text>')
    middle = (TOP_PX + HEIGHT_PX - BOTTOM_PX) / 2
    parts.append(name.format((LEFT_PX + WIDTH_PX - RIGHT_PX) / 2, HEIGHT_PX - 10, "", "accuracy of the model"))
    parts.append(name.format(12, middle, Markup(' transform="rotate(-90 12 {:.1f})"').format(middle), metric))
    for position, line in enumerate(lines):
        places = [at(x, y) for x, y in line.points]
        path = "M" + " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(Markup('<path class="line {}" d="{}"/>').format(style_of(position), path))
        for (x, y), (accuracy, mean) in zip(places, line.points, strict=True):
            text = f"{line.explainer}: {mean:.4g} at accuracy {accuracy:.4g}"
            parts.append(mark(position, style_of(position), x, y, text))
    return svg(title, WIDTH_PX, HEIGHT_PX, parts)


def line_mark(position: int, explainer: str) -> Markup:
    """The mark of the line with this number, for a legend."""
    return svg(explainer, 12, 12, [mark(position, style_of(position), 6, 6, explainer)])


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Both ends of an axis, with room around the values."""
    low, high = min(values), max(values)
    # equal values stand in the middle of an axis that is as wide as they are large
    room = 0.08 * (high - low) or max(abs(high), 1e-6)
    return low - room, high + room
