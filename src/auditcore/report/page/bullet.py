"""A condition as a bullet chart: where its value lies, how certain it is, and what is accepted, as inline SVG."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from markupsafe import Markup

from auditcore.contracts.metric import Bounds
from auditcore.report.page.charts import round_ticks, svg

WIDTH_PX, HEIGHT_PX = 320, 70
LEFT_PX, RIGHT_PX = 10, 10
STRIP_TOP_PX, STRIP_BOTTOM_PX = 22, 42
ROOM = 0.18
"""Room on each side of the outermost value, as a share of their distance, so that nothing lies on the edge."""

WANTED_PX = 52
"""Width of the word `wanted` with its arrow."""

Place = Callable[[float], float]
"""From a value to pixels from the left."""


@dataclass(frozen=True)
class Bullet:
    """What a bullet chart shows.

    Attributes:
        mean: The observed mean or change.
        interval: Ends of what the condition is judged by; None at an end without a bound; None without an interval.
        threshold: Where the accepted side begins.
        accepts_above: Whether larger values are accepted.
        random: What a map or an order without knowledge gets; None if that is unknown.
        bounds: Range of the metric; the axis never leaves it.
    """

    mean: float
    interval: tuple[float | None, float | None] | None
    threshold: float
    accepts_above: bool
    random: float | None
    bounds: Bounds


def axis_of(bullet: Bullet) -> tuple[float, float]:
    """Both ends of the axis: around all values with some room, and within the bounds of the metric."""
    ends = [] if bullet.interval is None else [end for end in bullet.interval if end is not None]
    values = [bullet.mean, bullet.threshold, *ends, *([] if bullet.random is None else [bullet.random])]
    low, high = min(values), max(values)
    room = ROOM * (high - low) or 0.2 * abs(high) or 1.0
    lowest, highest = bullet.bounds
    left = low - room if lowest is None or low < lowest else max(low - room, lowest)
    right = high + room if highest is None or high > highest else min(high + room, highest)
    # a value that is threshold and bound at once leaves no accepted side to see
    left = left if left < low or low != bullet.threshold or bullet.accepts_above else left - room / 2
    right = right if right > high or high != bullet.threshold or not bullet.accepts_above else right + room / 2
    return left, right


def bullet_chart(title: str, bullet: Bullet) -> Markup:
    """Draw the interval as a bar, the mean as a mark, the threshold as a line and the accepted side as a shade.

    Args:
        title: Read by screen readers and shown as a tooltip.
        bullet: What to show.

    Returns:
        One `<svg>` of 320 x 70 pixels with an axis of its own.
    """
    low, high = axis_of(bullet)

    def place(value: float) -> float:
        return LEFT_PX + (value - low) / (high - low) * (WIDTH_PX - LEFT_PX - RIGHT_PX)

    return svg(title, WIDTH_PX, HEIGHT_PX, [*_strip(bullet, place), *_values(bullet, place), *_axis(low, high, place)])


def _strip(bullet: Bullet, place: Place) -> Iterator[Markup]:
    """The background: the whole axis, and the accepted side with its name."""
    left, right = float(LEFT_PX), float(WIDTH_PX - RIGHT_PX)
    edge = place(bullet.threshold)
    start, end = (edge, right) if bullet.accepts_above else (left, edge)
    box = Markup('<rect class="{}" x="{:.1f}" y="{}" width="{:.1f}" height="{}"/>')
    height = STRIP_BOTTOM_PX - STRIP_TOP_PX
    yield box.format("strip", left, STRIP_TOP_PX, right - left, height)
    yield box.format("accepted", start, STRIP_TOP_PX, max(0.0, end - start), height)
    # an arrow says which side is accepted to readers who see no color
    anchor, arrow = ("start", "wanted →") if bullet.accepts_above else ("end", "← wanted")
    room = right - edge if bullet.accepts_above else edge - left
    if room < WANTED_PX:
        anchor = "end" if bullet.accepts_above else "start"
        edge = right if bullet.accepts_above else left
    yield Markup('<text class="tick {}" x="{:.1f}" y="12">{}</text>').format(anchor, edge, arrow)


def _values(bullet: Bullet, place: Place) -> Iterator[Markup]:
    """Interval, random control, threshold and mean, the later ones above."""
    middle = (STRIP_TOP_PX + STRIP_BOTTOM_PX) / 2
    if bullet.interval is not None:
        start = float(LEFT_PX) if bullet.interval[0] is None else place(bullet.interval[0])
        end = float(WIDTH_PX - RIGHT_PX) if bullet.interval[1] is None else place(bullet.interval[1])
        # an interval of no width is still seen
        width = max(2.0, end - start)
        yield Markup('<rect class="interval" x="{:.1f}" y="{}" width="{:.1f}" height="10"/>').format(
            start - max(0.0, width - end + start) / 2, middle - 5, width
        )
    line = Markup('<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>')
    if bullet.random is not None:
        x = place(bullet.random)
        yield line.format("random", x, x, STRIP_TOP_PX, STRIP_BOTTOM_PX)
    x = place(bullet.threshold)
    yield line.format("threshold", x, x, STRIP_TOP_PX - 5, STRIP_BOTTOM_PX + 5)
    yield Markup('<circle class="mean" cx="{:.1f}" cy="{}" r="4"/>').format(place(bullet.mean), middle)


def _axis(low: float, high: float, place: Place) -> Iterator[Markup]:
    """Numbers below the strip."""
    for tick in round_ticks(low, high):
        x = place(tick)
        side = "start" if x < LEFT_PX + 8 else "end" if x > WIDTH_PX - RIGHT_PX - 8 else "middle"
        yield Markup('<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(
            x, STRIP_BOTTOM_PX, STRIP_BOTTOM_PX + 4
        )
        # + 0 turns -0 into 0
        yield Markup('<text class="tick {}" x="{:.1f}" y="{}">{:g}</text>').format(
            side, x, HEIGHT_PX - 10, round(tick, 9) + 0
        )
