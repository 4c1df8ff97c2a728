"""Why numbers of a report say less than they seem to: every kind of warning, in one place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from auditcore.contracts.image_dependence import INDEPENDENT_ABOVE
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.report import ReportWarning, Result
from auditcore.report.baselines_and_fills import mismatch

AGREEMENT_OF_HALVES = 0.9
"""Mean correlation of maps made with the statistics of either half of the images, below which a reader is warned.

The same level at which the report says of maps of different images that they are one map."""


def warnings_of(plan: AuditPlan, results: Sequence[Result], controls: Sequence[Result]) -> tuple[ReportWarning, ...]:
    """Every warning that a plan and its results give.

    Args:
        plan: The plan in full.
        results: What the audit measured, of all models.
        controls: What tells how far the results can be trusted.
    """
    return (
        *_image_independent(controls),
        *_depending_on_other_images(controls),
        *_of_settings(plan, results),
        *_of_means(plan, results),
        *_baseline_differs_from_fill(plan, results),
    )


def warning_text(warning: ReportWarning) -> str:
    """A warning in one line: what it concerns, and its message."""
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
    """Pairs of an explainer with a baseline and a check with another fill."""
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
                    f"{check.label} replaces pixels by {found.fill}: the score answers another question than the map. "
                    f"{found.remedy}",
                )


def image_independent(controls: Sequence[Result]) -> frozenset[tuple[str | None, str]]:
    """Model and explainer whose maps hardly depend on the image, so that their stability means nothing.

    Args:
        controls: Of a report; those named `image_dependence` decide.

    Returns:
        Name of the model, None in an audit of one, and of the explainer. Those whose control has no value are not
        among them: nothing is known of them.
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
                message=f"Maps of {row.explainer} depend on the other images of the audit: made with the layer's "
                f"statistics over either half of the images, they correlate by {row.mean:.2f} on average (below "
                f"{AGREEMENT_OF_HALVES}). Use more images, or compare only numbers that come from the same images.",
            )
