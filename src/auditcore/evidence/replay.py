"""Compare the report of an audit with that of its replay: everything that differs by more than a tolerance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, final

from pydantic import Field

from auditcore.contracts.contract import Contract
from auditcore.report.reading import read_report

TOLERANCE: Final = 1e-4
"""Values of images have 5 significant digits, and passes through a model repeat to about 1e-5 between machines."""

_CIRCUMSTANCES: Final = frozenset({"manifest.auditcore_version", "manifest.micro_batches", "cost.device"})
_ENVIRONMENT: Final = "manifest.environment."

_OF_ONE_RUN: Final = frozenset(
    {
        "audit_id",
        "cost.estimated_seconds",
        "cost.peak_memory_bytes",
        "cost.seconds",
        "manifest.attempts",
        "manifest.finished_at",
        "manifest.shards",
        "manifest.started_at",
    }
)
"""Fields that say how one run went."""

_DRAWN: Final = "artifacts"
"""Pictures are named by their digests, which a difference below any tolerance changes."""

_SENTENCE: Final = "message"
"""A sentence for a reader quotes numbers, rounded; the numbers themselves are compared."""


@final
class ReplayDifference(Contract):
    """One field in which two reports differ.

    Attributes:
        where: Its path in the report, such as `results[3].mean`.
        original: Its value in the original; null if it is missing there.
        replay: Its value in the replay; null if it is missing there.
    """

    where: str
    original: Any
    replay: Any


@final
class ReplayComparison(Contract):
    """The report of an audit, and that of its replay.

    Attributes:
        original: Id of the audit that was replayed.
        replay: Id of the replay.
        tolerance: Largest difference of two numbers that counts as none, relative or absolute.
        reproduced: Whether there are no differences.
        differences: Every field that differs by more than the tolerance. Times, costs, pictures and sentences that
            quote numbers are not compared.
        circumstances: What differs of version, environment, device and images per pass. It explains differences, and
            is none itself.
    """

    original: str
    replay: str
    tolerance: float = Field(ge=0)
    reproduced: bool
    differences: tuple[ReplayDifference, ...]
    circumstances: tuple[ReplayDifference, ...]


def compare_replay(original: bytes, replay: bytes, *, tolerance: float = TOLERANCE) -> ReplayComparison:
    """Compare two reports.

    Args:
        original: The report of the audit.
        replay: The report of its replay.
        tolerance: Largest difference of two numbers that counts as none, relative or absolute.

    Raises:
        ValueError: One of them is no report that this version can read.
    """
    first, second = read_report(original), read_report(replay)
    found = tuple(_differences(first.model_dump(mode="json"), second.model_dump(mode="json"), "", tolerance))
    circumstances = tuple(one for one in found if _is_circumstance(one.where))
    differences = tuple(one for one in found if not _is_circumstance(one.where))
    return ReplayComparison(
        original=first.audit_id,
        replay=second.audit_id,
        tolerance=tolerance,
        reproduced=not differences,
        differences=differences,
        circumstances=circumstances,
    )


def _is_circumstance(where: str) -> bool:
    return where.partition("[")[0] in _CIRCUMSTANCES or where.startswith(_ENVIRONMENT)


def _differences(original: Any, replay: Any, where: str, tolerance: float) -> Iterator[ReplayDifference]:  # noqa: ANN401 - JSON
    if isinstance(original, dict) and isinstance(replay, dict):
        for name in dict.fromkeys((*original, *replay)):
            place = f"{where}.{name}" if where else name
            if place not in _OF_ONE_RUN and place != _DRAWN and name != _SENTENCE:
                yield from _differences(original.get(name), replay.get(name), place, tolerance)
    elif isinstance(original, list) and isinstance(replay, list):
        for index in range(max(len(original), len(replay))):
            one, other = (values[index] if index < len(values) else None for values in (original, replay))
            yield from _differences(one, other, f"{where}[{index}]", tolerance)
    elif not _same(original, replay, tolerance):
        yield ReplayDifference(where=where, original=original, replay=replay)


def _same(original: object, replay: object, tolerance: float) -> bool:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (original, replay))
    if numbers:
        return math.isclose(original, replay, rel_tol=tolerance, abs_tol=tolerance)  # type: ignore[arg-type]  # both are numbers
    return original == replay
