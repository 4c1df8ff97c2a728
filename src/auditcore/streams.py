"""Randomness that belongs to an image, not to a batch.

One stream per (seed, image digest, purpose, index), with the numbers that NumPy draws on the CPU, wherever they are
drawn. A score therefore does not change with batch size, sharding, device, or the other explainers of a plan.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TypeGuard

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from auditcore.errors import ShapeError
from auditcore.transfer import empty_for, to_device

WORTH_THREADS = 100_000
"""Values from which several threads draw sooner than one: a map of 224 pixels takes 2 ms, a task of a pool 0.05."""


@dataclass(frozen=True)
class Streams:
    """The random streams of one micro-batch.

    Attributes:
        seed: The plan's seed.
        digests: Content digest of each image of the batch, in order.
        views: Name of the change each copy has undergone; empty for originals.
    """

    seed: int
    digests: tuple[str, ...]
    views: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse views that do not match the images."""
        if self.views and len(self.views) != len(self.digests):
            raise ShapeError(expected=f"{len(self.digests)} views", actual=len(self.views))

    def __len__(self) -> int:
        """Number of images."""
        return len(self.digests)

    def take(self, positions: Sequence[int]) -> Streams:
        """The streams of some images of this batch, in the order given."""
        return Streams(
            self.seed,
            tuple(self.digests[position] for position in positions),
            tuple(self.views[position] for position in positions) if self.views else (),
        )

    def viewing(self, views: Sequence[str]) -> Streams:
        """The streams of changed copies of these images, independent of the originals' and of each other's."""
        return Streams(self.seed, self.digests, tuple(views))

    def generator(self, position: int, purpose: str, index: int = 0) -> np.random.Generator:
        """The stream of one image.

        Philox is counter-based and keyed with 128 bits of a hash, so two streams never meet.

        Args:
            position: Position of the image in this batch.
            purpose: What the numbers are for, such as `smoothgrad/original`.
            index: Which draw for that purpose, such as the repeat number.
        """
        return np.random.Generator(np.random.Philox(key=self._key(position, purpose, index)))

    def _key(self, position: int, purpose: str, index: int) -> int:
        view = self.views[position] if self.views else "original"
        name = f"{self.seed}\0{self.digests[position]}\0{view}\0{purpose}\0{index}".encode()
        return int.from_bytes(hashlib.sha256(name).digest()[:16], "little")

    def _keys(self, purpose: str, index: int | Sequence[int]) -> list[int]:
        return [self._key(position, purpose, number) for position, number in enumerate(self._indices(index))]

    def _indices(self, index: int | Sequence[int]) -> Sequence[int]:
        """Which draw, for each image."""
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
        """Standard normal values of `shape` for every image, float32.

        Args:
            shape: Of the values of one image.
            purpose: What the numbers are for.
            index: Which draw for that purpose: one for all images, or one for each.
            device: Where the values are needed; the host does not wait for them. The CPU if None. CUDA draws them
                itself where `kernels_work`: the same numbers, but for the last bit of a few in the tails.
        """
        if _drawn_by(device):
            from auditcore.cuda_streams import normal_on_device  # noqa: PLC0415 - needs a compiler for CUDA

            return normal_on_device(self._keys(purpose, index), math.prod(shape), device).view(len(self), *shape)
        return self._filled(
            shape, purpose, index, device, lambda generator, row: generator.standard_normal(dtype=np.float32, out=row)
        )

    def uniform(
        self,
        shape: tuple[int, ...],
        purpose: str,
        index: int | Sequence[int] = 0,
        *,
        device: torch.device | None = None,
    ) -> Float[Tensor, "image ..."]:
        """Values in [0, 1) of `shape` for every image, float32; see `normal`. CUDA draws the same, bit for bit."""
        if _drawn_by(device):
            from auditcore.cuda_streams import uniform_on_device  # noqa: PLC0415 - needs a compiler for CUDA

            return uniform_on_device(self._keys(purpose, index), math.prod(shape), device).view(len(self), *shape)
        return self._filled(
            shape, purpose, index, device, lambda generator, row: generator.random(dtype=np.float32, out=row)
        )

    def _filled(
        self,
        shape: tuple[int, ...],
        purpose: str,
        index: int | Sequence[int],
        device: torch.device | None,
        draw: Callable[[np.random.Generator, NDArray[np.float32]], object],
    ) -> Float[Tensor, "image ..."]:
        """One row for each image, each from its own stream, so that threads may draw them in any order."""
        device = device or torch.device("cpu")
        drawn = empty_for((len(self), *shape), device)
        rows = drawn.numpy()

        numbers = self._indices(index)

        def fill(positions: range) -> None:
            for position in positions:
                draw(self.generator(position, purpose, numbers[position]), rows[position])

        threads = min(torch.get_num_threads(), len(self))
        if threads > 1 and rows.size >= WORTH_THREADS:
            # NumPy draws without the interpreter's lock; one task for each thread, since a task costs as much as a map
            list(_threads(threads).map(fill, [range(first, len(self), threads) for first in range(threads)]))
        else:
            fill(range(len(self)))
        return to_device(drawn, device)


def _drawn_by(device: torch.device | None) -> TypeGuard[torch.device]:
    """Whether a device draws random numbers itself."""
    return device is not None and device.type == "cuda" and kernels_work(device)


@functools.cache
def kernels_work(device: torch.device) -> bool:
    """Whether kernels of our own run on a CUDA device, and have shown that they give the host's numbers.

    They need Triton, which comes with torch for CUDA on Linux, a C compiler, and a folder for what they become.
    """
    if find_spec("triton") is None:
        return False
    from auditcore.cuda_streams import draws_as_the_host  # noqa: PLC0415 - needs Triton

    return draws_as_the_host(device)


@functools.cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="draw")
