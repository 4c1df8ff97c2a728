"""How certain the outcome of an audit is, in plain words."""

from __future__ import annotations

from collections.abc import Iterator

from auditcore.contracts.report import AuditReport
from auditcore.report.headlines import small_samples

FEW_IMAGES = 10
"""Below this number of images an audit says little, whatever its intervals are."""


def certainty_sentences(report: AuditReport) -> tuple[str, ...]:
    """Say how many images the outcome rests on, what an interval means, and what makes it less certain.

    Args:
        report: The audit's report.

    Returns:
        One to four sentences, the number of images first.
    """
    return tuple(_sentences(report))


def _sentences(report: AuditReport) -> Iterator[str]:
    images = report.images
    yield f"{images.used} of {images.count} image{'' if images.count == 1 else 's'} used{_why_fewer(report)}."
    if images.used < FEW_IMAGES:
        yield "Few images: the intervals are wide and rough. Audit more images before you decide."
    if report.conditions:
        by_mean = sum(one.statistic == "mean" for one in report.conditions)
        if by_mean == len(report.conditions):
            yield "Conditions are judged by the mean only: near the threshold, chance decides."
        else:
            yield (
                "A condition is met only if its whole 95 % interval is on the wanted side. In 95 of 100 audits of "
                "other images like these, such an interval holds the true mean."
            )
    if small_samples(report) == "all" and images.used >= FEW_IMAGES:
        yield "With fewer than 30 images, intervals may hold the true mean less often than that."
    if report.stopping is not None and report.stopping.stopped_early:
        yield (
            f"The audit stopped early, after {report.stopping.images_used} of {report.stopping.images_total} images, "
            "because every condition was decided."
        )


def _why_fewer(report: AuditReport) -> str:
    images = report.images
    parts = [
        *([f"{len(images.excluded)} left out"] if images.excluded else []),
        *([f"{images.not_examined} not examined"] if images.not_examined else []),
    ]
    return f" ({', '.join(parts)})" if parts else ""
