"""All stages of a measurement in this process, one after the other, with what is kept in a folder or in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.contract import Sha256
from auditcore.contracts.experiments.stage import REPORT, Stage
from auditcore.contracts.retraining.measure_request import MeasureRequest
from auditcore.errors import InvalidRequest
from auditcore.kept_files import KeptFiles, KeptFolder, KeptInMemory

REQUEST_FILE: Final = "request.json"

_MAY_CHANGE = ("budget_seconds", "name", "tags")
"""Fields of a request that change no value, so that a measurement may go on with others."""


@runtime_checkable
class _Stages(Protocol):
    """A measurement that does stages."""

    def run(self, stage: Stage, *, progress: Callable[[float], None], enough: Callable[[], bool]) -> None:
        """Do a stage."""


def kept_files(out: Path | None, request: MeasureRequest) -> KeptFiles:
    """Where a measurement keeps its files.

    Args:
        out: A folder; None to keep them in memory.
        request: With a pinned model.

    Raises:
        InvalidRequest: The folder holds something else, or cannot be written.
    """
    if out is None:
        return KeptInMemory()
    kept = KeptFolder(out)
    known = kept.read(REQUEST_FILE)
    if known is None:
        kept.keep(REQUEST_FILE, request.model_dump_json(indent=2).encode())
    elif _identity(known, out) != _identity(request.model_dump_json().encode(), out):
        msg = f"{out} holds something else; name an empty folder, or the one of this measurement to go on with it"
        raise InvalidRequest(msg, field="out")
    return kept


def run_all(run: _Stages, stages: Sequence[Stage], progress: Callable[[float], None]) -> None:
    """Do all stages in their order.

    Args:
        run: The measurement.
        stages: Its stages, wave by wave.
        progress: Called with the share of the whole that is done, in [0,1]; may raise AuditCancelled.
    """
    whole, done = _weight(stages), 0.0
    for stage in stages:

        def told(share: float, before: float = done, weight: float = stage.weight) -> None:
            progress(min(1.0, (before + weight * share) / whole))

        run.run(stage, progress=told, enough=lambda: False)
        done += stage.weight
    progress(1.0)


def kept_report(kept: KeptFiles) -> bytes:
    """The report that the last stage has kept."""
    found = kept.read(REPORT)
    assert found is not None  # noqa: S101 - all stages are done
    return found


def _weight(stages: Iterable[Stage]) -> float:
    return sum(stage.weight for stage in stages)


def _identity(data: bytes, out: Path) -> Sha256:
    """Digest of what a request is about.

    Raises:
        InvalidRequest: It is no request.
    """
    try:
        fields = json.loads(data)
        return digest_of({name: value for name, value in fields.items() if name not in _MAY_CHANGE})
    except (ValueError, AttributeError) as error:
        msg = f"{out / REQUEST_FILE} is damaged; name an empty folder to begin anew"
        raise InvalidRequest(msg, field="out") from error
