"""How many images go through a model: the unit of every price."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Passes(NamedTuple):
    """Images that go through the model.

    Attributes:
        forward: Images that go forward.
        backward: Images for which a gradient comes back, from the target's logit to the input or a layer.
        relevance: Of those that come back, how many carry relevance instead of gradients, which costs more.
    """

    forward: int = 0
    backward: int = 0
    relevance: int = 0

    def plus(self, other: Passes) -> Passes:
        """Both together."""
        return Passes(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    def times(self, count: int) -> Passes:
        """The same for `count` images."""
        return Passes(*(mine * count for mine in self))


NOTHING, LOGITS, GRADIENT, RELEVANCE = Passes(), Passes(1), Passes(1, 1), Passes(1, 1, 1)
"""No pass; one image forward; one image forward and its gradient back; one image forward and its relevance back."""


def total(parts: Iterable[Passes]) -> Passes:
    """The sum of all parts."""
    whole = NOTHING
    for part in parts:
        whole = whole.plus(part)
    return whole
