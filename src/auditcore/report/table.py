"""The headline numbers of a report as plain rows: one an explainer, for terminals and for the HTML page.

No torch, no numpy, no terminal library: the caller decides how a cell looks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from auditcore.contracts.metrics import METRICS, Metric
from auditcore.contracts.report import AuditReport, Result

HEADLINES = {
    "sweep": ("s_pearson", "s_top_k"),
    "deletion": ("inter_model_deletion", "srg"),
    "edda": ("sufficiency", "comprehensiveness"),
}
"""Check kind -> the metrics of a summary; the report holds all others too."""


@dataclass(frozen=True)
class SummaryColumn:
    """One number every explainer has.

    Attributes:
        check: Name of the check.
        metric: Name of the metric.
        variant: Sub-case, such as `rotate`; None where the metric has none.
        unit: Unit of the number.
        higher_is_better: Direction; None where neither is better.
        meaning: One sentence for a reader.
    """

    check: str
    metric: str
    variant: str | None
    unit: str
    higher_is_better: bool | None
    meaning: str

    @property
    def title(self) -> str:
        """Metric and sub-case, such as `s_pearson rotate`."""
        return self.metric if self.variant is None else f"{self.metric} {self.variant}"


@dataclass(frozen=True)
class SummaryCell:
    """One number of one explainer.

    Attributes:
        mean: Mean over images; None where no image has a value.
        sem: Standard error of the mean; None below two values.
        ci: 95 % confidence interval of the mean; None below two values.
        n: Images with a value.
        n_not_applicable: Images without.
        best: Whether no other explainer, controls aside, has a better mean in this column.
        reason: Why there is no mean; None where there is one.
    """

    mean: float | None
    sem: float | None
    ci: tuple[float, float] | None
    n: int
    n_not_applicable: int
    best: bool
    reason: str | None

    @property
    def text(self) -> str:
        """Mean and standard error, such as `0.874 ± 0.012`; a dash where there is no mean."""
        if self.mean is None:
            return "-"
        return f"{self.mean:.3f}" if self.sem is None else f"{self.mean:.3f} ± {self.sem:.3f}"

    @property
    def interval(self) -> str:
        """Confidence interval, such as `[0.851, 0.896]`; empty where there is none."""
        return "" if self.ci is None else f"[{self.ci[0]:.3f}, {self.ci[1]:.3f}]"


@dataclass(frozen=True)
class SummaryRow:
    """One explainer.

    Attributes:
        explainer: Its name in the report.
        control: Whether it is the random control, which knows nothing of the model.
        not_applicable: Why it could not run on this model; None where it ran.
        cells: One a column of `summary_columns`, in its order; None where the report has no such number.
    """

    explainer: str
    control: bool
    not_applicable: str | None
    cells: tuple[SummaryCell | None, ...]


def check_kinds(report: AuditReport) -> dict[str, str]:
    """Name of every check of the plan -> its kind. `explainer` holds what explainers report about themselves."""
    return {"explainer": "explainer", **{check.label: check.kind for check in report.plan.checks}}


def metric_of(report: AuditReport, result: Result) -> Metric:
    """What the metric of a result means."""
    return METRICS[check_kinds(report)[result.check]][result.metric]


def summary_columns(report: AuditReport) -> tuple[SummaryColumn, ...]:
    """The headline metrics of the report's checks with their sub-cases, in the order of the plan."""
    kinds = check_kinds(report)
    found: dict[tuple[str, str, str | None], SummaryColumn] = {}
    for result in _all_results(report):
        if result.explainer is not None and result.metric in HEADLINES.get(kinds[result.check], ()):
            found.setdefault(
                (result.check, result.metric, result.variant),
                SummaryColumn(
                    check=result.check,
                    metric=result.metric,
                    variant=result.variant,
                    unit=result.unit,
                    higher_is_better=result.higher_is_better,
                    meaning=metric_of(report, result).meaning,
                ),
            )
    checks = [check.label for check in report.plan.checks]
    return tuple(
        column
        for check in checks
        for metric in HEADLINES[kinds[check]]
        for column in found.values()
        if (column.check, column.metric) == (check, metric)
    )


def summary_rows(report: AuditReport) -> tuple[SummaryRow, ...]:
    """One row an explainer, in the order of the plan, then controls that ran without being asked for."""
    columns = summary_columns(report)
    by_key = {(r.check, r.metric, r.variant, r.explainer): r for r in _all_results(report)}
    kinds = {explainer.label: explainer.kind for explainer in report.plan.explainers}
    extra = {r.explainer: "random" for r in report.controls if r.explainer is not None and r.explainer not in kinds}
    explainers = {**kinds, **extra}
    best = {
        column: _best(by_key, column, [name for name, kind in kinds.items() if kind != "random"]) for column in columns
    }
    return tuple(
        SummaryRow(
            explainer=name,
            control=kind == "random",
            not_applicable=report.not_applicable.get(name),
            cells=tuple(
                _cell(by_key.get((column.check, column.metric, column.variant, name)), best[column])
                for column in columns
            ),
        )
        for name, kind in explainers.items()
    )


def _all_results(report: AuditReport) -> Iterable[Result]:
    return (*report.results, *report.controls)


def _best(
    by_key: dict[tuple[str, str, str | None, str | None], Result], column: SummaryColumn, explainers: list[str]
) -> Result | None:
    """The result with the best mean; None where there is nothing to choose from."""
    rivals = [
        (result.mean, result)
        for name in explainers
        if (result := by_key.get((column.check, column.metric, column.variant, name))) and result.mean is not None
    ]
    if len(rivals) < 2 or column.higher_is_better is None:  # noqa: PLR2004 - one alone is not the best
        return None
    choose = max if column.higher_is_better else min
    return choose(rivals, key=lambda rival: rival[0])[1]


def _cell(result: Result | None, best: Result | None) -> SummaryCell | None:
    if result is None:
        return None
    return SummaryCell(
        mean=result.mean,
        sem=result.sem,
        ci=result.ci,
        n=result.n,
        n_not_applicable=result.n_not_applicable,
        best=result is best,
        reason="; ".join(sorted(set(result.reasons.values()))) if result.mean is None else None,
    )
