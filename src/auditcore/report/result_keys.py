"""What tells the results of an audit apart."""

from __future__ import annotations

from collections.abc import Mapping

from auditcore.contracts.policy import Row
from auditcore.contracts.report import ConditionOutcome, Result

ResultKey = tuple[str | None, Row]
"""Name of the model, None in an audit of one, and row of a result."""

Results = Mapping[ResultKey, Result]
"""All results of an audit, those of controls included."""


def result_key(one: Result | ConditionOutcome) -> ResultKey:
    """The key of a result, or of the result that a condition judges."""
    return one.model, (one.check, one.explainer, one.metric, one.variant)
