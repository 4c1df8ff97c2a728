"""A picture of some images of datasets, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from auditcore.synthetic.dataset import SyntheticDataset
from auditcore.synthetic.image import png_of

_GAP_PX = 4
_LEAST_SIDE_PX = 64
"""Side of an image in the picture, at least; smaller images are enlarged by whole factors, so that pixels show."""


def overview_png(rows: Sequence[SyntheticDataset], *, columns: int) -> bytes:
    """Return a PNG that shows the first images of each dataset as a row; the same columns are the same numbers.

    Args:
        rows: Datasets of one size of images.
        columns: Images of a row, at most; a shorter dataset leaves its row white from its end on.
    """
    side = rows[0].parameters.size_px
    factor = -(-_LEAST_SIDE_PX // side)
    step = side * factor + _GAP_PX
    picture = np.full((len(rows) * step - _GAP_PX, columns * step - _GAP_PX, 3), 255, dtype=np.uint8)
    for row, dataset in enumerate(rows):
        for column, image in enumerate(dataset.images[:columns]):
            enlarged = image.pixels.repeat(factor, axis=0).repeat(factor, axis=1)
            picture[row * step : row * step + side * factor, column * step : column * step + side * factor] = enlarged
    return png_of(picture)
