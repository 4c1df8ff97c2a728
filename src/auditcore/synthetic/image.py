"""One made-up image: its pixels, and everything that is known of them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from auditcore.synthetic.marks import Mark, mark_color, mark_region

Pixels = UInt8[np.ndarray, "height width 3"]
Region = Bool[np.ndarray, "height width"]

Part = Literal["object", "scene", "mark"]
"""A part of an image; no pixel belongs to two of them, and each belongs to one."""


@final
@dataclass(frozen=True, eq=False)
class SyntheticImage:
    """An image whose truth is known.

    Attributes:
        number: Number in the generated dataset; it stays the same in splits, subsets and counterfactual images.
        label: Its class.
        object_label: Class of its object: the outline, or the digit.
        scene_label: Class of its scene; None for digits, whose scene is black.
        unmarked: Its pixels without a mark; not to be written to.
        object_region: Pixels of the object, exactly those that differ from the scene.
        mark: The mark of a planted shortcut; None without one.
        classes: Number of classes of labels, by which marks have their colors.
    """

    number: int
    label: int
    object_label: int
    scene_label: int | None
    unmarked: Pixels
    object_region: Region
    mark: Mark | None
    classes: int

    @property
    def name(self) -> str:
        """File name, by its number."""
        return f"{self.number:06d}.png"

    @property
    def pixels(self) -> Pixels:
        """The pixels with the mark, if there is one."""
        if self.mark is None:
            return self.unmarked
        marked = self.unmarked.copy()
        marked[mark_region(self.mark.corner, len(marked))] = mark_color(self.mark.predicts, self.classes)
        return marked

    def region(self, part: Part) -> Region:
        """Return the pixels of a part; none for the mark of an image without one."""
        size = len(self.unmarked)
        mark = np.zeros((size, size), dtype=bool) if self.mark is None else mark_region(self.mark.corner, size)
        if part == "mark":
            return mark
        return self.object_region if part == "object" else ~(self.object_region | mark)

    def png(self) -> bytes:
        """Return the image as a PNG file."""
        return png_of(self.pixels)


def png_of(pixels: Pixels) -> bytes:
    """Return pixels as a PNG file; its bytes are the same wherever Pillow compresses with the same library."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()
