"""Differences of two results, image by image."""

from __future__ import annotations

from auditcore.contracts.report import Result


def paired_differences(result: Result, other: Result) -> list[float | None]:
    """`result` minus `other` for each image, in the order of the report; None where one of them has no value."""
    return [
        None if value is None or before is None else value - before
        for value, before in zip(result.per_image, other.per_image, strict=True)
    ]
