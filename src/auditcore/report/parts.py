"""Headline metrics over parts of the images: the best and worst class, and images whose prediction changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from auditcore.contracts.report import AuditReport, Result, Slice
from auditcore.report.headlines import Key, interval_text, mean_text, results_by_key

CLASS_PART = "class="
FLIPPED, NOT_FLIPPED = "flipped", "not_flipped"


@dataclass(frozen=True)
class Part:
    """A metric over some images.

    Attributes:
        name: Name of this part of the images.
        text: Mean and standard error.
        interval: 95 % confidence interval; empty below two values.
        n: Number of values.
    """

    name: str
    text: str
    interval: str
    n: int


@dataclass(frozen=True)
class PartsRow:
    """One metric of one explainer over all images and over parts of them.

    Attributes:
        model: Name of the model in an audit of several.
        explainer: Name of the explainer.
        title: Metric and sub-case.
        parts: All images first; None for a part without a value.
    """

    model: str | None
    explainer: str
    title: str
    parts: tuple[Part | None, ...]


def class_rows(report: AuditReport) -> dict[str, tuple[PartsRow, ...]]:
    """Return check -> rows with all images, the class with the lowest mean and the class with the highest mean."""
    chosen = [part for part in report.slices if part.part.startswith(CLASS_PART)]
    return _by_check(report, chosen, _ends)


def flip_rows(report: AuditReport) -> dict[str, tuple[PartsRow, ...]]:
    """Return check -> rows with all images, those whose predicted class changes within the sweep, and the others."""
    chosen = [part for part in report.slices if part.part in {FLIPPED, NOT_FLIPPED}]
    return _by_check(report, chosen, _sides)


def _ends(slices: Sequence[Slice]) -> tuple[Part | None, ...]:
    if len(slices) < 2:  # noqa: PLR2004 - one class cannot be compared
        return ()
    ends = min(slices, key=lambda part: part.mean), max(slices, key=lambda part: part.mean)
    return tuple(_shown(end, f"class {end.part.removeprefix(CLASS_PART)}") for end in ends)


def _sides(slices: Sequence[Slice]) -> tuple[Part | None, ...]:
    known = {part.part: _shown(part, part.part) for part in slices}
    return known.get(FLIPPED), known.get(NOT_FLIPPED)


def _by_check(
    report: AuditReport, slices: Sequence[Slice], choose: Callable[[Sequence[Slice]], tuple[Part | None, ...]]
) -> dict[str, tuple[PartsRow, ...]]:
    by_key = results_by_key(report)
    groups: dict[Key, list[Slice]] = {}
    for part in slices:
        groups.setdefault((part.model, part.check, part.metric, part.variant, part.explainer), []).append(part)
    rows: dict[str, list[PartsRow]] = {}
    for key, same in groups.items():
        if parts := choose(same):
            model, check, metric, variant, _ = key
            row = PartsRow(
                model=model,
                explainer=same[0].explainer,
                title=metric if variant is None else f"{metric} {variant}",
                parts=(_whole(by_key.get(key)), *parts),
            )
            rows.setdefault(check, []).append(row)
    return {check: tuple(own) for check, own in rows.items()}


def _whole(result: Result | None) -> Part | None:
    if result is None:
        return None
    return Part("all images", mean_text(result.mean, result.sem), interval_text(result.ci), result.n)


def _shown(part: Slice, name: str) -> Part:
    return Part(name, mean_text(part.mean, part.sem), interval_text(part.ci), part.n)
