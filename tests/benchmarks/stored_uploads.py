"""What it costs that an upload reaches the disk before it is answered: `python tests/benchmarks/stored_uploads.py`."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable

from auditcore_service.store.blobs import BlobStore

PHOTOS, BYTES, ROUNDS = 100, 200_000, 5


def milliseconds(work: Callable[[], object]) -> float:
    """How long some work takes."""
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)


def main() -> None:
    """Print medians over some rounds, each in a new folder."""
    photos = [os.urandom(BYTES) for _ in range(PHOTOS)]
    taken: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as together, tempfile.TemporaryDirectory() as alone:
            store, other = BlobStore(f"file://{together}"), BlobStore(f"file://{alone}")
            digests: list[str] = []
            for name, work in {
                "write": lambda: digests.extend(store.write(photo) for photo in photos),  # noqa: B023 - called at once
                "wait for the disk once": lambda: store.sync(digests),  # noqa: B023 - called at once
                "find and compare": lambda: [store.write(photo) for photo in photos],  # noqa: B023 - called at once
                "write, wait after each": lambda: [other.put(photo) for photo in photos],  # noqa: B023 - called at once
            }.items():
                taken.setdefault(name, []).append(milliseconds(work))
    for name, values in taken.items():
        print(f"{name:<24} {statistics.median(values):6.0f} ms for {PHOTOS} photos of {BYTES} bytes")  # noqa: T201 - it prints


if __name__ == "__main__":
    main()
