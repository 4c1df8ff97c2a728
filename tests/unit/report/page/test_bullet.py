"""Bullet charts: geometry of interval, threshold, accepted side and random mark."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from auditcore.report.page.bullet import LEFT_PX, RIGHT_PX, WIDTH_PX, Bullet, axis_of, bullet_chart

BULLET = Bullet(mean=0.5, interval=(0.4, 0.7), threshold=0.2, accepts_above=True, random=0.1, bounds=(None, None))


def parts(bullet: Bullet) -> dict[str, ET.Element]:
    """Elements of the chart by their class."""
    return {one.get("class") or "": one for one in ET.fromstring(str(bullet_chart("a < b", bullet))).iter()}  # noqa: S314


def number(element: ET.Element, name: str) -> float:
    return float(element.get(name) or "nan")


def place(bullet: Bullet, value: float) -> float:
    low, high = axis_of(bullet)
    return LEFT_PX + (value - low) / (high - low) * (WIDTH_PX - LEFT_PX - RIGHT_PX)


def test_everything_lies_where_its_value_is() -> None:
    found = parts(BULLET)
    assert number(found["mean"], "cx") == pytest.approx(place(BULLET, 0.5), abs=0.06)
    assert number(found["threshold"], "x1") == pytest.approx(place(BULLET, 0.2), abs=0.06)
    assert number(found["random"], "x1") == pytest.approx(place(BULLET, 0.1), abs=0.06)
    start, width = number(found["interval"], "x"), number(found["interval"], "width")
    assert start == pytest.approx(place(BULLET, 0.4), abs=0.06)
    assert start + width == pytest.approx(place(BULLET, 0.7), abs=0.11)


@pytest.mark.parametrize("above", [True, False])
def test_the_accepted_side_reaches_from_the_threshold_to_the_end(above: bool) -> None:  # noqa: FBT001 - a parameter
    bullet = replace(BULLET, accepts_above=above)
    found = parts(bullet)["accepted"]
    start, end = number(found, "x"), number(found, "x") + number(found, "width")
    ends = (place(bullet, 0.2), WIDTH_PX - RIGHT_PX) if above else (LEFT_PX, place(bullet, 0.2))
    assert (start, end) == pytest.approx(ends, abs=0.11)
    assert ("wanted →" if above else "← wanted") in str(bullet_chart("x", bullet))


def test_an_end_without_a_bound_reaches_the_edge_and_no_interval_draws_none() -> None:
    found = parts(replace(BULLET, interval=(None, 0.7)))["interval"]
    assert number(found, "x") == pytest.approx(LEFT_PX, abs=0.06)
    assert "interval" not in parts(replace(BULLET, interval=None))
    assert "random" not in parts(replace(BULLET, random=None))


def test_the_axis_stays_within_the_bounds_of_the_metric_and_has_a_width() -> None:
    low, high = axis_of(replace(BULLET, bounds=(0.0, 0.75)))
    assert (low, high) == (0.0, 0.75)
    for value in (0.0, 1.0, -3.0):
        same = Bullet(value, (value, value), value, accepts_above=True, random=None, bounds=(None, None))
        low, high = axis_of(same)
        assert low < value < high
    # the accepted side of a threshold at the bound is still seen
    at_the_end = Bullet(1.0, (1.0, 1.0), 1.0, accepts_above=True, random=None, bounds=(0.0, 1.0))
    assert number(parts(at_the_end)["accepted"], "width") > 5


def test_an_interval_of_no_width_is_seen_and_texts_are_escaped() -> None:
    bullet = replace(BULLET, interval=(0.5, 0.5))
    found = parts(bullet)["interval"]
    assert number(found, "width") == 2.0
    assert number(found, "x") + 1 == pytest.approx(place(bullet, 0.5), abs=0.06)
    assert "a &lt; b" in str(bullet_chart("a < b", bullet))
