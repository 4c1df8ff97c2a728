"""When an audit may end before all its images were looked at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, final

from pydantic import BeforeValidator, Field

from auditcore.contracts.contract import Contract

LOOKS_GROW_BY = 8
"""Past 8 times the first look, the next one comes after an eighth of the images so far: 10 000 images are 52 looks
instead of 1250, and what is computed after the last condition was decided is at most an eighth."""


@final
class Conclusive(Contract):
    """End when every condition of the policy is decided (Waudby-Smith & Ramdas 2024).

    Images are taken in a random order that follows from the plan's seed. After each look confidence sequences say which
    conditions are decided: whether the mean meets the threshold, both over the whole batch and over all images like
    these. The sequences hold at all looks together, so looking often costs nothing. No audit ends before every
    condition has its `min_images` and a value for at least half of the images, or while two images seen are copies. An
    audit that uses all its images is judged as without a rule, by intervals. What the first wave measures, such as
    automatic intervals, is measured on all images.
    """

    kind: Literal["conclusive"] = "conclusive"
    alpha: float = Field(
        default=0.05,
        gt=0,
        le=0.5,
        description="Most that the probability of any condition being decided wrongly may be: otherwise than the mean "
        "over all images of the batch does, over the random orders, or than the mean over all images like these does.",
    )
    first_look: int = Field(
        default=8,
        ge=1,
        le=1000,
        description="Images before the first look and between looks, until an eighth of the images so far is more.",
    )


def _spelled_out(value: Any) -> Any:  # noqa: ANN401 - pydantic hands over whatever was sent
    return {"kind": value} if isinstance(value, str) else value


StopRule = Annotated[
    Conclusive, BeforeValidator(_spelled_out, json_schema_input_type=Conclusive | Literal["conclusive"])
]
"""A rule in full, or the name of one with its defaults."""


def looks(images: int, first_look: int) -> Iterator[int]:
    """Numbers of images after which a rule looks; the last one is all images.

    They depend on nothing but the rule and the number of images, so where an audit ends does not depend on how it was
    cut into shards.

    Args:
        images: Images of the audit, at least 1.
        first_look: The rule's.
    """
    seen = 0
    while seen < images:
        seen = min(images, seen + max(first_look, seen // LOOKS_GROW_BY))
        yield seen
