"""Results of an audit's shards among kept files, until its report is made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from auditcore.contracts.shards import ShardResult
from auditcore.kept_files import KeptFiles
from auditcore.orchestration.sharding import ShardRange


@final
class KeptResults:
    """What an audit that was interrupted goes on from."""

    def __init__(self, kept: KeptFiles | None, audit: str) -> None:
        """Remember where to look.

        Args:
            kept: Where results are kept; None to keep nothing.
            audit: Name of the audit among the kept files.
        """
        self._kept = kept
        self._audit = audit

    def read(self, shard: ShardRange) -> ShardResult | None:
        """The result of a shard; None if it is not kept."""
        data = None if self._kept is None else self._kept.read(self._name(shard))
        return None if data is None else ShardResult.model_validate_json(data)

    def keep(self, shard: ShardRange, result: ShardResult) -> None:
        """Keep the result of a shard."""
        if self._kept is not None:
            self._kept.keep(self._name(shard), result.model_dump_json().encode())

    def forget(self, shards: Iterable[ShardRange]) -> None:
        """Remove the results of shards, once their report is made."""
        if self._kept is not None:
            for shard in shards:
                self._kept.forget(self._name(shard))

    def _name(self, shard: ShardRange) -> str:
        return f"shards/{self._audit}/{shard.wave}-{shard.model}-{shard.start}-{shard.stop}.json"
