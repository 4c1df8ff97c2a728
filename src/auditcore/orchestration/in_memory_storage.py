"""An audit in one process: everything it reads and makes stays in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from typing import final

from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.policy import Row
from auditcore.contracts.shards import ShardResult, Wave
from auditcore.errors import DigestMismatch, UnreachableResource
from auditcore.images.encoded import EncodedImage
from auditcore.orchestration.sharding import ShardRange
from auditcore.report.stopping import Observations, observe


@final
class InMemoryStorage:
    """The storage of an audit in this process; an `AuditStorage`.

    Attributes:
        finished: The shards that are done, in the order in which they were done, with their results.
    """

    def __init__(
        self,
        images: Sequence[EncodedImage],
        *,
        maps: Mapping[str, bytes] | None = None,
        pictures: MutableMapping[str, bytes] | None = None,
    ) -> None:
        """Keep images and maps by reference.

        Args:
            images: The batch.
            maps: Digest -> bytes of a file of maps.
            pictures: Receives the bytes of every picture by its digest.
        """
        self.finished: dict[ShardRange, ShardResult] = {}
        self._images = images
        self._maps = maps or {}
        self._verified: set[str] = set()
        self._pictures = {} if pictures is None else pictures
        self._observations: list[Observations] = []

    def keep_result(self, shard: ShardRange, result: ShardResult) -> None:
        """Add the result of a shard that is done."""
        self.finished[shard] = result

    def read_images(self, indices: Sequence[int], *, progress: Callable[[float], None]) -> Sequence[EncodedImage]:  # noqa: ARG002 - nothing here is slow
        """The images of these indices of the batch, in this order."""
        return [self._images[index] for index in indices]

    def read_maps(self, digest: str) -> bytes:
        """A file of uploaded maps.

        Raises:
            UnreachableResource: No maps with this digest were given.
            DigestMismatch: The bytes given under this digest have another one.
        """
        data = self._maps.get(digest)
        if data is None:
            msg = f"no maps {digest} were given; pass their bytes as `maps`"
            raise UnreachableResource(msg, field="plan.explainers")
        if digest not in self._verified:
            if sha256(data) != digest:
                raise DigestMismatch(expected=digest, actual=sha256(data), field="plan.explainers")
            self._verified.add(digest)
        return data

    def keep_picture(self, data: bytes) -> str:
        """Keep a PNG file and return its digest."""
        digest = sha256(data)
        self._pictures[digest] = data
        return digest

    def results(self, wave: Wave, *, model: int | None = None) -> Iterator[ShardResult]:
        """Results of the finished shards of a wave, of one model or of all."""
        for shard, result in self.finished.items():
            if shard.wave == wave and model in {None, shard.model}:
                yield result

    def observations(self, rows: Collection[Row]) -> Sequence[Observations]:
        """The values of some results in the finished shards of the compute wave."""
        computed = [result for shard, result in self.finished.items() if shard.wave == "compute"]
        self._observations += [observe(rows, result) for result in computed[len(self._observations) :]]
        return self._observations
