"""Averages over explainers as a page shows them: one block per metric, with the ranking of several models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from auditcore.contracts.report import AuditReport, ExplainerAverage, ModelRanking, OcclusionCorrelation
from auditcore.report.headlines import check_kinds, interval_text, is_headline, mean_text, number_text


@dataclass(frozen=True)
class AverageLine:
    """The average of one model.

    Attributes:
        model: Its name in an audit of several.
        text: Mean and standard error over images; a dash where there is no mean.
        interval: 95 % confidence interval; empty where there is none.
        pooled: Standard error as Won et al. 2025 print it; a dash where there is none.
        found: What the contract says.
    """

    model: str | None
    text: str
    interval: str
    pooled: str
    found: ExplainerAverage


@dataclass(frozen=True)
class RankingText:
    """Which model is best, and the test against the second.

    Attributes:
        order: Models from best to worst.
        difference: Best minus second, with its sign; empty without two models.
        p_value: As text, such as `0.031` or `< 1e-16`; empty without a test.
        found: What the contract says.
    """

    order: str
    difference: str
    p_value: str
    found: ModelRanking


@dataclass(frozen=True)
class AverageBlock:
    """One metric of all models.

    Attributes:
        check: Name of the check.
        title: Metric and sub-case.
        arrow: Where better numbers lie: `↑`, `↓`, or nothing.
        metric: Name of the metric.
        explainers: Those averaged.
        left_out: Those that are not.
        lines: One per model.
        ranking: None where nothing is ranked.
        headline: Whether the summary shows this metric.
    """

    check: str
    title: str
    arrow: str
    metric: str
    explainers: tuple[str, ...]
    left_out: tuple[str, ...]
    lines: tuple[AverageLine, ...]
    ranking: RankingText | None
    headline: bool


@dataclass(frozen=True)
class CorrelationRow:
    """How far one score follows from robustness to random deletion.

    Attributes:
        title: Score and sub-case.
        of: The explainer, or the average over all.
        pearson: With two decimals; a dash where there is none.
        found: What the contract says.
    """

    title: str
    of: str
    pearson: str
    found: OcclusionCorrelation


LEAST_P = 1e-16
"""Smaller p-values say nothing more: the distribution of means is only known to be Student's approximately."""


def average_blocks(report: AuditReport) -> tuple[AverageBlock, ...]:
    """Every metric that was averaged, in the order of the report."""
    kinds = check_kinds(report)
    rankings = {(one.check, one.metric, one.variant): one for one in report.rankings}
    by_metric: dict[tuple[str, str, str | None], list[ExplainerAverage]] = {}
    for average in report.averages:
        by_metric.setdefault((average.check, average.metric, average.variant), []).append(average)
    return tuple(
        AverageBlock(
            check=check,
            title=_title(metric, variant),
            arrow={True: "↑", False: "↓", None: ""}[averages[0].higher_is_better],
            metric=metric,
            explainers=averages[0].explainers,
            left_out=averages[0].left_out,
            lines=tuple(map(_line, averages)),
            ranking=_ranking(rankings.get((check, metric, variant))),
            headline=is_headline(kinds[check], metric, variant),
        )
        for (check, metric, variant), averages in by_metric.items()
    )


def correlation_rows(report: AuditReport) -> Iterator[CorrelationRow]:
    """Every correlation with robustness to deletion, in the order of the report."""
    for found in report.occlusion_correlations:
        yield CorrelationRow(
            title=_title(found.metric, found.variant),
            of=found.explainer or "average over explainers",
            pearson="-" if found.pearson is None else f"{found.pearson:+.2f}",
            found=found,
        )


def _title(metric: str, variant: str | None) -> str:
    return metric if variant is None else f"{metric} {variant}"


def _line(average: ExplainerAverage) -> AverageLine:
    pooled = average.pooled_sem
    return AverageLine(
        model=average.model,
        text=mean_text(average.mean, average.sem),
        interval=interval_text(average.ci),
        pooled="-" if pooled is None else number_text(pooled, max(abs(average.mean or 0.0), pooled)),
        found=average,
    )


def _ranking(found: ModelRanking | None) -> RankingText | None:
    if found is None:
        return None
    difference, p_value = found.difference, found.p_value
    signed = "" if difference is None else f"{'+' if difference > 0 else ''}{number_text(difference, abs(difference))}"
    return RankingText(
        order=" > ".join(found.order),
        difference=signed,
        p_value="" if p_value is None else _p_text(p_value),
        found=found,
    )


def _p_text(p_value: float) -> str:
    return f"< {LEAST_P:g}" if p_value < LEAST_P else f"{p_value:.2g}"
