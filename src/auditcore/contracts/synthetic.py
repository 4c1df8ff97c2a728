"""What made-up images are made from, and how far a model relies on a planted shortcut."""

from __future__ import annotations

from typing import Annotated, Literal, final

from pydantic import Field, model_validator

from auditcore.contracts.contract import Contract

SMALLEST_SIDE_PX = 24
"""Below, a class of ten pixels no longer has an outline that differs from the others."""

LARGEST_SIDE_PX = 1024

MOST_PIXELS = 2**28
"""Pixels of all images together: 805 MB in memory, or 260 000 images of 32 x 32."""

OBJECT_CLASSES = (
    "disc",
    "triangle",
    "cross",
    "ring",
    "star",
    "square",
    "crescent",
    "hourglass",
    "arrow",
    "heart",
    "frame",
    "corner",
)
"""Outlines of objects. The first ones differ most; a dataset of n classes has the first n."""

SCENE_CLASSES = (
    "horizontal_stripes",
    "vertical_stripes",
    "blotches",
    "checks",
    "rings",
    "rising_stripes",
    "dots",
    "speckles",
    "rays",
    "falling_stripes",
    "zigzag",
    "diamonds",
)
"""Textures of scenes. The first ones differ most; a dataset of n classes has the first n."""

DIGITS = 1797
"""Images of scikit-learn's digits."""

SizePx = Annotated[
    int,
    Field(ge=SMALLEST_SIDE_PX, le=LARGEST_SIDE_PX, strict=True, description="Height and width of each image, in px."),
]

Seed = Annotated[
    int,
    Field(ge=0, lt=2**53, strict=True, description="Seed of all random numbers; the same seed gives the same pixels."),
]


@final
class Shortcut(Contract):
    """A mark in a corner of each image whose color predicts the class.

    The mark is a square of an eighth of the image's side, in one of the four corners, which is drawn at random. Each
    class has a color of its own. A mark that agrees at the rate of chance, 1 / number of classes, tells nothing.

    Attributes:
        agreement: Probability that the mark has the color of the image's own class. Otherwise it has that of another
            class, each with the same probability.
    """

    agreement: float = Field(ge=0, le=1)


@final
class ObjectsOnScenes(Contract):
    """Textured objects on textured scenes, with the labels of either.

    The outline of an object tells its class, the arrangement of a texture tells the class of a scene. Colors, the
    texture inside of objects, their size, place and angle tell nothing. Of the same parameters with other `labels`, the
    images are the same, except for marks of a shortcut.

    Source: Yang & Kim 2019 (BAM), with drawn shapes and textures in place of photos; Won et al. 2025, 3.4.2.

    Attributes:
        images: Number of images. A larger dataset begins with the smaller one.
        object_classes: Number of classes of objects.
        scene_classes: Number of classes of scenes.
        labels: What the label of an image is: the class of its object, or that of its scene.
        object_side: Least and largest diameter of an object, relative to the image's side.
        shortcut: A mark that predicts the label; null for images without marks.
    """

    kind: Literal["objects_on_scenes"] = "objects_on_scenes"
    images: int = Field(ge=1, le=1_000_000, strict=True)
    size_px: SizePx = 32
    object_classes: int = Field(default=10, ge=2, le=len(OBJECT_CLASSES), strict=True)
    scene_classes: int = Field(default=10, ge=2, le=len(SCENE_CLASSES), strict=True)
    labels: Literal["objects", "scenes"] = "objects"
    # up to 0.75, because objects stay clear of the corners where marks are
    object_side: tuple[
        Annotated[float, Field(ge=0.25, le=0.75)],
        Annotated[float, Field(ge=0.25, le=0.75)],
    ] = (0.45, 0.7)
    seed: Seed = 0
    shortcut: Shortcut | None = None

    @model_validator(mode="after")
    def _is_possible(self) -> ObjectsOnScenes:
        least, most = self.object_side
        if least > most:
            msg = f"`object_side` is [least, largest], got [{least:g}, {most:g}]; swap the two"
            raise ValueError(msg)
        _require_memory(self.images, self.size_px)
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes that labels are."""
        if self.labels == "objects":
            return OBJECT_CLASSES[: self.object_classes]
        return SCENE_CLASSES[: self.scene_classes]


@final
class Digits(Contract):
    """Scikit-learn's digits: 1797 handwritten digits of 8 x 8 pixels, white on black, enlarged.

    Source: Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, of which scikit-learn has the test set.

    Attributes:
        part: Which of the digits. The parts are consecutive in the file, 60, 20 and 20 % of it. Digits of one person
            mostly follow each other there, so that the parts have mostly other writers than each other.
        shortcut: A mark that predicts the digit; null for images without marks.
    """

    kind: Literal["digits"] = "digits"
    part: Literal["all", "training", "validation", "test"] = "all"
    size_px: SizePx = 32
    seed: Seed = 0
    shortcut: Shortcut | None = None

    @model_validator(mode="after")
    def _is_possible(self) -> Digits:
        _require_memory(DIGITS, self.size_px)
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes: the digits."""
        return tuple("0123456789")


SyntheticData = Annotated[ObjectsOnScenes | Digits, Field(discriminator="kind")]
"""Parameters of made-up images."""

Share = Annotated[float, Field(ge=0, le=1)]


@final
class ShortcutReliance(Contract):
    """How far a model follows the mark of a planted shortcut.

    Each image is shown twice: as it was before, without a mark or with that of its own class, and after, with the mark
    of another class and otherwise the same pixels.

    Attributes:
        images: Number of images.
        followed: Of the images whose prediction before is not the class of the later mark, the share whose prediction
            becomes this class. 0: no prediction follows the mark; 1: every one does. Null if there is no such image.
        counted: Number of these images.
        moved_probability: Mean over the images of the probability of the mark's class after, less that before. 0: the
            mark moves nothing; 1: it moves all of the probability to its class. Negative if the mark repels.
        accuracy_before: Share of the images whose prediction is their label before.
        accuracy_after: The same with contradicting marks.
        undefined: Why `followed` is null; null if it is not.
    """

    images: int = Field(ge=1)
    followed: Share | None
    counted: int = Field(ge=0)
    moved_probability: float = Field(ge=-1, le=1)
    accuracy_before: Share
    accuracy_after: Share
    undefined: str | None = None


def _require_memory(images: int, size_px: int) -> None:
    pixels = images * size_px**2
    if pixels > MOST_PIXELS:
        msg = (
            f"{images} images of {size_px} x {size_px} have {pixels} pixels, more than the {MOST_PIXELS} that are made "
            f"at once; lower `images` to {MOST_PIXELS // size_px**2}, or `size_px`"
        )
        raise ValueError(msg)
