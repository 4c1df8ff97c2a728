"""The part of an image that two models see, in the input of each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditcore.contracts.preprocessing import Fit, Preprocessing, Size
from auditcore.images.placement import part_seen_by_both

WHOLE = Preprocessing(resize=32, crop=32)
CENTER = Preprocessing(resize=64, crop=48)
SQUASHED = Preprocessing(resize=40, crop=40, fit="squash")
LETTERBOX = Preprocessing(resize=40, crop=40, fit="letterbox")


@pytest.mark.parametrize(
    ("size", "first", "second", "expected"),
    [
        ((50, 50), WHOLE, WHOLE, ((0, 0, 32, 32), (0, 0, 32, 32))),
        # 48 of 64 pixels are three quarters of the image, 24 of 32
        ((50, 50), WHOLE, CENTER, ((4, 4, 28, 28), (0, 0, 48, 48))),
        # the image is twice as wide as high: a center crop sees half of its width
        ((100, 50), WHOLE, SQUASHED, ((0, 0, 32, 32), (0, 10, 40, 30))),
        # what surrounds the image in a letterbox is no part of it
        ((100, 50), SQUASHED, LETTERBOX, ((0, 0, 40, 40), (10, 0, 30, 40))),
        ((100, 50), LETTERBOX, LETTERBOX, ((10, 0, 30, 40), (10, 0, 30, 40))),
    ],
)
def test_both_see_the_same_part(
    size: tuple[int, int], first: Preprocessing, second: Preprocessing, expected: tuple[tuple[float, ...], ...]
) -> None:
    assert part_seen_by_both(size, first, second) == expected
    assert part_seen_by_both(size, second, first) == expected[::-1]


FITS: st.SearchStrategy[Fit] = st.sampled_from(["shorter", "longer", "squash", "letterbox", "cover"])


@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    fits=st.tuples(FITS, FITS),
    sides=st.tuples(*[st.integers(8, 64)] * 4),
)
def test_there_always_is_such_a_part_and_it_lies_inside_both_inputs(
    size: tuple[int, int], fits: tuple[Fit, Fit], sides: tuple[int, ...]
) -> None:
    models = [
        Preprocessing(resize=resize, crop=Size(height=crop, width=crop + 5), fit=fit, pad=0.5)
        for fit, resize, crop in zip(fits, sides[:2], sides[2:], strict=True)
    ]
    for part, model in zip(part_seen_by_both(size, *models), models, strict=True):
        assert 0 <= part.top < part.bottom <= model.shape.height
        assert 0 <= part.left < part.right <= model.shape.width
