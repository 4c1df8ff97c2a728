"""Warnings of a report: conditions under which its numbers can mislead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from auditcore.contracts.image_dependence import INDEPENDENT_ABOVE
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.report import ReportWarning, Result
from auditcore.report.baselines_and_fills import mismatch

AGREEMENT_OF_HALVES = 0.9
"""Below this mean correlation of maps made with the statistics of either half of the images, there is a warning.

It is the same level from which maps of different images count as independent of the image."""


def warnings_of(plan: AuditPlan, results: Sequence[Result], controls: Sequence[Result]) -> tuple[ReportWarning, ...]:
    """Return every warning for a plan and its results.

    Args:
        plan: The full plan.
        results: Results of all models.
        controls: Results of controls.
    """
    return (
        *_image_independent(controls),
        *_depending_on_other_images(controls),
        *_of_settings(plan, results),
        *_of_means(plan, results),
        *_baseline_differs_from_fill(plan, results),
    )


def warning_text(warning: ReportWarning) -> str:
    """Format a warning in one line: what it concerns, and its message."""
    about = ", ".join(part for part in (warning.model, warning.check, warning.explainer, warning.variant) if part)
    return f"{about}: {warning.message}" if about else warning.message


def _of_settings(plan: AuditPlan, results: Sequence[Result]) -> Iterator[ReportWarning]:
    """Warnings that follow from the settings of checks that have measured something."""
    measured = {one.check for one in results if one.mean is not None}
    for check in plan.checks:
        if check.label in measured:
            for notice in check.notices:
                yield ReportWarning(code=notice.code, check=check.label, message=notice.message)


def _of_means(plan: AuditPlan, results: Sequence[Result]) -> Iterator[ReportWarning]:
    """Warnings that the mean of a result calls for."""
    checks = {check.label: check for check in plan.checks}
    for one in results:
        if one.check not in checks or one.mean is None:
            continue
        notice = checks[one.check].notice_of(one.metric, one.mean)
        if notice is not None:
            yield ReportWarning(
                code=notice.code, model=one.model, check=one.check, variant=one.variant, message=notice.message
            )


def _baseline_differs_from_fill(plan: AuditPlan, results: Sequence[Result]) -> Iterator[ReportWarning]:
    """Warn about explainers and checks whose baseline and fill differ."""
    measured = {(one.check, one.explainer) for one in results if one.mean is not None}
    for check in plan.checks:
        for explainer in plan.explainers:
            found = mismatch(explainer, check)
            if found is not None and (check.label, explainer.label) in measured:
                yield ReportWarning(
                    code="baseline_differs_from_fill",
                    check=check.label,
                    explainer=explainer.label,
                    message=f"{explainer.label} explains the difference from its baseline, {found.baseline}, but "
                    f"{check.label} replaces pixels by {found.fill}: the score answers a different question. "
                    f"{found.remedy}",
                )


def image_independent(controls: Sequence[Result]) -> frozenset[tuple[str | None, str]]:
    """Return the pairs of model and explainer whose maps hardly depend on the image, so their stability means nothing.

    Args:
        controls: Controls of a report; only `image_dependence` matters.

    Returns:
        Pairs of the names of a model, None in an audit of one, and an explainer. Explainers whose control has no value
        are not included.
    """
    return frozenset((result.model, result.explainer) for result in _above(controls) if result.explainer is not None)


def _above(controls: Sequence[Result]) -> Iterator[Result]:
    for result in controls:
        dependence = (result.check, result.metric) == ("explainer", "image_dependence")
        if dependence and result.mean is not None and result.mean > INDEPENDENT_ABOVE:
            yield result


def _image_independent(controls: Sequence[Result]) -> Iterator[ReportWarning]:
    for result in _above(controls):
        yield ReportWarning(
            code="image_independent",
            model=result.model,
            explainer=result.explainer,
            message=f"The maps of {result.n} different images correlate by {result.mean:.2f} on average, above "
            f"{INDEPENDENT_ABOVE:g}. They hardly depend on the image, so a map that stays the same says nothing about "
            "robustness. Do not use the numbers of sweeps and of sensitivity.",
        )


def _depending_on_other_images(controls: Sequence[Result]) -> Iterator[ReportWarning]:
    for row in controls:
        if row.metric == "statistics_agreement" and row.mean is not None and row.mean < AGREEMENT_OF_HALVES:
            yield ReportWarning(
                code="depends_on_other_images",
                model=row.model,
                explainer=row.explainer,
                message=f"Maps of {row.explainer} depend on the other images of the audit: maps made with the layer's "
                f"statistics over one half of the images correlate with those of the other half by {row.mean:.2f} on "
                f"average (below {AGREEMENT_OF_HALVES}). Use more images, or compare only numbers of the same images.",
            )
