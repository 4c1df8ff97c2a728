"""Draw attribution maps and photos as small PNG files; the same values give the same bytes."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import interpolate

from auditcore.contracts.preprocessing import Colors
from auditcore.metrics.constancy import is_constant
from auditcore.report.color_map import LEVELS, QUANTILE, color_of

SIDE_PX = 224
"""Longest side of a picture; larger maps and photos are downscaled by averaging."""

OPACITY = 0.65
"""Share of the map's color in a pixel; the rest is the gray photo."""

GRAYS = 12
"""Shades of the photo below a map."""

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601, as in Pillow's conversion to gray."""

MARK = (200, 120, 0)
"""Color of the cross over a constant map; neither red nor blue."""


def draw_photo(pixels: Float[Tensor, "channel height width"], colors: Colors = "rgb") -> bytes:
    """Draw the photo as the model sees it: resized and cropped, not normalized.

    Args:
        pixels: In pixel space [0, 1], on the CPU.
        colors: What the channels are. Gray is drawn as gray, and so is the mean of bands that are not red, green and
            blue.

    Returns:
        A PNG file in 24-bit color or 8-bit gray, of at most `SIDE_PX` per side.
    """
    shown = pixels.flip(0) if colors == "bgr" else pixels if colors == "rgb" else pixels.mean(dim=0, keepdim=True)
    values = _shrink(shown).clamp(0, 1).mul(255).round().to(torch.uint8)
    array = values[0] if len(values) == 1 else values.permute(1, 2, 0)
    return _png(Image.fromarray(np.ascontiguousarray(array.numpy())))


def draw_map(
    values: Float[Tensor, "height width"], pixels: Float[Tensor, "channel height width"], colors: Colors = "rgb"
) -> bytes:
    """Draw a signed map in color over the gray photo: blue is negative, white 0, red positive.

    Full color is the map's own 99.5 % quantile of absolute values, so colors can be compared within a map but not
    between maps. A map that is constant or not finite has no such scale; its photo is crossed out.

    Args:
        values: One attribution per pixel, on the CPU.
        pixels: The photo in pixel space [0, 1], on the CPU.
        colors: What its channels are.

    Returns:
        A PNG file with a palette, of at most `SIDE_PX` per side.
    """
    scaled = _scale(_shrink(values[None])[0])
    grays = _gray(_shrink(pixels), colors).clamp(0, 1).mul(GRAYS - 1).round()
    levels = torch.zeros_like(grays) if scaled is None else scaled.mul(LEVELS).round()
    codes = ((levels + LEVELS) * GRAYS + grays).to(torch.uint8)
    picture = Image.fromarray(codes.numpy())
    picture.putpalette(_palette())
    if scaled is None:
        _cross_out(picture)
    return _png(picture)


def _gray(pixels: Float[Tensor, "channel height width"], colors: Colors) -> Float[Tensor, "height width"]:
    """Luma of red, green and blue; the mean of other channels."""
    if colors not in {"rgb", "bgr"}:
        return pixels.mean(dim=0)
    weights = LUMA if colors == "rgb" else LUMA[::-1]
    return (pixels * torch.tensor(weights).view(3, 1, 1)).sum(dim=0)


def _shrink(planes: Float[Tensor, "plane height width"]) -> Float[Tensor, "plane low narrow"]:
    """Downscale planes to at most `SIDE_PX` per side; each pixel is the mean of the pixels it covers."""
    height, width = planes.shape[1:]
    longest = max(height, width)
    if longest <= SIDE_PX:
        return planes
    size = (max(1, height * SIDE_PX // longest), max(1, width * SIDE_PX // longest))
    return interpolate(planes[None], size=size, mode="area")[0]


def _scale(values: Float[Tensor, "height width"]) -> Float[Tensor, "height width"] | None:
    """Scale values to [-1, 1]; None if the map has no scale."""
    row = values.reshape(1, -1)
    if is_constant(row, torch.ones_like(row, dtype=torch.bool)).item():
        return None
    magnitudes = row.abs().numpy()
    # a map that is 0 nearly everywhere has a quantile of 0
    full = float(np.quantile(magnitudes, QUANTILE)) or float(magnitudes.max())
    return values.div(full).clamp(-1, 1)


@cache
def _palette() -> bytes:
    """Return the palette: every shade of the map over every gray of the photo, and the color of the cross."""
    colors = [
        round(OPACITY * part + (1 - OPACITY) * 255 * gray / (GRAYS - 1))
        for level in range(-LEVELS, LEVELS + 1)
        for gray in range(GRAYS)
        for part in color_of(level / LEVELS)
    ]
    return bytes((*colors, *MARK))


def _cross_out(picture: Image.Image) -> None:
    right, bottom = picture.width - 1, picture.height - 1
    pen = ImageDraw.Draw(picture)
    mark, thickness = (2 * LEVELS + 1) * GRAYS, max(1, picture.width // 56)
    pen.line((0, 0, right, bottom), fill=mark, width=thickness)
    pen.line((0, bottom, right, 0), fill=mark, width=thickness)


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()
