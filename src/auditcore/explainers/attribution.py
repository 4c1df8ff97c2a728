"""What an explainer answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Attribution:
    """Signed attributions of a batch, with what the method reports about itself.

    Attributes:
        maps: (N,C,H,W), float32, detached, on the model's device. C is 3, or 1 for spatial methods.
        controls: Metric of `METRICS["explainer"]` -> one value an image; NaN where undefined.
    """

    maps: Float[Tensor, "image channel height width"]
    controls: Mapping[str, Float[Tensor, " image"]] = field(default_factory=dict)
