"""Objects on scenes: truth is exact, classes are balanced, colors tell nothing, seeds decide everything."""

from __future__ import annotations

import hashlib
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from auditcore.contracts.synthetic import OBJECT_CLASSES, SCENE_CLASSES, ObjectsOnScenes
from auditcore.synthetic.generation import generate_images
from auditcore.synthetic.marks import Corner, mark_region
from auditcore.synthetic.objects_on_scenes import classes_of, compose_image
from auditcore.synthetic.outlines import outline_region
from auditcore.synthetic.textures import scene_pattern

SIZES = (24, 33, 64)

PINNED = "89712ced945291438d0e1e47de1ed3d8ec838b6ff739f6874f8f40140193c1ef"


@pytest.mark.parametrize("size_px", SIZES)
def test_the_region_of_an_object_is_exactly_what_differs_from_its_scene(size_px: int) -> None:
    parameters = ObjectsOnScenes(images=48, size_px=size_px, object_classes=12, scene_classes=12, seed=3)
    for number, image in enumerate(generate_images(parameters).images):
        scene = compose_image(parameters, number).scene
        assert np.array_equal(image.region("object"), (image.pixels != scene).any(axis=2))
        assert image.region("object").any()
        differences = abs(image.pixels.astype(int) - scene).max(axis=2)[image.region("object")]
        # 0.16 of 255, rounded on both sides
        assert differences.min() >= 39


@pytest.mark.parametrize("least_and_most", [(0.25, 0.25), (0.75, 0.75)])
@pytest.mark.parametrize("size_px", SIZES)
def test_objects_have_their_size_and_are_clear_of_every_corner(
    size_px: int, least_and_most: tuple[float, float]
) -> None:
    parameters = ObjectsOnScenes(images=60, size_px=size_px, object_classes=12, object_side=least_and_most)
    corners = np.any([mark_region(corner, size_px) for corner in Corner], axis=0)
    diameter = least_and_most[0] * size_px
    for image in generate_images(parameters).images:
        region = image.region("object")
        assert not (region & corners).any()
        rows, columns = np.nonzero(region)
        assert max(np.ptp(rows), np.ptp(columns)) + 1 <= diameter + 1
        # the smallest, a crescent or a frame, fills a sixth of the circle; rounding to pixels takes some of it
        assert region.sum() >= 0.1 * diameter**2


def test_the_outline_is_that_of_the_class_and_differs_between_classes() -> None:
    parameters = ObjectsOnScenes(images=600, size_px=64, object_classes=12, object_side=(0.7, 0.7), seed=1)
    shapes: dict[int, list[np.ndarray]] = {}
    for image in generate_images(parameters).images:
        rows, columns = np.nonzero(image.region("object"))
        cut = image.region("object")[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        grid = np.ix_(*(np.linspace(0, side - 1, 16).round().astype(int) for side in cut.shape))
        shapes.setdefault(image.object_label, []).append(cut[grid].astype(float))
    means = {label: np.mean(found, axis=0) for label, found in shapes.items()}
    assert sorted(means) == list(range(len(OBJECT_CLASSES)))
    right = [
        min(means, key=lambda other: float(abs(means[other] - shape).mean())) == label
        for label, found in shapes.items()
        for shape in found
    ]
    # squares and frames that are turned by 15 degrees are close to discs and rings; chance is 1 / 12
    assert np.mean(right) > 0.9


def lens(first: float, second: float, distance: float) -> float:
    """Area that two circles share."""
    one = math.acos((distance**2 + first**2 - second**2) / (2 * distance * first))
    other = math.acos((distance**2 + second**2 - first**2) / (2 * distance * second))
    return first**2 * (one - math.sin(2 * one) / 2) + second**2 * (other - math.sin(2 * other) / 2)


AREAS = {
    "disc": math.pi,
    "triangle": 3 * math.sqrt(3) / 4,
    "cross": 2 * 1.9 * 0.6 - 0.6**2,
    "ring": math.pi * (1 - 0.55**2),
    "star": 5 * 0.4 * math.sin(math.radians(36)),
    "square": 2,
    "crescent": math.pi - lens(1, 0.75, 0.5),
    "arrow": 1 + 0.95 * 0.56,
    "frame": 2 - 0.8**2,
    "corner": 2 - (math.sqrt(0.5) + 0.15) ** 2,
}
"""Area of outlines in the unit circle, by elementary geometry."""


@pytest.mark.parametrize("name", OBJECT_CLASSES)
def test_outlines_have_their_areas_and_stay_within_the_unit_circle(name: str) -> None:
    centers = (np.arange(800) + 0.5) / 400 - 1
    across, down = np.meshgrid(centers, centers)
    wider = outline_region(OBJECT_CLASSES.index(name), 1.2 * across, 1.2 * down)
    assert not wider[np.hypot(across, down) > 1 / 1.2 + 0.003].any()
    region = outline_region(OBJECT_CLASSES.index(name), across, down)
    area = region.mean() * 4
    assert area == pytest.approx(AREAS.get(name, area), abs=0.01)
    assert 0.9 < area <= math.pi + 0.01
    # all but one are the same from left to right or from above to below, up to rounding on the outline
    mirrored = min(np.mean(region != region[:, ::-1]), np.mean(region != region[::-1]))
    assert mirrored < 0.002 or name == "corner"


@pytest.mark.parametrize("scene_class", range(len(SCENE_CLASSES)), ids=SCENE_CLASSES)
@pytest.mark.parametrize("size_px", [24, 33])
def test_each_color_of_a_scene_has_half_of_its_pixels(scene_class: int, size_px: int) -> None:
    for seed in range(5):
        pattern = scene_pattern(scene_class, size_px, np.random.default_rng(seed))
        assert pattern.sum() == size_px**2 // 2


@given(
    objects=st.integers(2, 12), scenes=st.integers(2, 12), images=st.integers(1, 400), seed=st.integers(0, 2**53 - 1)
)
@settings(deadline=None, max_examples=30)
def test_classes_are_balanced_in_every_beginning(objects: int, scenes: int, images: int, seed: int) -> None:
    parameters = ObjectsOnScenes(images=images, object_classes=objects, scene_classes=scenes, seed=seed)
    pairs = [classes_of(parameters, number) for number in range(images)]
    for side, classes in enumerate((objects, scenes)):
        counts = np.bincount([pair[side] for pair in pairs], minlength=classes)
        assert len(counts) == classes
        assert np.ptp(counts) <= 1
    for block in range(images // (objects * scenes)):
        part = pairs[block * objects * scenes : (block + 1) * objects * scenes]
        assert len(set(part)) == objects * scenes
    assert max(Counter(pairs).values()) <= -(-images // (objects * scenes))


def test_labels_are_those_asked_for_and_the_images_stay_the_same() -> None:
    objects = generate_images(ObjectsOnScenes(images=50, object_classes=4, scene_classes=6))
    scenes = generate_images(ObjectsOnScenes(images=50, object_classes=4, scene_classes=6, labels="scenes"))
    assert np.array_equal(objects.pixels(), scenes.pixels())
    assert objects.labels == objects.object_labels == scenes.object_labels
    assert scenes.labels == scenes.scene_labels == objects.scene_labels
    assert objects.class_names == OBJECT_CLASSES[:4]
    assert scenes.class_names == SCENE_CLASSES[:6]
    assert set(objects.labels) == set(range(4))
    assert set(scenes.labels) == set(range(6))


@pytest.mark.parametrize("labels", ["objects", "scenes"])
def test_colors_tell_nothing_of_the_class(labels: str) -> None:
    data = generate_images(ObjectsOnScenes.model_validate({"images": 1500, "size_px": 24, "labels": labels, "seed": 5}))
    mean_color = data.pixels().mean(axis=(1, 2)) / 255
    accuracy = cross_val_score(LogisticRegression(C=100), mean_color, data.labels, cv=5).mean()
    # chance is 0.1, with a standard error of 0.008 over 1500 images
    assert abs(accuracy - 0.1) < 0.03


@pytest.mark.parametrize("side", ["object", "scene"])
def test_the_color_of_a_part_tells_nothing_of_its_class(side: str) -> None:
    """Sharper than the mean color of the image, in which an object has a small share."""
    images = generate_images(ObjectsOnScenes(images=800, size_px=24, seed=6)).images
    colors = np.array(
        [
            np.concatenate([image.pixels[image.region("object")].mean(0), image.pixels[image.region("scene")].mean(0)])
            for image in images
        ]
    )
    labels = [image.object_label if side == "object" else image.scene_label for image in images]
    accuracy = cross_val_score(LogisticRegression(max_iter=1000), colors / 255, labels, cv=4).mean()
    # chance is 0.1, with a standard error of 0.011
    assert abs(accuracy - 0.1) < 0.04


def test_the_histogram_of_a_scene_tells_nothing_of_its_class() -> None:
    scenes = [compose_image(ObjectsOnScenes(images=800, size_px=24, seed=5), number) for number in range(800)]
    histograms = np.stack([np.sort(one.scene.reshape(-1, 3), axis=0)[::48].ravel() / 255 for one in scenes])
    labels = [one.scene_class for one in scenes]
    accuracy = cross_val_score(LogisticRegression(max_iter=1000), histograms, labels, cv=4).mean()
    assert abs(accuracy - 0.1) < 0.05


def test_a_larger_dataset_begins_with_the_smaller_one() -> None:
    small = generate_images(ObjectsOnScenes(images=7, seed=2))
    large = generate_images(ObjectsOnScenes(images=23, seed=2))
    assert np.array_equal(large.pixels()[:7], small.pixels())
    assert large.labels[:7] == small.labels
    assert [image.digest for image in large[:7]] == [image.digest for image in small]
    other = generate_images(ObjectsOnScenes(images=7, seed=4))
    assert not np.array_equal(other.pixels(), small.pixels())


def test_the_pixels_of_a_seed_are_pinned() -> None:
    pixels = generate_images(ObjectsOnScenes(images=144, object_classes=12, scene_classes=12, seed=7)).pixels()
    assert pixels.shape == (144, 32, 32, 3)
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == PINNED


def test_pixels_cannot_be_changed_by_accident() -> None:
    image = generate_images(ObjectsOnScenes(images=1)).images[0]
    with pytest.raises(ValueError, match="read-only"):
        image.unmarked[0, 0, 0] = 0


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"images": 0}, "greater than or equal to 1"),
        ({"images": True}, "write a number here"),
        ({"size_px": 23}, "greater than or equal to 24"),
        ({"object_classes": 1}, "greater than or equal to 2"),
        ({"scene_classes": 13}, "less than or equal to 12"),
        ({"labels": "colors"}, "'objects' or 'scenes'"),
        ({"object_side": (0.5, 0.4)}, "swap the two"),
        ({"object_side": (0.1, 0.4)}, "greater than or equal to 0.25"),
        ({"object_side": (0.5, float("nan"))}, "finite number"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"shortcut": {"agreement": 1.1}}, "less than or equal to 1"),
        ({"images": 1_000_000, "size_px": 64}, "lower `images` to 65536"),
        ({"sizes": 3}, "Extra inputs"),
    ],
)
def test_wrong_parameters_are_refused(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        ObjectsOnScenes.model_validate({"images": 10} | wrong)
