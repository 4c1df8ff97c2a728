"""Whether metrics order the explainers alike on all trained models of a study."""

from __future__ import annotations

from auditcore.contracts.report import MeasureReliability
from auditcore.contracts.studies.report import StudyReport
from auditcore.contracts.studies.stages import training_stage
from auditcore.report.reliability import ComparedModel, ExplainerMean, reliability_of


def study_reliability(report: StudyReport) -> tuple[MeasureReliability, ...]:
    """Compute the reliability of each metric over all models of a study, one per method and seed.

    A study whose methods are architectures, each with several shares of the training images, is the experiment of the
    thesis: models of one architecture that differ in their accuracy.

    Args:
        report: The study.

    Returns:
        For each metric the entry of all models, then one per architecture of several models. Models are named
        `METHOD-SEED` and sorted by their accuracy on the test images.

    Source: Erdem 2021, definition 5.1 and sections 5.1 and 5.2.
    """
    models = [
        ComparedModel(training_stage(model.method, model.seed), model.architecture, model.accuracy)
        for model in report.models
    ]
    means = [
        ExplainerMean(
            model=training_stage(row.method, seed),
            explainer=row.explainer,
            check=row.check,
            metric=row.metric,
            variant=row.variant,
            higher_is_better=row.higher_is_better,
            mean=value,
            images=images,
        )
        for row in report.rows
        if row.explainer is not None and not row.control
        for seed, value, images in zip(report.request.plan.seeds, row.per_seed, row.images, strict=True)
    ]
    return reliability_of(means, models)
