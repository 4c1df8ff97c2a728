"""Colors of the summary: order, direction and contrast."""

from __future__ import annotations

import pytest

from auditcore.report.page.tint import DARK, LIGHT, SCALE, contrast, tint, tints


def channels(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def test_text_on_every_color_has_enough_contrast() -> None:
    for step in range(1001):
        found = tint(step / 1000)
        assert contrast(channels(found.paper), channels(found.ink)) >= 4.5, step


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast(LIGHT, DARK) == pytest.approx(21)
    # a published pair: #767676 on white
    assert contrast((0x76, 0x76, 0x76), LIGHT) == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize(("higher_is_better", "best"), [(True, "c"), (False, "a")])
def test_the_best_value_is_yellow_in_either_direction(higher_is_better: bool, best: str) -> None:  # noqa: FBT001
    found = tints({"a": 1.0, "b": 2.0, "c": 5.0, "d": None}, higher_is_better=higher_is_better)
    assert set(found) == {"a", "b", "c"}
    worst = "a" if best == "c" else "c"
    assert channels(found[best].paper) == SCALE[-1]
    assert channels(found[worst].paper) == SCALE[0]
    share = 0.25 if higher_is_better else 0.75
    assert found["b"] == tint(share)


def test_nothing_is_tinted_where_nothing_is_better() -> None:
    assert tints({"a": 1.0, "b": 2.0}, higher_is_better=None) == {}
    assert tints({"a": 1.0, "b": 1.0}, higher_is_better=True) == {}
    assert tints({"a": None}, higher_is_better=True) == {}
