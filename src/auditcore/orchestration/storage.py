"""What an audit needs of the place where its images, maps, pictures and results are kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from auditcore.contracts.policy import Row
from auditcore.contracts.shards import ShardResult, Wave
from auditcore.images.encoded import EncodedImage
from auditcore.report.stopping import Observations


@runtime_checkable
class AuditStorage(Protocol):
    """The images, uploaded maps, pictures and shard results of one audit.

    Two implementations: `InMemoryStorage` of the library, and the SQL database with blobs of the service.
    """

    def read_images(self, indices: Sequence[int], *, progress: Callable[[float], None]) -> Sequence[EncodedImage]:
        """The images of these indices of the batch, in this order.

        Args:
            indices: Positions in the batch, counted from 0.
            progress: Called before every slow read; may raise AuditCancelled.

        Raises:
            InputError: An image cannot be read.
        """

    def read_maps(self, digest: str) -> bytes:
        """A file of uploaded maps.

        Raises:
            InputError: Nothing is stored under the digest, or its bytes have another digest.
        """

    def keep_picture(self, data: bytes) -> str:
        """Keep a PNG file and return its digest."""

    def results(self, wave: Wave, *, model: int | None = None) -> Iterator[ShardResult]:
        """Results of the finished shards of a wave in index order, one at a time.

        Args:
            wave: Which wave.
            model: Position of a model in the request; all models if None.
        """

    def observations(self, rows: Collection[Row]) -> Iterable[Observations]:
        """The values of some results in the finished shards of the compute wave, in any order."""
