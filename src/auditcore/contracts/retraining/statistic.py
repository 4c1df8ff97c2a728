"""The mean of a score over repeats or images, with every value it was made of."""

from __future__ import annotations

from typing import final

from pydantic import Field

from auditcore.contracts.contract import Contract


@final
class Statistic(Contract):
    """A mean with its spread and its interval, and the values behind it.

    Attributes:
        values: One value per repeat or per image; null where it is undefined.
        reasons: Position in `values` -> why the value is null.
        n: Number of values; for images, of distinct images with a value.
        mean: Null without values.
        std: Sample standard deviation; null below two values.
        ci: 95 % confidence interval of the mean; null where `ci_reason` says why.
        ci_reason: Why there is no interval; absent if there is one.
    """

    values: tuple[float | None, ...]
    reasons: dict[int, str] = Field(default_factory=dict, exclude_if=lambda reasons: not reasons)
    n: int
    mean: float | None
    std: float | None
    ci: tuple[float, float] | None
    ci_reason: str | None = Field(default=None, exclude_if=lambda reason: reason is None)
