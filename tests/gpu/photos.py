"""Many photos at once: cutting and packing them takes longer than auditing them on a fast card."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from auditcore.images.encoded import EncodedImage
from benchmarks import subjects

SLICE = 8


def photos(count: int) -> list[EncodedImage]:
    """The same photos as `benchmarks.subjects.photos`, made on all cores; Pillow works outside Python's lock."""
    starts = range(0, count, SLICE)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = pool.map(lambda first: subjects.photos(min(SLICE, count - first), first=first), starts)
        return list(chain.from_iterable(parts))
