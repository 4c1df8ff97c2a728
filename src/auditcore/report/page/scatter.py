"""Robustness against faithfulness: one point per explainer, as inline SVG."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from auditcore.contracts.checks import Check, Question
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.report import AuditReport, Result
from auditcore.report.headlines import listed_explainers, results_by_key, why_not
from auditcore.report.page.charts import mark, round_ticks, svg

WIDTH_PX, HEIGHT_PX = 560, 380
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 52, 16, 12, 44
LABEL_PX = 13
"""Height of a line of text."""

CHARACTER_PX = 7.3
"""Width of a character of `random` in DejaVu Sans at 12 pixels, the widest of the page's usual fonts."""

Place = Callable[[float], float]
"""From data to pixels, along one axis."""

Box = tuple[float, float, float, float]
"""Left, upper, right and lower end, in pixels."""


@dataclass(frozen=True)
class ScatterPoint:
    """One explainer.

    Attributes:
        name: Its name in the report.
        x: Mean of the metric of robustness.
        y: Mean of the metric of faithfulness.
        muted: Drawn in gray, for controls.
        x_ci: 95 % interval of `x`; None without one.
        y_ci: 95 % interval of `y`; None without one.
    """

    name: str
    x: float
    y: float
    muted: bool
    x_ci: tuple[float, float] | None = None
    y_ci: tuple[float, float] | None = None


@dataclass(frozen=True)
class ScatterAxis:
    """What one axis shows.

    Attributes:
        check: Name of the check that gave its numbers.
        metric: Name of their metric.
        parts: Sub-cases that each number is the mean of, such as augmentations; empty if it has none.
    """

    check: str
    metric: str
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scatter:
    """The chart of one model.

    Attributes:
        model: Name of the model in an audit of several.
        robustness: The horizontal axis.
        faithfulness: The vertical axis.
        points: Explainers with both numbers.
        missing: Explainers that ran, but lack one of them.
    """

    model: str | None
    robustness: ScatterAxis
    faithfulness: ScatterAxis
    points: tuple[ScatterPoint, ...]
    missing: tuple[str, ...]


def scatters(report: AuditReport) -> tuple[Scatter, ...]:
    """One chart per model, from the first check of robustness and the first of faithfulness; none without both."""
    robust, faithful = _first(report.plan, "stability"), _first(report.plan, "faithfulness")
    if robust is None or faithful is None:
        return ()
    found = (_scatter(report, one.name, robust, faithful) for one in report.audited_models)
    return tuple(one for one in found if one.points)


def _first(plan: AuditPlan, question: Question) -> Check | None:
    """The first check of a plan that asks this and has a number in the chart."""
    asking = (check for check in plan.checks if check.question == question)
    return next((check for check in asking if check.chart_metric is not None), None)


def _axis(check: Check) -> ScatterAxis:
    return ScatterAxis(check.label, check.chart_metric or "", check.chart_parts)


def _scatter(report: AuditReport, model: str | None, robust: Check, faithful: Check) -> Scatter:
    by_key = results_by_key(report)
    axes = _axis(robust), _axis(faithful)
    points, missing = [], []
    for name, explainer in listed_explainers(report).items():
        if why_not(report, model, name) is not None:
            continue
        across, up = (
            by_key.get((model, axis.check, axis.metric, check.chart_variant(explainer), name))
            for axis, check in zip(axes, (robust, faithful), strict=True)
        )
        point = _point(name, across, up, muted=explainer.is_control)
        if point is None:
            missing.append(name)
        else:
            points.append(point)
    return Scatter(model, *axes, tuple(points), tuple(missing))


def _point(name: str, across: Result | None, up: Result | None, *, muted: bool) -> ScatterPoint | None:
    """An explainer with both results; None if it lacks a mean."""
    if across is None or up is None or across.mean is None or up.mean is None:
        return None
    return ScatterPoint(name, across.mean, up.mean, muted, across.ci, up.ci)


def scatter_chart(title: str, found: Scatter) -> Markup:
    """Points with their names, faithfulness 0 as a line.

    Args:
        title: Read by screen readers and shown as a tooltip.
        found: A chart with at least one point.

    Returns:
        One `<svg>` with both 95 % intervals of each point as a cross. Names that would overlap are moved apart and
        tied to their points by a thin line.
    """
    points = found.points
    left, right = _range([x for point in points for x in (point.x, *(point.x_ci or ()))], least=0.02)
    low, high = _range([0.0, *(y for point in points for y in (point.y, *(point.y_ci or ())))], least=0.02)

    def across(x: float) -> float:
        return LEFT_PX + (x - left) / (right - left) * (WIDTH_PX - LEFT_PX - RIGHT_PX)

    def down(y: float) -> float:
        return HEIGHT_PX - BOTTOM_PX - (y - low) / (high - low) * (HEIGHT_PX - TOP_PX - BOTTOM_PX)

    parts = [*_grid((left, right), (low, high), across, down), *_axis_names(found)]
    parts += [cross for point in points for cross in _cross(point, across, down)]
    parts += _names(points, [(across(point.x), down(point.y)) for point in points])
    for point in points:
        text = f"{point.name}: {found.robustness.metric} {point.x:.3g}, {found.faithfulness.metric} {point.y:.3g}"
        parts.append(mark(0, "muted" if point.muted else "one", across(point.x), down(point.y), text))
    return svg(title, WIDTH_PX, HEIGHT_PX, parts)


def _cross(point: ScatterPoint, across: Place, down: Place) -> Iterator[Markup]:
    """The intervals of both numbers."""
    line = Markup('<line class="cross {}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>')
    style = "muted" if point.muted else "one"
    x, y = across(point.x), down(point.y)
    if point.x_ci is not None:
        yield line.format(style, across(point.x_ci[0]), across(point.x_ci[1]), y, y)
    if point.y_ci is not None:
        yield line.format(style, x, x, down(point.y_ci[0]), down(point.y_ci[1]))


def _range(values: Sequence[float], *, least: float) -> tuple[float, float]:
    """Lower and upper end of an axis, with room around the values."""
    low, high = min(values), max(values)
    room = max(0.08 * (high - low), least)
    return low - room, high + room


def _grid(x_ends: tuple[float, float], y_ends: tuple[float, float], across: Place, down: Place) -> Iterator[Markup]:
    """Grid lines and numbers of both axes; the line of faithfulness 0 is the stronger one."""
    floor, wall = HEIGHT_PX - BOTTOM_PX, WIDTH_PX - RIGHT_PX
    line = Markup('<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>')
    text = Markup('<text class="tick {}" x="{:.1f}" y="{:.1f}">{:g}</text>')
    for tick in round_ticks(*x_ends):
        x = across(tick)
        yield line.format("grid", x, x, TOP_PX, floor)
        yield text.format("middle", x, floor + 14, tick)
    for tick in round_ticks(*y_ends):
        y = down(tick)
        yield line.format("grid" if tick else "zero", LEFT_PX, wall, y, y)
        yield text.format("end", LEFT_PX - 6, y + 3, tick)


def _axis_names(found: Scatter) -> Iterator[Markup]:
    """What both axes show."""
    name = Markup('<text class="tick middle" x="{:.1f}" y="{:.1f}"{}>{}</text>')
    mean = "mean " if found.robustness.parts else ""
    across = f"robustness: {mean}{found.robustness.metric} →"
    yield name.format((LEFT_PX + WIDTH_PX - RIGHT_PX) / 2, HEIGHT_PX - 10, "", across)
    middle = (TOP_PX + HEIGHT_PX - BOTTOM_PX) / 2
    turn = Markup(' transform="rotate(-90 12 {:.1f})"').format(middle)
    yield name.format(12, middle, turn, f"faithfulness: {found.faithfulness.metric} →")


def _names(points: Sequence[ScatterPoint], places: Sequence[tuple[float, float]]) -> Iterator[Markup]:
    """Names beside their points, each at the nearest place that no point and no other name takes."""
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    for point, (x, y) in sorted(zip(points, places, strict=True), key=lambda pair: pair[1][1]):
        boxes = list(_places_for_name(point.name, x, y))
        box = next((one for one in boxes if not any(_overlap(one, other) for other in taken)), boxes[0])
        taken.append(box)
        to_the_left = box[0] < x
        edge, middle = (box[2] if to_the_left else box[0]), (box[1] + box[3]) / 2
        if abs(middle - y) > 1:
            yield Markup('<line class="leader" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(
                x, edge, y, middle
            )
        yield Markup('<text class="name {}{}" x="{:.1f}" y="{:.1f}">{}</text>').format(
            "end" if to_the_left else "start", " muted" if point.muted else "", edge, middle + 4, point.name
        )


def _places_for_name(name: str, x: float, y: float) -> Iterator[Box]:
    """Boxes within the chart, nearest first: right of the point before left of it, then above before below."""
    width = CHARACTER_PX * len(name)
    for line in range(HEIGHT_PX // LABEL_PX):
        for middle in dict.fromkeys((y - line * LABEL_PX, y + line * LABEL_PX)):
            for start in (x + 8, x - 8 - width):
                fits = start >= LEFT_PX and start + width <= WIDTH_PX
                if fits and TOP_PX <= middle <= HEIGHT_PX - BOTTOM_PX:
                    yield start, middle - LABEL_PX / 2, start + width, middle + LABEL_PX / 2
    yield x + 8, y - LABEL_PX / 2, x + 8 + width, y + LABEL_PX / 2


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
