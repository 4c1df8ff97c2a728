"""Names of a model's classes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

LONGEST_CLASS_NAME = 255
MOST_CLASSES = 100_000

ClassNames = Annotated[
    tuple[Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_CLASS_NAME)], ...],
    Field(max_length=MOST_CLASSES),
]
"""Names in the order of the model's classes; two classes may have the same name, as in ImageNet."""
