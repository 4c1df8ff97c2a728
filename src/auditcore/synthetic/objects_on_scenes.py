"""Images of textured objects on textured scenes."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from auditcore.contracts.synthetic import ObjectsOnScenes
from auditcore.synthetic.draws import drawn_order, draws_of
from auditcore.synthetic.marks import mark_side
from auditcore.synthetic.outlines import outline_region
from auditcore.synthetic.textures import object_shade, scene_pattern

Pixels = UInt8[np.ndarray, "height width 3"]

_SIGNS = np.array([[-1, 1][(number >> channel) & 1] for number in range(8) for channel in range(3)]).reshape(8, 3)
"""All ways to go up or down in three channels; those at positions that add up to 7 are opposites."""

_MOST_TURN = math.radians(15)
"""Objects are turned by up to this angle, so that a turned square is no diamond and an arrow points to the right."""


class ComposedImage(NamedTuple):
    """An object on a scene, without a mark.

    Attributes:
        object_class: Class of the object.
        scene_class: Class of the scene.
        scene: Pixels of the scene without the object.
        pixels: Pixels of the scene with the object.
        region: Pixels of the object: exactly those in which the two differ.
    """

    object_class: int
    scene_class: int
    scene: Pixels
    pixels: Pixels
    region: Bool[np.ndarray, "height width"]


def compose_image(parameters: ObjectsOnScenes, number: int) -> ComposedImage:
    """Return an image of a dataset by its number, whether or not the dataset is so large.

    Args:
        parameters: What the dataset is made from.
        number: Number of the image, from 0.
    """
    object_class, scene_class = classes_of(parameters, number)
    size = parameters.size_px
    draws = draws_of(parameters.seed, "scene", number)
    # half of the pixels above and half below the middle, in each channel; both far from 0 and 255
    middle = 0.35 + 0.3 * draws.random(3)
    direction = int(8 * draws.random())
    contrast = (0.1 + 0.1 * draws.random(3)) * _SIGNS[direction]
    first = scene_pattern(scene_class, size, draws)
    scene = _bytes(middle + np.where(first[..., None], contrast, -contrast), draws)

    draws = draws_of(parameters.seed, "object", number)
    region = _object_region(parameters, object_class, draws)
    # one channel goes another way than in the scene's two colors: the object differs from both by at least 0.16 in a
    # channel (0.2 + 0.1, less 0.08 of shades and twice 0.03 of grain), so that its region is exactly what differs
    away = int(3 * draws.random())
    turned = _SIGNS[direction] * np.where(np.arange(3) == away, -1, 1) * (1 if draws.random() < 0.5 else -1)  # noqa: PLR2004 - as often
    shade = object_shade(size, draws)[..., None] * _SIGNS[int(8 * draws.random())]
    shown = _bytes(middle + (0.2 + 0.05 * draws.random(3)) * turned + 0.08 * shade, draws)
    return ComposedImage(object_class, scene_class, scene, np.where(region[..., None], shown, scene), region)


def classes_of(parameters: ObjectsOnScenes, number: int) -> tuple[int, int]:
    """Return the classes of the object and of the scene of an image.

    Any first n images have each class of objects, and each class of scenes, equally often, except for one image. In
    each block of as many images as there are pairs of classes, every pair occurs once. Which class comes when is drawn
    for each block.

    Args:
        parameters: Numbers of classes, and the seed.
        number: Number of the image.
    """
    objects, scenes = parameters.object_classes, parameters.scene_classes
    block, within = divmod(number, objects * scenes)
    # a period of both together has each pair of positions at most once; the next one is shifted to the pairs left
    shift = within // math.lcm(objects, scenes)
    object_order = drawn_order(parameters.seed, "object classes", block, objects)
    scene_order = drawn_order(parameters.seed, "scene classes", block, scenes)
    return object_order[within % objects], scene_order[(within + shift) % scenes]


def _object_region(
    parameters: ObjectsOnScenes, object_class: int, draws: np.random.Generator
) -> Bool[np.ndarray, "height width"]:
    """Pixels whose centers lie inside an object of random size, angle and place."""
    size = parameters.size_px
    least, most = parameters.object_side
    radius = size * (least + (most - least) * draws.random()) / 2
    angle = _MOST_TURN * (2 * draws.random() - 1)
    # clear of the rows and columns in which marks are, also in images without marks
    margin = mark_side(size) + radius
    center = margin + (size - 2 * margin) * draws.random(2)
    centers = np.arange(size) + 0.5
    across, down = np.meshgrid((centers - center[0]) / radius, (centers - center[1]) / radius)
    cosine, sine = math.cos(angle), math.sin(angle)
    return outline_region(object_class, across * cosine + down * sine, down * cosine - across * sine)


def _bytes(values: Float[np.ndarray, "height width 3"], draws: np.random.Generator) -> Pixels:
    """Values from 0 to 1 with fine grain as bytes, from 5 to 250."""
    grained = values + 0.06 * (draws.random(values.shape) - 0.5)
    return np.round(255 * np.clip(grained, 0.02, 0.98)).astype(np.uint8)
