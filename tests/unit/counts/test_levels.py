"""Which values of an augmentation are tried: equidistant, with the one that changes nothing among them."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditcore.contracts.augmentations import (
    Augmentation,
    AugmentationContract,
    Brightness,
    Composition,
    Gmic,
    HorizontalFlip,
    Rotate,
    Scale,
)
from auditcore.contracts.checks import SweepCheck
from auditcore.counts.levels import level_grid

PARAMETERS = {Gmic: {"filter": "sharpen"}, Composition: {"first": Rotate(), "second": Brightness()}}
ALL: list[AugmentationContract] = [
    contract.model_validate(PARAMETERS.get(contract, {})) for contract in get_args(get_args(Augmentation)[0])
]


def values(augmentation: AugmentationContract, interval: tuple[float, float], levels: int) -> tuple[float, ...]:
    return SweepCheck.model_construct(levels=levels).values(augmentation, interval)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "augmentation", [one for one in ALL if not one.only_ends], ids=lambda augmentation: augmentation.kind
)
@pytest.mark.parametrize("count", [2, 5, 6, 11])
def test_a_grid_is_equidistant_and_holds_the_identity_once(augmentation: AugmentationContract, count: int) -> None:
    low, high = augmentation.identity - augmentation.bound, augmentation.identity + augmentation.bound / 3
    grid = values(augmentation, (low, high), count)
    assert grid.count(augmentation.identity) == 1
    assert list(grid) == sorted(grid)
    assert (grid[0], grid[-1]) == (low, high)
    assert np.diff(grid).min() > 1e-12
    for value in np.linspace(low, high, count):
        assert min(abs(value - other) for other in grid) < 1e-12


def test_an_odd_symmetric_grid_hits_the_identity_exactly() -> None:
    assert values(Rotate(), (-40, 40), 11)[5] == 0
    assert len(values(Rotate(), (-40, 40), 11)) == 11
    assert values(Scale(), (0.8, 1.2), 5)[2] == 1
    assert len(values(Brightness(), (0, 0.3), 4)) == 4


@pytest.mark.parametrize("count", [2, 11])
def test_an_augmentation_that_exists_only_at_its_ends_has_no_others(count: int) -> None:
    assert values(HorizontalFlip(), (0, 1), count) == (0, 1)
    flipped = Composition(first=HorizontalFlip(), second=Rotate())
    assert values(flipped, (-1, 1), count) == (-1, 0, 1)
    assert values(flipped, (0, 1), count) == (0, 1)


@settings(deadline=None)
@given(st.floats(-300, 300), st.floats(0.001, 600), st.integers(2, 101))
def test_equidistant_values_are_those_of_numpy_to_the_last_digit(low: float, width: float, count: int) -> None:
    # reports print these values, so another way to round them would change a report
    expected = np.linspace(low, low + width, count).tolist()
    assert level_grid((low, low + width), 1e9, count) == (*expected, 1e9)
