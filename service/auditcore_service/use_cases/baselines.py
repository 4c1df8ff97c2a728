"""Baselines of requests: an earlier audit of this service, found and checked when a request is submitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from auditcore.contracts.baseline_reference import BaselineReference
from auditcore.errors import InvalidRequest
from auditcore_service.principals import Principal
from auditcore_service.store.audits import find_audit
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.database import Database
from auditcore_service.use_cases.audit_ids import is_audit_id


@final
class Baselines:
    """The use cases of baselines."""

    def __init__(self, *, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    def pin(
        self,
        principal: Principal,
        reference: BaselineReference,
        *,
        models: Sequence[str | None],
        images: Sequence[str | None],
    ) -> BaselineReference:
        """Return the reference by the digest of its report, which never changes.

        Args:
            principal: Who asks; only baselines of its tenant are found.
            reference: As in the request.
            models: Names of the models of the request; None for the only one.
            images: Digest of each image of the request; None where it is not known before the image is fetched.

        Raises:
            InvalidRequest: There is no such audit, it has no report, or it is about other models or other images.
            InputError: No report is stored under the digest.
        """
        from auditcore.report.baseline import require_comparable  # noqa: PLC0415 - most requests have no baseline
        from auditcore.report.reading import read_report  # noqa: PLC0415 - most requests have no baseline

        digest = self._digest(principal, reference)
        content = self._blobs.of(principal.tenant).get(digest, field="baseline.report")
        try:
            report = read_report(content)
        except ValueError as error:
            msg = f"{digest} is not a report that can be read; use the id of a finished audit as `audit`"
            raise InvalidRequest(msg, field="baseline.report") from error
        require_comparable(report, models=models, images=images)
        return BaselineReference(report=digest)

    def _digest(self, principal: Principal, reference: BaselineReference) -> str:
        if reference.report is not None:
            return reference.report
        wanted = reference.audit or ""
        audit = None
        if is_audit_id(wanted):
            with self._database.reading(principal.tenant) as connection:
                audit = find_audit(connection, wanted)
        if audit is None:
            msg = f"there is no audit {wanted!r}; take the id from GET /v1/audits"
            raise InvalidRequest(msg, field="baseline.audit")
        if audit.report_digest is None:
            msg = f"audit {wanted} is {audit.state} and has no report; use an audit whose state is `succeeded`"
            raise InvalidRequest(msg, field="baseline.audit")
        return audit.report_digest
