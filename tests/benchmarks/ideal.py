"""The formula of engine efficiency: what passes cost at the bare model's best speed, over what an audit took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Meaning = Literal["plain", "forward", "gradient"]
"""Which pass of the bare model is the ideal of a method's pass.

- `plain`: the passes made are the bare model's own.
- `forward`: Grad-CAM differentiates nothing below the last feature maps, so its backward pass is ideally free.
- `gradient`: relevance and guided backpropagation replace the gradient of single layers; the ideal is the plain
  gradient of as many images, so the efficiency of LRP is 1 / its cost relative to a gradient, when maps prevail.
"""


@dataclass(frozen=True)
class Rates:
    """Speed of the bare model, in images per second.

    Attributes:
        forward: Forward passes without a graph.
        gradient: Forward and backward passes to the input.
    """

    forward: float
    gradient: float


@dataclass(frozen=True)
class Passes:
    """Images that went through the model; every backward pass has a forward pass among `forward`."""

    forward: int
    backward: int

    def __add__(self, other: Passes) -> Passes:
        """Passes of two parts of an audit."""
        return Passes(self.forward + other.forward, self.backward + other.backward)

    def __sub__(self, other: Passes) -> Passes:
        """Passes that one audit made beyond another."""
        return Passes(self.forward - other.forward, self.backward - other.backward)

    def __mul__(self, times: int) -> Passes:
        """Passes of as many images."""
        return Passes(self.forward * times, self.backward * times)

    @property
    def total(self) -> int:
        """Both directions added up."""
        return self.forward + self.backward


def around(before: Rates, after: Rates) -> Rates:
    """Speed of the model while a row ran: the mean of the seconds a pass took before and after it."""
    return Rates(
        forward=2 / (1 / before.forward + 1 / after.forward), gradient=2 / (1 / before.gradient + 1 / after.gradient)
    )


def drifted(scanned: Rates, reference: Rates, now: Rates) -> Rates:
    """Speed that a module had in a scan, changed as that of another module has changed since.

    Args:
        scanned: The module's speed in the scan.
        reference: The other module's in the scan.
        now: The other module's around a row.
    """
    return Rates(
        forward=scanned.forward * now.forward / reference.forward,
        gradient=scanned.gradient * now.gradient / reference.gradient,
    )


def ideal_seconds(passes: Passes, rates: Rates, meaning: Meaning = "plain") -> float:
    """What the passes cost if nothing but the bare model ran, at its best batch size and memory format.

    Raises:
        ValueError: There are more backward than forward passes.
    """
    if not 0 <= passes.backward <= passes.forward:
        msg = f"every backward pass needs a forward pass; got {passes.forward} forward, {passes.backward} backward"
        raise ValueError(msg)
    if meaning == "forward":
        return passes.forward / rates.forward
    return (passes.forward - passes.backward) / rates.forward + passes.backward / rates.gradient


def engine_efficiency(passes: Passes, rates: Rates, seconds: float, meaning: Meaning = "plain") -> float:
    """Ideal seconds over wall seconds: 1 when an audit costs what its passes cost."""
    return ideal_seconds(passes, rates, meaning) / seconds
