"""How a request names the earlier audit that it compares with."""

from __future__ import annotations

from typing import final

from pydantic import Field, model_validator

from auditcore.contracts.contract import Contract, Sha256


@final
class BaselineReference(Contract):
    """An earlier audit on the same images, by its id or by the digest of its report; give exactly one."""

    audit: str | None = Field(
        default=None,
        max_length=64,
        description="Id of a finished audit of this service; the stored request has the digest of its report instead.",
    )
    report: Sha256 | None = Field(default=None, description="Digest of a report that this service stores.")

    @model_validator(mode="after")
    def _one_reference(self) -> BaselineReference:
        if (self.audit is None) == (self.report is None):
            msg = "give exactly one of `audit`, the id of a finished audit, and `report`, the digest of its report"
            raise ValueError(msg)
        return self
