"""Methods that add normal noise to the image: the noise and its unit."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from auditcore.contracts.explainers.explainer import ExplainerContract

NoiseUnit = Literal["range", "normalized"]
NOISE_UNIT = (
    "What `std` counts in. range: the input's value range, so that 0.15 is 15 % of the way from black to white. "
    "normalized: the values the model sees, so that 1 is the deviation it divides each channel by, as in captum."
)
NOISE = "Standard deviation of the noise added to the image, in `std_unit`; as a share of the range at most 1."
NoiseStd = Annotated[float, Field(ge=0, le=100)]


class NoisyContract(ExplainerContract):
    """Base of methods that add normal noise to the image.

    Attributes:
        std: Standard deviation of the noise, in `std_unit`; at most 1 as a share of the value range.
        std_unit: What it counts in.
    """

    std: NoiseStd
    std_unit: NoiseUnit = Field(default="range", description=NOISE_UNIT)

    @property
    def stochastic(self) -> bool:
        """Always: it draws numbers for each sample."""
        return True

    @model_validator(mode="after")
    def _share_is_one(self) -> NoisyContract:
        if self.std_unit == "range" and self.std > 1:
            msg = (
                f"std is {self.std:g}, but as a share of the value range it is at most 1; "
                "set std_unit to 'normalized' for noise in units of the normalized input"
            )
            raise ValueError(msg)
        return self
