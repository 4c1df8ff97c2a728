"""How many images of each class are held out and used, and how many steps that makes. Needs no image."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from auditcore.contracts.images import Labels, labels_of
from auditcore.contracts.training.plan import TrainingPlan
from auditcore.contracts.training.request import HeldOut


def held_out_images(images: int, share: float) -> int:
    """How many images of a class are held out: a share, rounded, but at least one and never all.

    Args:
        images: Number of images of the class, at least 1.
        share: In (0,1).
    """
    return min(max(1, round(share * images)), images - 1)


def used_images(images: int, share: float) -> int:
    """How many training images of a class are used: a share, rounded, but at least one.

    Args:
        images: Number of training images of the class, at least 1.
        share: In (0,1].
    """
    return images if share == 1 else max(1, round(share * images))


def training_images(labels: Sequence[Labels | None], plan: TrainingPlan, *, held_out: HeldOut | None) -> int:
    """How many images a training learns from if every file can be decoded; it never learns from more.

    Args:
        labels: Of each training image. One with several labels counts for the smallest, as when images are divided.
        plan: Says which share is used.
        held_out: Which share becomes validation images; None if those are given apart.
    """
    classes = Counter(min(labels_of(label)) for label in labels if label is not None)
    counts = [
        images - (0 if held_out is None else held_out_images(images, held_out.share)) for images in classes.values()
    ]
    return sum(used_images(images, plan.share) for images in counts)


def training_steps(images: int, plan: TrainingPlan) -> int:
    """Number of steps of all epochs with this number of training images."""
    return math.ceil(images / plan.batch_size) * plan.epochs
