"""What labels of images have to be so that a model can learn from them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from auditcore.contracts.models import Scores
from auditcore.errors import InvalidRequest, LabelOutOfRange

FEWEST_CLASSES = 2


def check_labels(
    labels: Collection[int], *, index: int, name: str | None, classes: int | None, scores: Scores, field: str
) -> None:
    """Refuse an image without a usable label.

    Args:
        labels: Its classes.
        index: Its position in its batch, from 0.
        name: Name of its file, if it has one.
        classes: Number of classes of the model; None if it is not known yet.
        scores: Whether the model has one class per image (`softmax`) or several (`sigmoid`).
        field: The field of the request with the images.

    Raises:
        InvalidRequest: It has no label, or several for a model with one class per image.
        LabelOutOfRange: A label is no class of the model.
    """
    called = f"image {index}" if name is None else f"image {index} ({name!r})"
    if not labels:
        msg = f"{called} has no label; give every image its class index, or leave the image out"
        raise InvalidRequest(msg, field=field)
    if scores == "softmax" and len(labels) > 1:
        msg = (
            f"{called} has {len(labels)} labels, and the model has one class per image; give one label, or set "
            "`scores` of the model to `sigmoid`"
        )
        raise InvalidRequest(msg, field=field)
    for label in labels:
        if classes is not None and label >= classes:
            raise LabelOutOfRange(label=label, classes=classes, field=f"{field}.labels.{index}")


def require_different_labels(labels: Iterable[Collection[int]]) -> None:
    """Refuse training images of a single class, of which a model learns to say nothing else.

    Args:
        labels: Classes of each image.

    Raises:
        InvalidRequest: All images have the same classes.
    """
    patterns = {tuple(sorted(one)) for one in labels}
    if len(patterns) < FEWEST_CLASSES:
        only = ", ".join(str(label) for one in patterns for label in one)
        msg = f"all training images have the same label ({only}); a model learns from at least two classes"
        raise InvalidRequest(msg, field="images")
