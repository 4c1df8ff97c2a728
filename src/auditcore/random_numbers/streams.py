"""Random streams that belong to an image, not to a batch.

There is one stream per (seed, image digest, purpose, index). Every device draws the numbers that NumPy draws on the
CPU. A score therefore does not depend on batch size, sharding, device, or the other explainers of a plan.
"""

from __future__ import annotations

import functools
import hashlib
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Literal, TypeGuard

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from auditcore.devices.transfer import empty_for, to_device
from auditcore.errors import ShapeError

WORTH_THREADS = 100_000
"""Number of values from which several threads are faster: a map of 224 x 224 takes 2 ms, a task of a pool 0.05 ms."""


KEPT_BYTES = 64 * 2**20
"""Memory for numbers that changed copies draw again: at 224 x 224 pixels, the noise of two images with 50 samples.
Copies come image by image, so a copy mostly draws the same numbers as the copy before it. Drawing a map of 224 x 224
takes 2 ms, copying it 0.1 ms."""


class KeptDraws:
    """A cache of numbers drawn on the CPU that will soon be needed again; evicts the least recently used first."""

    def __init__(self, limit_bytes: int = KEPT_BYTES) -> None:
        """Keep at most `limit_bytes`."""
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._rows: OrderedDict[tuple[object, ...], NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[object, ...]) -> NDArray[np.float32] | None:
        """Return the numbers kept under a key, which must not be modified, or None if there are none."""
        with self._lock:
            found = self._rows.get(key)
            if found is not None:
                self._rows.move_to_end(key)
            return found

    def keep(self, key: tuple[object, ...], row: NDArray[np.float32]) -> None:
        """Keep a copy of numbers, unless they alone exceed the limit."""
        if row.nbytes > self._limit_bytes:
            return
        with self._lock:
            if key in self._rows:
                return
            self._rows[key] = row.copy()
            self._bytes += row.nbytes
            while self._bytes > self._limit_bytes:
                _, oldest = self._rows.popitem(last=False)
                self._bytes -= oldest.nbytes


@dataclass(frozen=True)
class Streams:
    """The random streams of one micro-batch.

    Attributes:
        seed: The plan's seed.
        digests: Content digest of each image of the batch, in order.
        views: Name of each copy's change; empty for originals, and for copies that draw the numbers of their originals.
        copies: Name of the change of each copy that draws the numbers of its original; see `apart`.
        kept: Cache of numbers that other copies draw too, or None.
    """

    seed: int
    digests: tuple[str, ...]
    views: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    kept: KeptDraws | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse views that do not match the images."""
        for names in (self.views, self.copies):
            if names and len(names) != len(self.digests):
                raise ShapeError(expected=f"{len(self.digests)} views", actual=len(names))

    def __len__(self) -> int:
        """Number of images."""
        return len(self.digests)

    def take(self, positions: Sequence[int]) -> Streams:
        """Return the streams of some images of this batch, in the given order."""
        return replace(
            self,
            digests=tuple(self.digests[position] for position in positions),
            views=tuple(self.views[position] for position in positions) if self.views else (),
            copies=tuple(self.copies[position] for position in positions) if self.copies else (),
        )

    def viewing(self, views: Sequence[str]) -> Streams:
        """Return streams of changed copies of these images, independent of the originals and of each other."""
        return replace(self, views=tuple(views), copies=())

    def sharing(self, copies: Sequence[str], kept: KeptDraws | None = None) -> Streams:
        """Return streams of changed copies that draw the numbers of their originals; `apart` gives each copy its own.

        Args:
            copies: Name of each copy's change.
            kept: Cache of numbers for the copies that follow.
        """
        return replace(self, views=(), copies=tuple(copies), kept=kept)

    @property
    def apart(self) -> Streams:
        """Streams in which every copy draws its own numbers, also where explainers draw those of the originals."""
        return replace(self, views=self.copies, copies=(), kept=None) if self.copies else self

    def generator(self, position: int, purpose: str, index: int = 0) -> np.random.Generator:
        """Return the random generator of one image.

        Philox is counter-based and its key is 128 bits of a hash, so two streams never overlap.

        Args:
            position: Position of the image in this batch.
            purpose: What the numbers are for, such as `smoothgrad/original`.
            index: Number of the draw for that purpose, such as the repeat.
        """
        return np.random.Generator(np.random.Philox(key=self._key(position, purpose, index)))

    def _key(self, position: int, purpose: str, index: int) -> int:
        view = self.views[position] if self.views else "original"
        name = f"{self.seed}\0{self.digests[position]}\0{view}\0{purpose}\0{index}".encode()
        return int.from_bytes(hashlib.sha256(name).digest()[:16], "little")

    def _keys(self, purpose: str, index: int | Sequence[int]) -> list[int]:
        return [self._key(position, purpose, number) for position, number in enumerate(self._indices(index))]

    def _indices(self, index: int | Sequence[int]) -> Sequence[int]:
        """Return the number of the draw for each image."""
        if isinstance(index, int):
            return [index] * len(self)
        if len(index) != len(self):
            raise ShapeError(expected=f"{len(self)} indices", actual=len(index))
        return index

    def normal(
        self,
        shape: tuple[int, ...],
        purpose: str,
        index: int | Sequence[int] = 0,
        *,
        device: torch.device | None = None,
    ) -> Float[Tensor, "image ..."]:
        """Draw standard normal values of `shape` for every image, float32.

        Args:
            shape: Shape of the values of one image.
            purpose: What the numbers are for.
            index: Number of the draw for that purpose: one for all images, or one per image.
            device: Device of the result, the CPU if None; the host does not wait for it. CUDA draws the numbers itself
                where `kernels_work`: the same numbers, except for the last bit of a few in the tails.
        """
        if _drawn_by(device):
            from auditcore.random_numbers.cuda_streams import normal_on_device  # noqa: PLC0415 - needs a compiler for CUDA

            return normal_on_device(self._keys(purpose, index), math.prod(shape), device).view(len(self), *shape)
        return self._filled("normal", shape, purpose, index, device)

    def uniform(
        self,
        shape: tuple[int, ...],
        purpose: str,
        index: int | Sequence[int] = 0,
        *,
        device: torch.device | None = None,
    ) -> Float[Tensor, "image ..."]:
        """Draw values in [0, 1) of `shape` for every image, float32; see `normal`. CUDA draws the same bits."""
        if _drawn_by(device):
            from auditcore.random_numbers.cuda_streams import uniform_on_device  # noqa: PLC0415 - needs a compiler for CUDA

            return uniform_on_device(self._keys(purpose, index), math.prod(shape), device).view(len(self), *shape)
        return self._filled("uniform", shape, purpose, index, device)

    def _filled(
        self,
        law: Literal["normal", "uniform"],
        shape: tuple[int, ...],
        purpose: str,
        index: int | Sequence[int],
        device: torch.device | None,
    ) -> Float[Tensor, "image ..."]:
        """Draw one row per image, each from its own stream, so threads may draw them in any order."""
        device = device or torch.device("cpu")
        drawn = empty_for((len(self), *shape), device)
        rows = drawn.numpy()

        numbers = self._indices(index)
        kept = self.kept

        def fill(positions: range) -> None:
            for position in positions:
                if kept is None:
                    _DRAWS[law](self.generator(position, purpose, numbers[position]), rows[position])
                    continue
                key = (self._key(position, purpose, numbers[position]), law, shape)
                known = kept.get(key)
                if known is None:
                    _DRAWS[law](self.generator(position, purpose, numbers[position]), rows[position])
                    kept.keep(key, rows[position])
                else:
                    rows[position] = known

        threads = min(torch.get_num_threads(), len(self))
        if threads > 1 and rows.size >= WORTH_THREADS:
            # NumPy releases the GIL while it draws; one task per thread, because tasks have a cost of their own
            list(_threads(threads).map(fill, [range(first, len(self), threads) for first in range(threads)]))
        else:
            fill(range(len(self)))
        return to_device(drawn, device)


_DRAWS: dict[str, Callable[[np.random.Generator, NDArray[np.float32]], object]] = {
    "normal": lambda generator, row: generator.standard_normal(dtype=np.float32, out=row),
    "uniform": lambda generator, row: generator.random(dtype=np.float32, out=row),
}
"""Functions that fill a row with NumPy's numbers."""


def _drawn_by(device: torch.device | None) -> TypeGuard[torch.device]:
    """Return whether a device draws random numbers itself."""
    return device is not None and device.type == "cuda" and kernels_work(device)


@functools.cache
def kernels_work(device: torch.device) -> bool:
    """Return whether our own kernels run on a CUDA device and give the host's numbers.

    They need Triton, which comes with torch for CUDA on Linux, a C compiler, and a folder for compiled kernels.
    """
    if find_spec("triton") is None:
        return False
    from auditcore.random_numbers.cuda_streams import draws_as_the_host  # noqa: PLC0415 - needs Triton

    return draws_as_the_host(device)


@functools.cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="draw")
