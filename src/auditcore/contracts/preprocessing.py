"""From a file to what the model sees: values, colors, size, normalization."""

from __future__ import annotations

from typing import Annotated, Literal, final

from pydantic import Field, model_validator

from auditcore.contracts.contract import Contract
from auditcore.contracts.input_shape import InputShape

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Fit = Literal["shorter", "longer", "squash", "letterbox", "cover"]
CropOffset = Literal["round", "floor"]
Colors = Literal["rgb", "bgr", "gray", "bands"]
Channels = Annotated[tuple[float, ...], Field(min_length=1, max_length=64)]
ChannelNumber = Annotated[int, Field(ge=0, le=63)]
SidePx = Annotated[int, Field(ge=8, le=4096)]

IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)

_RGB_CHANNELS = 3
_LARGEST_STD = 10.0
"""A standard deviation of values in [0, 1] is below 1; one of values from 0 to 255 is about 60."""


@final
class Size(Contract):
    """Height and width, for models whose input is not square."""

    height: SidePx = Field(description="Height, in pixels.")
    width: SidePx = Field(description="Width, in pixels.")


@final
class Window(Contract):
    """The values that are shown, as radiologists declare them: everything below is black, everything above white."""

    center: float = Field(description="Value in the middle of the window.")
    width: float = Field(gt=0, description="From the value that becomes black to the one that becomes white.")


@final
class Preprocessing(Contract):
    """From a file to the model's input.

    1. The file's values become [0, 1]: by the range of their type, or by `bits`, `range` or `window`.
    2. They become the channels of `colors`: RGB, BGR, gray, or the bands of the file.
    3. The image is resized as `fit` says, then its center is cropped.
    4. (x - mean) / std, for each channel. Their number is the number of channels.

    The image between 3 and 4 is in pixel space [0, 1]: augmentations and fills work there.
    """

    resize: SidePx | Size | None = Field(
        default=256,
        description="What images are resized to: one side, in pixels, as `fit` says; or height and width, for "
        "`squash`, `letterbox` and `cover`. Null: images keep their size.",
    )
    fit: Fit = Field(
        default="shorter",
        description="`shorter`: the shorter side becomes `resize`. `longer`: the longer side does. `squash`: both "
        "sides do, whatever the proportions. `letterbox`: the whole image fits inside, and the rest is `pad`. "
        "`cover`: the image covers height and width, and the rest of it is cut.",
    )
    crop: SidePx | Size | None = Field(
        default=224,
        description="Center that the model sees: a square of this side, in pixels, or height and width. A smaller "
        "image is surrounded by `pad`. Null, with `squash`, `letterbox` or `cover`: the size of `resize`.",
    )
    crop_offset: CropOffset = Field(
        default="round",
        description="Where the crop begins if an odd number of pixels is cut: `round`, to the nearest even number, as "
        "in torchvision and timm; `floor`, one pixel earlier at times, as in transformers.",
    )
    pad: Annotated[float, Field(ge=0, le=1)] | Channels = Field(
        default=0.0, description="What surrounds an image, in [0, 1]: one value, or one per channel. 0 is black."
    )
    keep_final: bool = Field(
        default=False,
        description="Whether an image that has the height and width of the model's input already is left as it is; "
        "otherwise it is resized and cropped like any other.",
    )
    interpolation: Interpolation = Field(default="bilinear", description="How images are resampled.")
    antialias: bool = Field(
        default=True, description="Whether a reduced image is smoothed first, as Pillow does and OpenCV does not."
    )
    colors: Colors | None = Field(
        default=None,
        description="What the channels are: `rgb` (default for three), `bgr`, `gray` (default for one), or `bands`: "
        "the file's own, in their order (default for other numbers).",
    )
    pictured: tuple[ChannelNumber, ChannelNumber, ChannelNumber] | None = Field(
        default=None,
        exclude_if=lambda pictured: pictured is None,
        description="The channels, counted from 0, that pictures of the report show as red, green and blue. If null, "
        "pictures of bands are gray, the mean of all.",
    )
    bits: int | None = Field(
        default=None, ge=1, le=32, description="Bits that a file uses: with 12, the value 4095 becomes 1."
    )
    range: tuple[float, float] | None = Field(
        default=None, description="Values of a file that become 0 and 1; what lies outside is clipped."
    )
    window: Window | None = Field(default=None, description="The same as `range`, by center and width.")
    mean: Channels = Field(default=IMAGENET_MEAN, description="Mean of each channel, of values in [0, 1].")
    std: Channels = Field(default=IMAGENET_STD, description="Standard deviation of each channel, above 0.")

    @property
    def shape(self) -> InputShape:
        """Channels, height and width of the model's input."""
        size = self.resize if self.crop is None else self.crop
        height, width = (size.height, size.width) if isinstance(size, Size) else (size or 0, size or 0)
        return InputShape(len(self.mean), height, width)

    @property
    def colors_seen(self) -> Colors:
        """What the channels are, whether it was declared or not."""
        if self.colors is not None:
            return self.colors
        channels = len(self.mean)
        return "rgb" if channels == _RGB_CHANNELS else "gray" if channels == 1 else "bands"

    @property
    def declared_range(self) -> tuple[float, float] | None:
        """The values of a file that become 0 and 1; None if they are those of its type."""
        if self.bits is not None:
            return 0.0, float(2**self.bits - 1)
        if self.window is not None:
            half = self.window.width / 2
            return self.window.center - half, self.window.center + half
        return self.range

    @model_validator(mode="after")
    def _sizes_fit(self) -> Preprocessing:
        both = self.fit in {"squash", "letterbox", "cover"}
        if self.crop is None and (self.resize is None or not both):
            msg = "without `crop`, `fit` must be squash, letterbox or cover, which give the input its size; add `crop`"
            raise ValueError(msg)
        if isinstance(self.resize, Size) and not both:
            msg = (
                f"`resize` has height and width, and `fit` {self.fit!r} takes one side; use squash, letterbox or cover"
            )
            raise ValueError(msg)
        square = isinstance(self.resize, int) and isinstance(self.crop, int)
        # with `pad` declared, the model sees a border on purpose
        if square and self.fit != "longer" and "pad" not in self.model_fields_set and self.resize < self.crop:  # type: ignore[operator]
            msg = f"resize ({self.resize}) must be at least crop ({self.crop})"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _channels_fit(self) -> Preprocessing:
        channels = len(self.mean)
        if channels != len(self.std):
            msg = f"mean has {channels} values and std {len(self.std)}; give one of each per channel"
            raise ValueError(msg)
        if isinstance(self.pad, tuple) and len(self.pad) != channels:
            msg = f"pad has {len(self.pad)} values and mean {channels}; give one value, or one per channel"
            raise ValueError(msg)
        if self.pictured is not None and self.colors_seen != "bands":
            msg = f"`pictured` chooses among bands, and the channels are {self.colors_seen}; leave it out"
            raise ValueError(msg)
        if self.pictured is not None and max(self.pictured) >= channels:
            msg = f"`pictured` names channel {max(self.pictured)}, and the last of {channels} is {channels - 1}"
            raise ValueError(msg)
        needed = {"rgb": _RGB_CHANNELS, "bgr": _RGB_CHANNELS, "gray": 1}.get(self.colors or "", channels)
        if channels != needed:
            msg = f"`colors` {self.colors!r} has {needed} channels, but mean and std have {channels} values"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _scale_fits(self) -> Preprocessing:
        if min(self.std) <= 0:
            msg = "every std must be above 0"
            raise ValueError(msg)
        if max(self.mean) > 1 or max(self.std) > _LARGEST_STD:
            msg = (
                f"mean {list(self.mean)} and std {list(self.std)} seem to be of values from 0 to 255, but they are of "
                "values from 0 to 1; divide them by 255"
            )
            raise ValueError(msg)
        if isinstance(self.pad, tuple) and not all(0 <= value <= 1 for value in self.pad):
            msg = f"pad {list(self.pad)} must lie in [0, 1]; divide it by 255 if it is a color from 0 to 255"
            raise ValueError(msg)
        given = [name for name in ("bits", "range", "window") if getattr(self, name) is not None]
        if len(given) > 1:
            msg = f"{' and '.join(given)} say which values become 0 and 1; give one of them"
            raise ValueError(msg)
        if self.range is not None and self.range[0] >= self.range[1]:
            msg = f"range {list(self.range)} must begin below its end"
            raise ValueError(msg)
        return self
