"""Contracts of augmentations: what changes, in which unit, over which interval."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field, model_validator

from auditcore.contracts.contract import Contract
from auditcore.contracts.preprocessing import Colors

Interval = tuple[float, float]
IN_COLOR: frozenset[Colors] = frozenset({"rgb", "bgr"})


class AugmentationContract(Contract):
    """Base class of all augmentations.

    Attributes:
        interval: Lowest and highest value, in the augmentation's unit, or `auto` to widen until the mean target
            probability at one end has dropped by 10 %.
        identity: The value that changes nothing.
        bound: Largest distance from the identity that `auto` tries.
        domain: Range of all possible values.
        unit: Unit of the values.
        moves: Whether pixels move; a good explanation then moves with the image.
        discrete: Whether only the two ends of the interval exist, as for a flip.
        needs_colors: Channels that it is defined for; None for any.
    """

    identity: ClassVar[float] = 0.0
    bound: ClassVar[float]
    domain: ClassVar[Interval]
    unit: ClassVar[str]
    moves: ClassVar[bool]
    discrete: ClassVar[bool] = False
    needs_colors: ClassVar[frozenset[Colors] | None] = None
    kind: str
    interval: Interval | Literal["auto"] = "auto"

    @property
    def label(self) -> str:
        """Variant of the results of this augmentation."""
        return self.kind

    @property
    def equivariant(self) -> bool:
        """Whether a good explanation moves with the image (True) or stays (False)."""
        return self.moves

    def undefined_for(self, colors: Colors) -> str | None:
        """Why it is not defined for images with these channels; None if it is."""
        if self.needs_colors is None or colors in self.needs_colors:
            return None
        seen = "gray" if colors == "gray" else "bands that are not red, green and blue"
        return f"{self.label} changes colors, and the model sees {seen}"

    @property
    def only_ends(self) -> bool:
        """Whether there are no values between the identity and the ends of the interval."""
        return self.discrete

    @property
    def reach(self) -> Interval:
        """Lowest and highest value that a plan may use."""
        return self.domain

    @property
    def extent(self) -> Interval:
        """The interval; if it is automatic, the widest interval that `auto` may choose."""
        return self.around(self.bound) if self.interval == "auto" else self.interval

    def around(self, half_width: float) -> Interval:
        """Return both ends of a symmetric interval, limited to the range of the augmentation."""
        least, most = self.reach
        return max(least, self.identity - half_width), min(most, self.identity + half_width)

    def changes_at(self, value: float) -> bool:
        """Return whether a value is possible and changes the image."""
        least, most = self.reach
        possible = value in self.reach if self.only_ends else least <= value <= most
        return possible and value != self.identity

    @model_validator(mode="after")
    def _interval_holds_identity(self) -> AugmentationContract:
        if self.interval == "auto":
            return self
        low, high = self.interval
        least, most = self.reach
        if not least <= low <= self.identity <= high <= most or low == high:
            msg = (
                f"interval [{low}, {high}] of {self.label} must be inside [{least}, {most}] ({self.unit}) "
                f"and contain the identity {self.identity}"
            )
            raise ValueError(msg)
        return self


@final
class Brightness(AugmentationContract):
    """A value added to V of HSV; hue and saturation stay the same."""

    bound: ClassVar[float] = 100 / 255
    domain: ClassVar[Interval] = (-1.0, 1.0)
    unit: ClassVar[str] = "share of the value range"
    moves: ClassVar[bool] = False
    kind: Literal["brightness"] = "brightness"


@final
class Hue(AugmentationContract):
    """Rotation of the color wheel."""

    bound: ClassVar[float] = 141.0
    domain: ClassVar[Interval] = (-360.0, 360.0)
    unit: ClassVar[str] = "degrees"
    moves: ClassVar[bool] = False
    needs_colors: ClassVar[frozenset[Colors] | None] = IN_COLOR
    kind: Literal["hue"] = "hue"


@final
class Saturation(AugmentationContract):
    """A value added to S of HSV."""

    bound: ClassVar[float] = 100 / 255
    domain: ClassVar[Interval] = (-1.0, 1.0)
    unit: ClassVar[str] = "share of the saturation range"
    moves: ClassVar[bool] = False
    needs_colors: ClassVar[frozenset[Colors] | None] = IN_COLOR
    kind: Literal["saturation"] = "saturation"


@final
class Rotate(AugmentationContract):
    """Counter-clockwise rotation about the center of the pixel centers."""

    bound: ClassVar[float] = 40.0
    domain: ClassVar[Interval] = (-180.0, 180.0)
    unit: ClassVar[str] = "degrees"
    moves: ClassVar[bool] = True
    kind: Literal["rotate"] = "rotate"


@final
class Translate(AugmentationContract):
    """Shift right and down by the same fraction of each side."""

    bound: ClassVar[float] = 0.4
    domain: ClassVar[Interval] = (-0.9, 0.9)
    unit: ClassVar[str] = "fraction of each side"
    moves: ClassVar[bool] = True
    kind: Literal["translate"] = "translate"


@final
class Scale(AugmentationContract):
    """Zoom about the center of the pixel centers; above 1 enlarges."""

    identity: ClassVar[float] = 1.0
    bound: ClassVar[float] = 0.2
    domain: ClassVar[Interval] = (0.1, 10.0)
    unit: ClassVar[str] = "factor"
    moves: ClassVar[bool] = True
    kind: Literal["scale"] = "scale"


@final
class Contrast(AugmentationContract):
    """Distance of every pixel from the image's mean gray; above 1 increases it."""

    identity: ClassVar[float] = 1.0
    bound: ClassVar[float] = 0.5
    domain: ClassVar[Interval] = (0.0, 10.0)
    unit: ClassVar[str] = "factor"
    moves: ClassVar[bool] = False
    kind: Literal["contrast"] = "contrast"


@final
class GaussianNoise(AugmentationContract):
    """Independent normal noise on every channel value, clipped; one noise field per image, scaled by the value."""

    bound: ClassVar[float] = 0.2
    domain: ClassVar[Interval] = (0.0, 1.0)
    unit: ClassVar[str] = "standard deviation, share of the value range"
    moves: ClassVar[bool] = False
    kind: Literal["gaussian_noise"] = "gaussian_noise"


@final
class GaussianBlur(AugmentationContract):
    """Convolution with a Gaussian."""

    bound: ClassVar[float] = 4.0
    domain: ClassVar[Interval] = (0.0, 64.0)
    unit: ClassVar[str] = "sigma in pixels"
    moves: ClassVar[bool] = False
    kind: Literal["gaussian_blur"] = "gaussian_blur"


@final
class JpegQuality(AugmentationContract):
    """JPEG compression with this quality; 100 is the unchanged image."""

    identity: ClassVar[float] = 100.0
    bound: ClassVar[float] = 90.0
    domain: ClassVar[Interval] = (1.0, 100.0)
    unit: ClassVar[str] = "quality"
    moves: ClassVar[bool] = False
    needs_colors: ClassVar[frozenset[Colors] | None] = IN_COLOR | {"gray"}
    kind: Literal["jpeg_quality"] = "jpeg_quality"


@final
class HorizontalFlip(AugmentationContract):
    """Mirroring left to right; 0 is the unchanged image, 1 its mirror image."""

    bound: ClassVar[float] = 1.0
    domain: ClassVar[Interval] = (0.0, 1.0)
    unit: ClassVar[str] = "0 or 1"
    moves: ClassVar[bool] = True
    discrete: ClassVar[bool] = True
    kind: Literal["horizontal_flip"] = "horizontal_flip"
    interval: tuple[Literal[0], Literal[1]] = (0, 1)


GmicFilter = Literal["freaky_details", "normalize_local", "boost_chroma", "mighty_details", "sharpen"]


@final
class Gmic(AugmentationContract):
    """A filter of G'MIC with the parameters of Erdem 2021, blended with the image; needs `auditcore[gmic]`.

    Attributes:
        filter: Name of the filter of G'MIC.
    """

    bound: ClassVar[float] = 1.0
    domain: ClassVar[Interval] = (0.0, 1.0)
    unit: ClassVar[str] = "share of the filtered image"
    moves: ClassVar[bool] = False
    needs_colors: ClassVar[frozenset[Colors] | None] = IN_COLOR
    kind: Literal["gmic"] = "gmic"
    filter: GmicFilter
    interval: Interval | Literal["auto"] = (0.0, 1.0)

    @property
    def label(self) -> str:
        """Variant of the results of this augmentation, such as `gmic_sharpen`."""
        return f"{self.kind}_{self.filter}"


Simple = Annotated[
    Brightness
    | Hue
    | Saturation
    | Contrast
    | GaussianNoise
    | GaussianBlur
    | JpegQuality
    | Gmic
    | Rotate
    | Translate
    | Scale
    | HorizontalFlip,
    Field(discriminator="kind"),
]
"""Augmentations that a composition may join."""


@final
class Composition(AugmentationContract):
    """Two augmentations in sequence, both with the same share of the way to the ends of their intervals.

    A share above 0 goes to the upper ends, one below 0 to the lower. One that has nothing on one side, such as
    noise below 0, stays as it is there; a side on which neither has anything is no part of `reach`.

    Attributes:
        second: Augmentation that is applied after the first.
    """

    bound: ClassVar[float] = 1.0
    domain: ClassVar[Interval] = (-1.0, 1.0)
    unit: ClassVar[str] = "share of both intervals"
    moves: ClassVar[bool] = False
    kind: Literal["composition"] = "composition"
    first: Simple = Field(description="Applied first. An automatic interval counts as the augmentation's whole bound.")
    second: Simple
    interval: Interval | Literal["auto"] = (-1.0, 1.0)

    @property
    def label(self) -> str:
        """Variant of the results of this augmentation, such as `rotate+brightness`."""
        return f"{self.first.label}+{self.second.label}"

    def undefined_for(self, colors: Colors) -> str | None:
        """Why one of the two is not defined for images with these channels."""
        return self.first.undefined_for(colors) or self.second.undefined_for(colors)

    @property
    def equivariant(self) -> bool:
        """Whether one of the two moves pixels."""
        return self.first.equivariant or self.second.equivariant

    @property
    def only_ends(self) -> bool:
        """Whether one of the two has only its ends as values."""
        return self.first.only_ends or self.second.only_ends

    @property
    def reach(self) -> Interval:
        """-1 to 1, without a side on which neither of the two changes anything."""
        parts = (self.first, self.second)
        return (
            -1.0 if any(part.extent[0] < part.identity for part in parts) else 0.0,
            1.0 if any(part.extent[1] > part.identity for part in parts) else 0.0,
        )

    @model_validator(mode="after")
    def _parts_go_together(self) -> Composition:
        if self.first.label == self.second.label:
            msg = f"{self.label} is one augmentation twice; compose two different ones"
            raise ValueError(msg)
        if not any(all(part.extent[side] != part.identity for part in (self.first, self.second)) for side in (0, 1)):
            msg = f"the two parts of {self.label} never change the image together; use others or widen the intervals"
            raise ValueError(msg)
        if self.only_ends and not all(value in {0.0, *self.reach} for value in self.interval):
            msg = f"{self.label} has only the ends of its interval as values; set them to -1, 0 or 1"
            raise ValueError(msg)
        return self


Augmentation = Annotated[
    Brightness
    | Hue
    | Saturation
    | Contrast
    | GaussianNoise
    | GaussianBlur
    | JpegQuality
    | Gmic
    | Rotate
    | Translate
    | Scale
    | HorizontalFlip
    | Composition,
    Field(discriminator="kind"),
]
