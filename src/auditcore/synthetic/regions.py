"""Boxes and run lengths of regions, exact to the pixel."""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Bool

from auditcore.contracts.images import Box
from auditcore.contracts.run_lengths import RunLengths

Region = Bool[np.ndarray, "height width"]


def box_of(region: Region, *, label: int | None) -> Box:
    """Return the smallest box around a region that is not empty.

    Args:
        region: Its pixels.
        label: Class that it shows; None if it counts for every target.
    """
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    return Box(x0=float(columns[0]), y0=float(rows[0]), x1=float(columns[-1] + 1), y1=float(rows[-1] + 1), label=label)


def run_lengths_of(region: Region) -> RunLengths:
    """Return a region in COCO's run lengths: column by column, the first run is outside."""
    pixels = region.T.ravel()
    edges = [0, *(np.flatnonzero(np.diff(pixels)) + 1).tolist(), pixels.size]
    lengths = tuple(end - start for start, end in itertools.pairwise(edges))
    return RunLengths(size=(region.shape[0], region.shape[1]), counts=(0, *lengths) if pixels[0] else lengths)
