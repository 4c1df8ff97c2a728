"""How far a model relies on a planted shortcut, from its predictions on counterfactual images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from auditcore.contracts.synthetic import ShortcutReliance
from auditcore.errors import InvalidRequest

_ROUNDING = 1e-3
"""By how much probabilities of an image may add up to another sum than 1: those of half precision do."""

NOTHING_TO_FOLLOW = "before the change, every image is already predicted as the class of its later mark"


def shortcut_reliance(
    before: ArrayLike, after: ArrayLike, *, labels: Sequence[int], marks: Sequence[int | None]
) -> ShortcutReliance:
    """Measure how far a model follows contradicting marks.

    `before` are probabilities on images without marks, or with those of their own classes; `after` on the same images
    with the marks of other classes: of a dataset, `without_marks()` and `with_contradicting_marks()`. Only the mark
    differs, so what differs in the prediction is due to it. `followed` is the share of images whose prediction becomes
    the class of the mark, among those that were not predicted so before. It is null with a reason if there is none.

    Of images before, those without marks ask what the mark adds; those with their own marks ask what exchanging it
    changes, which is more.

    Args:
        before: Probabilities (image, class) before, from 0 to 1; of each image they add up to 1.
        after: The same after.
        labels: Class of each image.
        marks: Class of each image's mark after, never its label: `dataset.marks`.

    Raises:
        InvalidRequest: Shapes do not fit, a value is no probability, a label or mark is no class, or a mark is missing
            or agrees with the label.

    Example:
        Two images of the classes 0 and 1 get the mark of class 2. The prediction of the first one follows it.

        >>> before = [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]]
        >>> after = [[0.3, 0.1, 0.6], [0.2, 0.6, 0.2]]
        >>> found = shortcut_reliance(before, after, labels=[0, 1], marks=[2, 2])
        >>> found.followed, round(found.moved_probability, 3), found.accuracy_before, found.accuracy_after
        (0.5, 0.3, 1.0, 0.5)
    """
    first, then = _probabilities(before, "before"), _probabilities(after, "after")
    if first.shape != then.shape:
        msg = f"`before` has the shape {first.shape} and `after` {then.shape}; give the same images in the same order"
        raise InvalidRequest(msg, field="after")
    for field, given in (("labels", labels), ("marks", marks)):
        if len(given) != len(first):
            msg = f"{len(given)} {field} for {len(first)} images; give one per image"
            raise InvalidRequest(msg, field=field)
    truth = _classes(labels, first.shape[1], "labels")
    marked = _classes(marks, first.shape[1], "marks")
    agreeing = np.flatnonzero(truth == marked)
    if agreeing.size:
        msg = (
            f"the mark of image {agreeing[0]} agrees with its label {truth[agreeing[0]]}, so it says nothing of "
            "reliance; use the marks of `with_contradicting_marks()`, or leave these images out"
        )
        raise InvalidRequest(msg, field="marks")
    images = np.arange(len(first))
    predicted, predicted_then = first.argmax(axis=1), then.argmax(axis=1)
    counted = predicted != marked
    return ShortcutReliance(
        images=len(first),
        followed=float(np.mean(predicted_then[counted] == marked[counted])) if counted.any() else None,
        counted=int(counted.sum()),
        moved_probability=float(np.clip(np.mean(then[images, marked] - first[images, marked]), -1, 1)),
        accuracy_before=float(np.mean(predicted == truth)),
        accuracy_after=float(np.mean(predicted_then == truth)),
        undefined=None if counted.any() else NOTHING_TO_FOLLOW,
    )


def _probabilities(given: ArrayLike, field: str) -> Float[np.ndarray, "image class"]:
    values = np.asarray(given, dtype=np.float64)
    if values.ndim != 2 or 0 in values.shape:  # noqa: PLR2004 - image and class
        msg = f"`{field}` has the shape {values.shape}; give probabilities (image, class) of at least one image"
        raise InvalidRequest(msg, field=field)
    # not a number fails both comparisons
    fits = (values >= 0).all(axis=1) & (abs(values.sum(axis=1) - 1) <= _ROUNDING)
    if not fits.all():
        row = int(np.flatnonzero(~fits)[0])
        msg = (
            f"row {row} of `{field}` is no distribution over classes (smallest {values[row].min():g}, sum "
            f"{values[row].sum():g}); give probabilities such as softmax(logits)"
        )
        raise InvalidRequest(msg, field=field)
    return values


def _classes(given: Sequence[int | None], classes: int, field: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    for position, one in enumerate(given):
        if one is None or not 0 <= one < classes:
            msg = f"entry {position} of `{field}` is {one}, which is no class; use 0 to {classes - 1}"
            raise InvalidRequest(msg, field=field)
    return np.array(given, dtype=np.int64)
