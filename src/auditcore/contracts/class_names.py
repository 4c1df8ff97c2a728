"""Names of a model's classes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

ClassNames = Annotated[
    tuple[Annotated[str, StringConstraints(min_length=1, max_length=255)], ...], Field(max_length=100_000)
]
"""Names in the order of the model's classes; two classes may have the same name, as in ImageNet."""
