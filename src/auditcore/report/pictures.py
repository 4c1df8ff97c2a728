"""Draw photos and signed maps as small WebP files; the same values give the same bytes on the same libraries."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from auditcore.contracts.preprocessing import Colors
from auditcore.metrics.constancy import is_constant

PHOTO_PX: Final = 224
"""Longest side of a photo; larger ones are downscaled by averaging."""

PHOTO_QUALITY: Final = 60
"""Of WebP, in [0, 100]; a photo takes 5 KB on average."""

LOSSLESS_PX: Final = 32
"""Longest side up to which pictures are exact. Each pixel of such an input is seen, and blurred by a lossy format."""

WEBP_PX: Final = 16_383
"""Largest side of a WebP file."""

QUANTILE: Final = 0.995
"""Quantile of absolute values that is drawn as 1; the few values above it would leave nothing to see of all others."""


@final
@dataclass(frozen=True)
class Detail:
    """How finely maps are drawn.

    Attributes:
        side_px: Longest side of a map; larger ones are downscaled by averaging.
        quality: Of WebP, in [0, 100].
    """

    side_px: int
    quality: int


_DETAILS: Final = ((120, Detail(224, 50)), (300, Detail(160, 35)))
"""Most maps of an audit that are drawn so. The gradient of a photo takes 11 KB and 5 KB, a map of Grad-CAM 0.4 KB."""

_COARSEST: Final = Detail(128, 30)
"""The gradient of a photo takes 3 KB, so that 800 maps and 100 photos fit a page of 3 MB."""


def detail_of(maps: int) -> Detail:
    """How finely an audit with this many maps draws them, so that a page can hold those of its worst images."""
    return next((detail for most, detail in _DETAILS if maps <= most), _COARSEST)


def draw_photo(pixels: Float[Tensor, "channel height width"], colors: Colors = "rgb") -> bytes:
    """Draw the photo as the model sees it: resized and cropped, not normalized.

    Args:
        pixels: In pixel space [0, 1], on the CPU.
        colors: What the channels are. Gray is drawn as gray, and so is the mean of bands that are not red, green and
            blue.

    Returns:
        A WebP file of at most `PHOTO_PX` per side.
    """
    shown = pixels.flip(0) if colors == "bgr" else pixels if colors == "rgb" else pixels.mean(dim=0, keepdim=True)
    values = _shrink(shown, PHOTO_PX).clamp(0, 1).mul(255).round().to(torch.uint8)
    return _webp(values[0] if len(values) == 1 else values.permute(1, 2, 0), PHOTO_QUALITY)


def draw_maps(maps: Float[Tensor, "map height width"], detail: Detail) -> tuple[bytes, tuple[bool, ...]]:
    """Draw the maps of one image below each other, as gray pictures of their values.

    A map is divided by the 99.5 % quantile of its own absolute values and limited to [-1, 1]; -1 is drawn as 0, 0 as
    127.5, which is rounded up to 128, and 1 as 255. So grays can be compared within a map but not between maps.

    Args:
        maps: At least one map of one attribution per pixel, on the CPU.
        detail: How finely to draw them.

    Returns:
        A WebP file, and for each map whether it is constant or not finite: it has no scale, and is drawn as 0.
    """
    side_px = min(detail.side_px, WEBP_PX // len(maps))
    scaled = [_scale(plane) for plane in _shrink(maps, side_px)]
    planes = [torch.zeros_like(maps[0, :1, :1]) if plane is None else plane for plane in scaled]
    height, width = _size(maps, side_px)
    grays = torch.cat([plane.expand(height, width) for plane in planes]).mul(127.5).add(127.5)
    # half is rounded up, so that every zero has the same gray
    return _webp(grays.add(0.5).floor().to(torch.uint8), detail.quality), tuple(plane is None for plane in scaled)


def _size(planes: Float[Tensor, "plane height width"], side_px: int) -> tuple[int, int]:
    height, width = planes.shape[1:]
    longest = max(height, width)
    if longest <= side_px:
        return height, width
    return max(1, height * side_px // longest), max(1, width * side_px // longest)


def _shrink(planes: Float[Tensor, "plane height width"], side_px: int) -> Float[Tensor, "plane low narrow"]:
    """Downscale planes to at most `side_px` per side; each pixel is the mean of the pixels it covers."""
    size = _size(planes, side_px)
    return planes if size == planes.shape[1:] else interpolate(planes[None], size=size, mode="area")[0]


def _scale(values: Float[Tensor, "height width"]) -> Float[Tensor, "height width"] | None:
    """Scale values to [-1, 1]; None if the map has no scale."""
    row = values.reshape(1, -1)
    if is_constant(row, torch.ones_like(row, dtype=torch.bool)).item():
        return None
    magnitudes = row.abs().numpy()
    # a map that is 0 nearly everywhere has a quantile of 0
    full = float(np.quantile(magnitudes, QUANTILE)) or float(magnitudes.max())
    return values.div(full).clamp(-1, 1)


def _webp(pixels: UInt8[Tensor, "height width"] | UInt8[Tensor, "height width 3"], quality: int) -> bytes:
    file = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(pixels.numpy()))
    picture.save(file, format="WEBP", quality=quality, lossless=max(pixels.shape[:2]) <= LOSSLESS_PX, exact=True)
    return file.getvalue()
