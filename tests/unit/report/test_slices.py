"""Parts of the images: classes, and images whose prediction withstands the sweep or does not."""

from __future__ import annotations

import numpy as np
import pytest

import reference
from made_up_audits import report, row, shard

CLASSES = {0: [7], 1: [3], 2: [7], 3: [3], 4: [5], 5: [7]}
VALUES = (0.1, 0.25, 0.3, None, 0.5, 0.9)


def test_a_class_has_the_mean_of_its_images() -> None:
    rows = report(shard(None, CLASSES, row("gradient", VALUES))).slices
    # class 5 has one image; class 3 two, but only one value
    (only,) = rows
    mean, std, sem = reference.mean_std_sem([0.1, 0.3, 0.9])
    assert (only.part, only.explainer, only.metric, only.n) == ("class=7", "gradient", "srg", 3)
    assert (only.mean, only.std, only.sem) == pytest.approx((mean, std, sem), rel=1e-6)
    # Student's t, and no gain is above 1
    assert mean + 4.302653 * sem > 1
    assert only.ci == pytest.approx((mean - 4.302653 * sem, 1), rel=1e-6)


def test_a_single_class_is_not_listed() -> None:
    assert report(shard(None, {i: [7] for i in range(6)}, row("gradient", [0.5] * 6))).slices == ()


def test_each_of_several_classes_of_an_image_has_its_own_value() -> None:
    shards = [
        shard(None, {0: [7, 2], 1: [2, 7]}, row("gradient", [0.3, 0.7], per_target=((0.1, 0.5), (0.6, 0.8)))),
        shard(None, {2: [7]}, row("gradient", [0.25])),
    ]
    by_class = {part.part: (part.n, part.mean) for part in report(*shards).slices}
    assert by_class == {
        "class=7": (3, pytest.approx((0.1 + 0.8 + 0.25) / 3)),
        "class=2": (2, pytest.approx(0.55)),
    }


def test_the_twenty_most_frequent_classes_are_listed() -> None:
    # class 30 three times, every other twice; the lower number wins a tie
    classes = [30, *range(30, 0, -1), *range(1, 31)]
    images = {index: [target] for index, target in enumerate(classes)}
    parts = report(shard(None, images, row("gradient", np.linspace(0, 1, len(classes)).tolist()))).slices
    assert [part.part for part in parts] == [f"class={target}" for target in (30, *range(1, 20))]


def test_only_headlines_of_explainers_have_parts() -> None:
    parts = report(
        shard(
            None,
            CLASSES,
            row("gradient", VALUES, metric="lerf_auc"),
            row("gradient", VALUES, control=True),
            row(None, VALUES, check="sweep", metric="probability_score", variant="rotate"),
            row("gradient", VALUES, check="explainer", metric="conservation"),
            row("grad_cam", VALUES),
        )
    ).slices
    assert [(part.explainer, part.metric) for part in parts] == [("grad_cam", "srg")]


FLIPS = (0.0, 0.2, 0.0, None, 1.0, 0.0)


def test_images_whose_prediction_flips_are_apart_from_the_others() -> None:
    images = {index: [7] for index in range(6)}
    rows = [
        row("gradient", values, check="sweep", metric=metric, variant=augmentation)
        for metric, augmentation, values in (("s_pearson", "rotate", VALUES), ("s_pearson", "brightness", VALUES))
    ]
    rates = [
        row(None, values, check="sweep", metric="prediction_flip_rate", variant=augmentation)
        for augmentation, values in (("rotate", FLIPS), ("brightness", (0.0, 0.0, 0.0, 0.0, 0.0, 0.2)))
    ]
    parts = report(shard(None, images, *rows, *rates)).slices
    # one image flips under brightness, too few to be a side; image 3 has no rate and is on neither side
    assert [(part.part, part.variant, part.n) for part in parts] == [
        ("flipped", "rotate", 2),
        ("not_flipped", "rotate", 3),
    ]
    assert [part.mean for part in parts] == pytest.approx([(0.25 + 0.5) / 2, (0.1 + 0.3 + 0.9) / 3], rel=1e-6)


def test_each_model_has_its_own_parts() -> None:
    shards = [
        shard("one", {0: [1], 1: [1], 2: [2], 3: [2]}, row("gradient", [0.0, 0.5, 1.0, 2.0])),
        shard("two", {0: [3], 1: [4], 2: [4], 3: "wrong"}, row("gradient", [0.0, 0.25, 0.75])),
    ]
    parts = [(part.model, part.part, part.mean) for part in report(*shards).slices]
    assert parts == [("one", "class=1", 0.25), ("one", "class=2", 1.5), ("two", "class=4", 0.5)]


def test_an_interval_depends_only_on_its_own_images() -> None:
    values = np.random.default_rng(1).lognormal(size=16).tolist()
    images = {index: [index % 2] for index in range(16)}
    part = report(shard(None, images, row("gradient", values))).slices[1]
    alone = report(shard(None, {index: [1] for index in range(16)}, row("gradient", [
        value if index % 2 else None for index, value in enumerate(values)
    ]))).results[0]  # fmt: skip
    assert (part.part, part.n, part.mean, part.ci) == ("class=1", 8, alone.mean, alone.ci)


def test_parts_give_way_where_the_results_fill_the_report() -> None:
    images = {index: [index % 4] for index in range(100)}
    values = np.linspace(0, 1, 100).tolist()
    rows = [row("gradient", values, metric="lerf_auc", variant=str(number)) for number in range(808)]
    parts = [report(shard(None, images, row("gradient", values), *rows[:many])).slices for many in (0, 807, 808)]
    assert [len(own) for own in parts] == [4, 3, 0]
    assert [part.part for part in parts[1]] == ["class=0", "class=1", "class=2"]


def test_copies_of_an_image_are_one_image_of_a_part() -> None:
    classes = {0: [7], 1: [7], 2: [3], 3: [3], 4: [7], 5: [7]}
    values = (0.1, 0.3, 0.5, 0.7, 0.1, 0.1)
    (seven,) = (
        part
        for part in report(shard(None, classes, row("gradient", values), copies={4: 0, 5: 0})).slices
        if part.part == "class=7"
    )
    assert (seven.n, seven.mean) == (2, pytest.approx(0.2))
