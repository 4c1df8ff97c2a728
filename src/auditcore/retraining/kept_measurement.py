"""Where a measurement in this process keeps its files."""

from __future__ import annotations

from pathlib import Path

from auditcore.contracts.retraining.measure_request import MeasureRequest
from auditcore.kept_files import KeptFiles, KeptFolder, KeptInMemory
from auditcore.orchestration.kept_request import keep_request

_MAY_CHANGE = ("budget_seconds", "name", "tags")


def kept_measurement(out: Path | None, request: MeasureRequest) -> KeptFiles:
    """The files of a measurement that begins, or goes on.

    Args:
        out: A folder; None to keep them in memory.
        request: With a pinned model.

    Raises:
        InvalidRequest: The folder holds something else, or cannot be written.
    """
    if out is None:
        return KeptInMemory()
    folder = KeptFolder(out)
    keep_request(folder, request, what="measurement", may_change=_MAY_CHANGE)
    return folder
