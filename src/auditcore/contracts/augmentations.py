"""One class an augmentation family: what changes, in which unit, over which interval."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field, model_validator

from auditcore.contracts.contract import Contract

Interval = tuple[float, float]


class AugmentationContract(Contract):
    """Base of all families.

    Attributes:
        interval: Lowest and highest value, in the family's unit, or `auto` to widen until the mean target
            probability at one end has dropped by 10 %.
        identity: The value that changes nothing.
        bound: Largest distance from the identity that `auto` tries.
        domain: Values that make sense at all.
        unit: Unit of the values.
        equivariant: Whether a good explanation moves with the image (True) or stays (False).
    """

    identity: ClassVar[float] = 0.0
    bound: ClassVar[float]
    domain: ClassVar[Interval]
    unit: ClassVar[str]
    equivariant: ClassVar[bool]
    kind: str
    interval: Interval | Literal["auto"] = "auto"

    @model_validator(mode="after")
    def _interval_holds_identity(self) -> AugmentationContract:
        if self.interval == "auto":
            return self
        low, high = self.interval
        least, most = self.domain
        if not least <= low <= self.identity <= high <= most or low == high:
            msg = (
                f"interval [{low}, {high}] of {self.kind} must be inside [{least}, {most}] ({self.unit}) "
                f"and contain the identity {self.identity}"
            )
            raise ValueError(msg)
        return self


@final
class Brightness(AugmentationContract):
    """Added to V of HSV; hue and saturation stay."""

    bound: ClassVar[float] = 100 / 255
    domain: ClassVar[Interval] = (-1.0, 1.0)
    unit: ClassVar[str] = "share of the value range"
    equivariant: ClassVar[bool] = False
    kind: Literal["brightness"] = "brightness"


@final
class Hue(AugmentationContract):
    """Rotation of the color wheel."""

    bound: ClassVar[float] = 141.0
    domain: ClassVar[Interval] = (-360.0, 360.0)
    unit: ClassVar[str] = "degrees"
    equivariant: ClassVar[bool] = False
    kind: Literal["hue"] = "hue"


@final
class Saturation(AugmentationContract):
    """Added to S of HSV."""

    bound: ClassVar[float] = 100 / 255
    domain: ClassVar[Interval] = (-1.0, 1.0)
    unit: ClassVar[str] = "share of the saturation range"
    equivariant: ClassVar[bool] = False
    kind: Literal["saturation"] = "saturation"


@final
class Rotate(AugmentationContract):
    """Counter-clockwise rotation about the center of the pixel centers."""

    bound: ClassVar[float] = 40.0
    domain: ClassVar[Interval] = (-180.0, 180.0)
    unit: ClassVar[str] = "degrees"
    equivariant: ClassVar[bool] = True
    kind: Literal["rotate"] = "rotate"


@final
class Translate(AugmentationContract):
    """Shift right and down by the same fraction of each side."""

    bound: ClassVar[float] = 0.4
    domain: ClassVar[Interval] = (-0.9, 0.9)
    unit: ClassVar[str] = "fraction of each side"
    equivariant: ClassVar[bool] = True
    kind: Literal["translate"] = "translate"


@final
class Scale(AugmentationContract):
    """Zoom about the center of the pixel centers; above 1 enlarges."""

    identity: ClassVar[float] = 1.0
    bound: ClassVar[float] = 0.2
    domain: ClassVar[Interval] = (0.1, 10.0)
    unit: ClassVar[str] = "factor"
    equivariant: ClassVar[bool] = True
    kind: Literal["scale"] = "scale"


Augmentation = Annotated[Brightness | Hue | Saturation | Rotate | Translate | Scale, Field(discriminator="kind")]
