"""The questions that the studies answer, each as a difference between trained models of the same seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from auditcore import StudyReport
from auditcore.studies.statistics import difference_by_seed
from benchmarks.paper_studies import ACCURACY, DROP, INTER_MODEL, Row

Values = Sequence[float | None]
Reliance = Mapping[str, Mapping[str, Values]]
"""Measure of reliance -> method -> one value per seed."""


@final
@dataclass(frozen=True)
class Contrast:
    """A weighted sum of methods' values, seed by seed.

    Attributes:
        study: Name of the study.
        question: What it answers.
        what: The metric, for people.
        row: The metric, averaged over explainers where there are several; None for a measure of reliance.
        weights: Method -> weight; they sum to 0.
        reliance: The measure of reliance, where `row` is None.
    """

    study: str
    question: str
    what: str
    row: Row | None
    weights: Mapping[str, float]
    reliance: str = ""


def minus(one: str, other: str) -> dict[str, float]:
    """One method less another."""
    return {one: 1.0, other: -1.0}


LABELS_LESS_IMAGES = {
    # (with mixed labels - without) - (with mixed images - without), each the mean of its two cases
    "mixup_labels": 1.0,
    "mixup_images": -1.0,
}
"""Mean effect of mixing labels less mean effect of mixing images: baseline and Mixup cancel out."""

CONTRASTS: tuple[Contrast, ...] = (
    *(
        Contrast(study, "Does EDDA lower Drop %?", f"Drop %, {data}: {one} - {other}", DROP, minus(one, other))
        for study, data, methods in (
            ("li2021", "objects", ("edda", "edda_0.2")),
            ("li2021_digits", "digits", ("edda",)),
        )
        for one in methods
        for other in ("no_augmentation", "randexp")
    ),
    *(
        Contrast(
            study,
            "At what cost?",
            f"accuracy, {data}: edda - no_augmentation",
            ACCURACY,
            minus("edda", "no_augmentation"),
        )
        for study, data in (("li2021", "objects"), ("li2021_digits", "digits"))
    ),
    *(
        Contrast(
            study,
            "Does label mixing lower inter-model deletion more than image mixing?",
            f"inter-model deletion, {data}: effect of mixed labels - effect of mixed images",
            INTER_MODEL,
            LABELS_LESS_IMAGES,
        )
        for study, data in (("won2025", "objects"), ("li2021_digits", "digits"))
    ),
    *(
        Contrast(
            study,
            "Does label smoothing lower it?",
            f"inter-model deletion, {data}: {method} - {baseline}",
            INTER_MODEL,
            minus(method, baseline),
        )
        for study, data, baseline, methods in (
            ("won2025", "objects", "baseline", ("smoothing_0.1", "smoothing_0.3", "smoothing_0.5")),
            ("li2021_digits", "digits", "no_augmentation", ("smoothing_0.3", "smoothing_0.5")),
        )
        for method in methods
    ),
    *(
        Contrast(
            "won2025_fine_tuned",
            "Does the inter-model deletion loss raise it?",
            f"inter-model deletion: faithful_{mix} - longer_{mix}",
            INTER_MODEL,
            minus(f"faithful_{mix}", f"longer_{mix}"),
        )
        for mix in ("mixup", "cutmix")
    ),
    *(
        Contrast(
            "remedies",
            "Does a remedy make explanations more faithful?",
            f"Drop %: {one} - longer",
            DROP,
            minus(one, "longer"),
        )
        for one in ("randexp", "edda", "edda_mean", "deletion_loss")
    ),
    *(
        Contrast(
            "remedies",
            "Does it lower the reliance on the planted mark?",
            f"predictions that follow a mark of another class: {one} - {other}",
            None,
            minus(one, other),
            "followed",
        )
        for one, other in (
            ("longer", "shortcut"),
            ("edda", "shortcut"),
            ("randexp", "longer"),
            ("edda", "longer"),
            ("edda_mean", "longer"),
            ("deletion_loss", "longer"),
        )
    ),
    *(
        Contrast(
            "remedies",
            "At what cost in accuracy?",
            f"{what}: {one} - longer",
            None if measure else ACCURACY,
            minus(one, "longer"),
            measure,
        )
        for one in ("edda", "edda_mean", "deletion_loss")
        for what, measure in (("accuracy with marks as in training", ""), ("accuracy without marks", "accuracy_before"))
    ),
)


def contrast_table(reports: Mapping[str, StudyReport], reliance: Reliance) -> str:
    """All contrasts whose study is at hand, in Markdown."""
    lines = ["| question | difference | mean | 95 % interval | p |", "|---|---|---|---|---|"]
    last = ""
    for one in CONTRASTS:
        if one.study not in reports:
            continue
        report = reports[one.study]
        values = {
            method: reliance[one.reliance][method] if one.row is None else values_of(report, one.row, method)
            for method in one.weights
        }
        positive = [values[method] for method, weight in one.weights.items() if weight > 0]
        negative = [values[method] for method, weight in one.weights.items() if weight < 0]
        (plus,), (less,) = positive, negative
        difference = difference_by_seed(plus, less)
        ends = "-" if difference.ci is None else f"{difference.ci[0]:.3g} to {difference.ci[1]:.3g}"
        mean = "-" if difference.mean is None else f"{difference.mean:.3g}"
        chance = "-" if difference.p_value is None else f"{difference.p_value:.2g}"
        lines.append(f"| {one.question if one.question != last else ''} | {one.what} | {mean} | {ends} | {chance} |")
        last = one.question
    return "\n".join(lines)


def values_of(report: StudyReport, row: Row, method: str) -> Values:
    """One value per seed: the average over explainers, or that of the only explainer, or what needs none."""
    check, metric, variant = row
    own = [
        one
        for one in report.rows
        if (one.check, one.metric, one.variant, one.method) == (check, metric, variant, method)
        and one.explainer != "random"
    ]
    averaged = [one for one in own if one.averaged]
    return (averaged or own)[0].per_seed
