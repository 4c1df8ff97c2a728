"""Planted shortcuts: how often marks agree, where they are, counterfactual images, and reliance on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, chisquare

from auditcore.contracts.synthetic import Digits, ObjectsOnScenes, Shortcut
from auditcore.errors import InvalidRequest
from auditcore.synthetic.dataset import SyntheticDataset
from auditcore.synthetic.generation import generate_images
from auditcore.synthetic.marks import draw_mark, mark_color, mark_corner, other_class
from auditcore.synthetic.reliance import NOTHING_TO_FOLLOW, shortcut_reliance

IMAGES = 4000


def marked(agreement: float = 0.9, **changes: Any) -> SyntheticDataset:
    return generate_images(ObjectsOnScenes(images=80, shortcut=Shortcut(agreement=agreement), seed=11, **changes))


@pytest.mark.parametrize("agreement", [0.0, 0.1, 0.5, 0.95, 1.0])
def test_marks_agree_as_often_as_asked(agreement: float) -> None:
    """Within the exact central interval of the binomial distribution that holds 99.9 % of the draws."""
    shortcut = Shortcut(agreement=agreement)
    labels = [number % 10 for number in range(IMAGES)]
    marks = [
        draw_mark(shortcut, label=label, classes=10, seed=1, number=number).predicts
        for number, label in enumerate(labels)
    ]
    agreeing = sum(label == mark for label, mark in zip(labels, marks, strict=True))
    assert binom.ppf(0.0005, IMAGES, agreement) <= agreeing <= binom.ppf(0.9995, IMAGES, agreement)


def test_other_classes_and_corners_are_equally_likely_and_independent_of_the_class() -> None:
    others = [(other_class(4, classes=10, seed=2, number=number) - 4) % 10 for number in range(IMAGES)]
    counts = np.bincount(others, minlength=10)
    assert counts[0] == 0
    assert chisquare(counts[1:]).pvalue > 0.001
    corners = [mark_corner(2, number).value for number in range(IMAGES)]
    assert chisquare([corners.count(corner) for corner in sorted(set(corners))]).pvalue > 0.001
    assert len(set(corners)) == 4


def test_what_agrees_at_a_lower_rate_agrees_at_a_higher_one() -> None:
    low, high = marked(0.6), marked(0.9)
    agree = [
        {number for number, (label, mark) in enumerate(zip(one.labels, one.marks, strict=True)) if label == mark}
        for one in (low, high)
    ]
    assert agree[0] < agree[1]
    assert [image.mark.corner for image in low.images if image.mark] == [
        image.mark.corner for image in high.images if image.mark
    ]


@pytest.mark.parametrize("size_px", [24, 32, 50])
def test_the_region_of_a_mark_is_exactly_what_differs_from_the_image_without(size_px: int) -> None:
    data = marked(size_px=size_px)
    without = data.without_marks()
    assert without.marks == (None,) * 80
    for image, bare in zip(data.images, without.images, strict=True):
        region = image.region("mark")
        assert np.array_equal(region, (image.pixels != bare.pixels).any(axis=2))
        assert region.sum() == round(size_px / 8) ** 2
        assert image.mark is not None
        color = mark_color(image.mark.predicts, 10)
        assert (image.pixels[region] == color).all()
        parts = np.stack([image.region(part) for part in ("object", "scene", "mark")])
        assert (parts.sum(axis=0) == 1).all()
    plain = generate_images(data.parameters.model_copy(update={"shortcut": None}))
    assert np.array_equal(without.pixels(), plain.pixels())


def test_marks_of_different_classes_have_different_colors() -> None:
    for classes in range(2, 13):
        colors = np.array([mark_color(one, classes) for one in range(classes)], dtype=int)
        distances = abs(colors[:, None] - colors[None]).sum(axis=2) + 1000 * np.eye(classes, dtype=int)
        assert distances.min() > 100


def test_counterfactual_images_differ_in_the_mark_only() -> None:
    data = marked()
    own, against = data.with_own_marks(), data.with_contradicting_marks()
    assert own.marks == data.labels
    assert all(mark != label for mark, label in zip(against.marks, data.labels, strict=True))
    disagreeing = [at for at, (mark, label) in enumerate(zip(data.marks, data.labels, strict=True)) if mark != label]
    assert disagreeing
    assert all(against.marks[at] == data.marks[at] for at in disagreeing)
    regions = np.stack([image.region("mark") for image in data.images])
    for other in (own, against, data.with_marks([3] * 80)):
        assert other.labels == data.labels
        assert [image.name for image in other] == [image.name for image in data]
        differs = (other.pixels() != data.pixels()).any(axis=3)
        assert not differs[~regions].any()
        changed = np.array([one != before for one, before in zip(other.marks, data.marks, strict=True)])
        assert np.array_equal(differs.any(axis=(1, 2)), changed)


def test_a_dataset_without_shortcut_can_get_marks_later() -> None:
    plain = generate_images(ObjectsOnScenes(images=80, seed=11))
    assert np.array_equal(plain.with_own_marks().pixels(), marked(1.0).pixels())
    digits = generate_images(Digits(part="test"))
    assert digits.with_own_marks().marks == digits.labels


@pytest.mark.parametrize("marks", [[1], [10] * 80, [-1] * 80])
def test_marks_that_do_not_exist_are_refused(marks: list[int | None]) -> None:
    with pytest.raises(InvalidRequest, match=r"one per image|use 0 to 9") as caught:
        marked().with_marks(marks)
    assert caught.value.field == "marks"


# -- reliance


def slow_reliance(
    before: NDArray[np.float64], after: NDArray[np.float64], labels: Sequence[int], marks: Sequence[int]
) -> tuple[float | None, float, float, float]:
    """By the words of the docstring, image by image."""
    followed, counted, moved, right, right_then = 0, 0, 0.0, 0, 0
    for image, (label, mark) in enumerate(zip(labels, marks, strict=True)):
        first = max(range(before.shape[1]), key=lambda one: before[image, one])
        then = max(range(before.shape[1]), key=lambda one: after[image, one])
        if first != mark:
            counted += 1
            followed += then == mark
        moved += after[image, mark] - before[image, mark]
        right += first == label
        right_then += then == label
    count = len(labels)
    return (followed / counted if counted else None), moved / count, right / count, right_then / count


@given(st.integers(1, 12), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_reliance_is_what_its_words_say(images: int, classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    before, after = random.dirichlet(np.ones(classes), (2, images))
    labels = random.integers(classes, size=images).tolist()
    marks = [(label + int(random.integers(1, classes))) % classes for label in labels]
    found = shortcut_reliance(before, after, labels=labels, marks=marks)
    followed, moved, right, right_then = slow_reliance(before, after, labels, marks)
    assert found.followed == followed if followed is None else found.followed == pytest.approx(followed)
    assert found.moved_probability == pytest.approx(moved)
    assert (found.accuracy_before, found.accuracy_after) == (pytest.approx(right), pytest.approx(right_then))
    assert (found.undefined is None) == (followed is not None)
    assert found.images == images
    # in another order, nothing changes
    turned = shortcut_reliance(before[::-1], after[::-1], labels=labels[::-1], marks=marks[::-1])
    assert turned.model_dump() == pytest.approx(found.model_dump())


def test_a_model_that_follows_every_mark_and_one_that_follows_none() -> None:
    labels, marks = [0, 1, 2], [1, 2, 0]
    truth, by_mark = np.eye(3)[labels], np.eye(3)[marks]
    follows = shortcut_reliance(truth, by_mark, labels=labels, marks=marks)
    assert (follows.followed, follows.moved_probability) == (1, 1)
    assert (follows.accuracy_before, follows.accuracy_after) == (1, 0)
    ignores = shortcut_reliance(truth, truth, labels=labels, marks=marks)
    assert (ignores.followed, ignores.moved_probability, ignores.accuracy_after) == (0, 0, 1)


def test_an_undefined_share_is_null_with_its_reason() -> None:
    found = shortcut_reliance([[0.1, 0.9]], [[0.2, 0.8]], labels=[0], marks=[1])
    assert found.followed is None
    assert found.counted == 0
    assert found.undefined == NOTHING_TO_FOLLOW
    assert found.moved_probability == pytest.approx(-0.1)


def test_half_precision_is_close_enough() -> None:
    exact = np.random.default_rng(0).dirichlet(np.ones(10), 50)
    labels = [number % 10 for number in range(50)]
    marks = [(label + 1) % 10 for label in labels]
    found = shortcut_reliance(exact.astype(np.float16), exact.astype(np.float32), labels=labels, marks=marks)
    assert found.moved_probability == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("changes", "field", "named"),
    [
        ({"before": [0.5, 0.5]}, "before", "image, class"),
        ({"before": np.zeros((0, 2))}, "before", "at least one image"),
        ({"before": [[2.0, -1.0]]}, "before", "softmax"),
        ({"before": [[0.5, 0.4]]}, "before", "sum 0.9"),
        ({"after": [[float("nan"), 0.5]]}, "after", "softmax"),
        ({"after": [[0.5, 0.5], [0.5, 0.5]]}, "after", "same images"),
        ({"labels": [0, 1]}, "labels", "one per image"),
        ({"labels": [2]}, "labels", "use 0 to 1"),
        ({"marks": []}, "marks", "one per image"),
        ({"marks": [None]}, "marks", "is None"),
        ({"marks": [0]}, "marks", "agrees with its label"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(changes: dict[str, Any], field: str, named: str) -> None:
    fitting: dict[str, Any] = {"before": [[0.6, 0.4]], "after": [[0.3, 0.7]], "labels": [0], "marks": [1]}
    assert shortcut_reliance(**fitting).followed == 1
    with pytest.raises(InvalidRequest, match=named) as caught:
        shortcut_reliance(**(fitting | changes))
    assert caught.value.field == field
