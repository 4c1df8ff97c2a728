"""What a stop rule makes of the shards an audit has done so far."""

from __future__ import annotations

from collections import OrderedDict
from typing import final

from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.shards import ShardResult
from auditcore.report.stopping import Conclusion, Observations, observe
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.database import Database
from auditcore_service.store.records import Audit
from auditcore_service.store.shards import list_shards

REMEMBERED = 2048
"""Shards whose observations are kept: a few numbers each, while a result holds all values, curves and records."""


@final
class StopRules:
    """Looks at what is stored, and at nothing else: whoever looks when, the answer is the same or comes later."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs
        self._seen: OrderedDict[tuple[str, str], Observations] = OrderedDict()

    def stop_at(self, audit: Audit) -> int | None:
        """Images after which the audit may end, in the random order; None while it must go on."""
        request = AuditRequest.model_validate_json(audit.request)
        if request.stop is None:
            return None
        with self._database.reading() as connection:
            digests = [
                shard.result_digest
                for shard in list_shards(connection, audit.id)
                if shard.kind == "compute" and shard.result_digest is not None
            ]
        return Conclusion(
            request,
            AuditPlan.model_validate_json(audit.plan),
            images=audit.images,
            observations=[self._observe(audit.id, digest, request) for digest in digests],
        ).stop_at

    def _observe(self, audit_id: str, digest: str, request: AuditRequest) -> Observations:
        key = (audit_id, digest)
        if key not in self._seen:
            result = ShardResult.model_validate_json(self._blobs.get(digest))
            self._seen[key] = observe(request.policy, result)
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        self._seen.move_to_end(key)
        return self._seen[key]
