"""What a model calls its classes, where it says so."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torchvision.models import EfficientNet_B0_Weights

from auditcore.contracts.class_names import LONGEST_CLASS_NAME

_GENERATED = re.compile(r"LABEL_\d+")
"""Names that transformers makes up where a model has none."""


def imagenet_names() -> tuple[str, ...]:
    """Names of the 1000 classes of ImageNet in their usual order, as torchvision has them; nothing is downloaded."""
    names: list[str] = EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"]
    return tuple(names)


def names_by_number(labels: object) -> tuple[str, ...]:
    """The names in an `id2label` of a Hugging Face model.

    Args:
        labels: Number of the class, as an integer or in digits -> its name; anything else has no names.

    Returns:
        The names in order; none if a number is missing, a name is empty, or all are made up, such as `LABEL_0`.
    """
    if not isinstance(labels, Mapping):
        return ()
    by_number = {str(number): str(name).strip()[:LONGEST_CLASS_NAME] for number, name in labels.items()}
    names = tuple(by_number.get(str(number), "") for number in range(len(by_number)))
    if not all(names) or all(_GENERATED.fullmatch(name) for name in names):
        return ()
    return names
