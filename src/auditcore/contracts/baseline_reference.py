"""How a request names the earlier audit that it compares with, and the model of that audit."""

from __future__ import annotations

from typing import Final, final

from pydantic import Field, model_validator

from auditcore.contracts.contract import Contract, Name, Sha256
from auditcore.contracts.model_reference import ModelReference

BASELINE_MODEL: Final[Name] = "baseline"
"""Name of the model of the baseline, as checks that compare models use it in an audit of one model."""


@final
class BaselineReference(Contract):
    """An earlier audit on the same images, by its id or by the digest of its report; give exactly one."""

    audit: str | None = Field(
        default=None,
        max_length=64,
        description="Id of a finished audit of this service; the stored request has the digest of its report instead.",
    )
    report: Sha256 | None = Field(default=None, description="Digest of a report that this service stores.")
    # omitted if null, so that requests that compare no maps keep the digests they had before this field existed
    model: ModelReference | None = Field(
        default=None,
        exclude_if=lambda model: model is None,
        description="The model of the earlier audit, for checks that compare its maps with those of `model`. Set when "
        "the audit is submitted, from the earlier report, if not given. Give it if its files have moved: it must be "
        "the same model.",
    )

    @model_validator(mode="after")
    def _one_reference(self) -> BaselineReference:
        if (self.audit is None) == (self.report is None):
            msg = "give exactly one of `audit`, the id of a finished audit, and `report`, the digest of its report"
            raise ValueError(msg)
        return self
