"""Stop rules: when an audit may end before all its images are audited."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, final

from pydantic import BeforeValidator, Field

from auditcore.contracts.contract import Contract

LOOKS_GROW_BY = 8
"""After 8 times the first look, each next look comes after an eighth of the images so far. 10 000 images then have 52
looks instead of 1250, and at most an eighth is computed after the last condition was decided."""


@final
class Conclusive(Contract):
    """End when every condition of the policy is decided (Waudby-Smith & Ramdas 2024).

    Images are used in a random order that is determined by the plan's seed. At each look, confidence sequences show
    which conditions are decided: whether the mean meets the threshold, both over the whole batch and over the
    population that it was drawn from. The sequences are valid at all looks together, so frequent looks have no cost. No
    audit ends before every condition has its `min_images` and a value for at least half of the images, or while two
    images seen are copies. An audit that uses all its images is judged by intervals, as without a rule. What the first
    wave measures, such as automatic intervals, is measured on all images.
    """

    kind: Literal["conclusive"] = "conclusive"
    alpha: float = Field(
        default=0.05,
        gt=0,
        le=0.5,
        description="Largest allowed probability that any condition is decided wrongly: differently from the mean over "
        "the whole batch, over random orders, or from the mean over the population that the batch was drawn from.",
    )
    first_look: int = Field(
        default=8,
        ge=1,
        le=1000,
        description="Images before the first look and between looks; later, looks come after an eighth of the images "
        "so far, if that is more.",
    )


def _spelled_out(value: Any) -> Any:  # noqa: ANN401 - pydantic passes on any value
    return {"kind": value} if isinstance(value, str) else value


StopRule = Annotated[
    Conclusive, BeforeValidator(_spelled_out, json_schema_input_type=Conclusive | Literal["conclusive"])
]
"""A full rule, or the name of a rule with its defaults."""


def looks(images: int, first_look: int) -> Iterator[int]:
    """Yield the numbers of images after which a rule looks; the last one is all images.

    The looks depend only on the rule and the number of images, so the end of an audit does not depend on its shards.

    Args:
        images: Number of images of the audit, at least 1.
        first_look: The rule's `first_look`.
    """
    seen = 0
    while seen < images:
        seen = min(images, seen + max(first_look, seen // LOOKS_GROW_BY))
        yield seen
