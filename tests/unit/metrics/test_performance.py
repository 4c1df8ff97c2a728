"""Accuracy and macro F1: the definitions by hand, scikit-learn, and what cannot be said."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

import reference
from auditcore.errors import ShapeError
from auditcore.metrics.performance import accuracy, macro_f1

PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=60)


@given(PAIRS)
def test_both_are_those_of_the_definition_and_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    predicted, labels = (np.array(column) for column in zip(*pairs, strict=True))
    assert accuracy(predicted, labels) == accuracy_score(labels, predicted)
    assert macro_f1(predicted, labels) == pytest.approx(f1_score(labels, predicted, average="macro"), rel=1e-12)
    assert macro_f1(predicted, labels) == pytest.approx(reference.macro_f1(*zip(*pairs, strict=True)), rel=1e-12)


@given(PAIRS, st.permutations(range(6)), st.randoms())
def test_neither_names_of_classes_nor_order_of_images_matter(
    pairs: list[tuple[int, int]], names: list[int], random: object
) -> None:
    shuffled = [(names[one], names[other]) for one, other in pairs]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    before, after = ([np.array(column) for column in zip(*listed, strict=True)] for listed in (pairs, shuffled))
    assert accuracy(*before) == pytest.approx(accuracy(*after))
    assert macro_f1(*before) == pytest.approx(macro_f1(*after))


def test_rare_classes_weigh_as_much_as_frequent_ones() -> None:
    predicted, labels = np.zeros(10, dtype=int), np.array([0] * 9 + [1])
    assert accuracy(predicted, labels) == 0.9
    # 2 * 9 / 19 and 0
    assert macro_f1(predicted, labels) == pytest.approx(9 / 19)


def test_without_images_there_is_no_performance() -> None:
    nothing = np.array([], dtype=int)
    assert math.isnan(accuracy(nothing, nothing))
    assert math.isnan(macro_f1(nothing, nothing))


@pytest.mark.parametrize("measure", [accuracy, macro_f1])
def test_every_image_has_both(measure: object) -> None:
    with pytest.raises(ShapeError, match="as many predictions as labels"):
        measure(np.array([1, 2]), np.array([1]))  # type: ignore[operator]
