"""The tables and figures of the studies, under the numbers of the papers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from auditcore import StudyReport, SyntheticDataset, load_classifier, shortcut_reliance
from auditcore.contracts.access import Limits
from auditcore.models.classifier import Classifier
from auditcore.studies.statistics import over_seeds
from auditcore.studies.tables import correlation_table, metric_table
from auditcore.training.evaluation import predicted
from auditcore.training.labeled_images import read_labeled
from auditcore.training.results import trained_reference
from benchmarks.paper_studies import ACCESS, ACCURACY, DROP, LERF, RAO, PaperStudy, Row, Table
from benchmarks.study_contrasts import Reliance, Values, values_of

MEASURES = {
    "accuracy_before": "right without mark",
    "accuracy_after": "right with the mark of another class",
    "followed": "follows that mark",
}
DOTS, FACE = "#777777", "#1f77b4"
BELOW = ("cutmix", "pixmix", "mixup_images")
"""Methods whose name stands below their point, because another one is above it."""


def study_page(study: PaperStudy, report: StudyReport, reliance: Reliance) -> str:
    """All tables of a study."""
    parts = [f"## {study.title}", _made(study, report)]
    for table in study.tables:
        parts.append(f"### {table.paper}: {table.caption}")
        parts += [_rendered(row, table, report, reliance) for row in table.rows]
    return "\n\n".join(parts)


def _made(study: PaperStudy, report: StudyReport) -> str:
    training, test = study.images
    return (
        f"{len(report.models)} trainings on {training} images, {report.request.plan.audit_images} of {test} "
        f"test images audited for each of {len(report.request.plan.seeds)} seeds; {report.seconds / 60:.0f} minutes of "
        "computing. A cell is the mean over seeds and the half width of its 95 % interval; `*` marks p < 0.05 against "
        f"`{report.request.plan.baseline}`, paired by seed, not corrected for the number of comparisons."
    )


def _rendered(row: Row | str, table: Table, report: StudyReport, reliance: Reliance) -> str:
    methods = list(table.methods or [method.name for method in report.request.plan.methods])
    match row:
        case "correlations":
            return correlation_table(report).in_markdown() if report.correlations else ""
        case "reliance":
            return reliance_table(reliance, methods)
        case (check, metric, variant):
            return metric_table(report, check, metric, variant, methods=methods).in_markdown()
    raise AssertionError(row)


def reliance_of(study: PaperStudy, report: StudyReport, folder: Path) -> Reliance:
    """How far each trained model follows the planted mark of its images."""
    _, test = study.data()
    contradicting = test.with_contradicting_marks()
    found: dict[str, dict[str, list[float | None]]] = {measure: {} for measure in MEASURES}
    rules = ACCESS.model_copy(update={"file_roots": (folder.resolve(),)})
    for one in report.models:
        path = folder / "weights" / f"{one.method}-{one.seed}.safetensors"
        reference = trained_reference(study.model, one.weights, uri=path.resolve().as_uri())
        classifier = load_classifier(reference, access=rules)
        before, after = _probabilities(classifier, test.without_marks()), _probabilities(classifier, contradicting)
        reliance = shortcut_reliance(before, after, labels=list(test.labels), marks=list(contradicting.marks))
        for measure, methods in found.items():
            methods.setdefault(one.method, [None] * len(report.request.plan.seeds))[
                report.request.plan.seeds.index(one.seed)
            ] = getattr(reliance, measure)
    return found


def _probabilities(classifier: Classifier, images: SyntheticDataset) -> np.ndarray:
    """Probabilities (image, class) of a dataset."""
    labeled, _ = read_labeled(list(images), use="validation", model=classifier, limits=Limits())
    found: np.ndarray = classifier.probabilities(predicted(classifier, labeled)).numpy()
    return found


def reliance_table(reliance: Reliance, methods: Sequence[str]) -> str:
    """Shares of images, means over seeds and half widths of intervals."""
    lines = [f"| method | {' | '.join(MEASURES.values())} |", f"|---|{'---|' * len(MEASURES)}"]
    lines += [
        f"| {method} | {' | '.join(_mean(reliance[measure][method]) for measure in MEASURES)} |" for method in methods
    ]
    return "\n".join(lines)


def _mean(values: Values) -> str:
    summary = over_seeds(values)
    width = "" if summary.ci is None else f" ± {(summary.ci[1] - summary.ci[0]) / 2:.3g}"
    return "-" if summary.mean is None else f"{summary.mean:.3g}{width}"


def draw_figures(reports: Mapping[str, StudyReport], reliance: Reliance, out: Path) -> None:
    """Three figures, as far as their studies are at hand."""
    mpl.use("agg")
    plt.rcParams.update(
        {"svg.hashsalt": "studies", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    )
    if "li2021" in reports and "li2021_digits" in reports:
        figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", sharey=True)
        for axis, (name, data) in zip(axes, (("li2021", "objects"), ("li2021_digits", "digits")), strict=True):
            methods = ["no_augmentation", "mixup", "randexp", "edda"]
            _by_method(axis, {method: values_of(reports[name], DROP, method) for method in methods})
            axis.set_title(data)
        axes[0].set_ylabel("Drop % of Grad-CAM (lower is better)")
        _save(figure, out / "drop_by_method.png")
    if "won2025" in reports:
        figure, axis = plt.subplots(figsize=(5, 3.6), layout="constrained")
        report = reports["won2025"]
        for method in [one.name for one in report.request.plan.methods]:
            robust, scores = (over_seeds(values_of(report, row, method)).mean for row in (RAO, LERF))
            assert robust is not None and scores is not None  # noqa: PT018 - every model has both
            axis.plot(robust, scores, "o", color=FACE)
            place = (4, -9) if method in BELOW else (4, 3)
            axis.annotate(method, (robust, scores), textcoords="offset points", xytext=place, fontsize=7)
        axis.set_xlabel("area under random deletion: robustness to deletion")
        axis.set_ylabel("area, least relevant first")
        _save(figure, out / "lerf_and_robustness.png")
    if "remedies" in reports:
        report = reports["remedies"]
        methods = [one.name for one in report.request.plan.methods]
        figure, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
        shown: tuple[tuple[str, Mapping[str, Values]], ...] = (
            ("Drop % of Grad-CAM", {method: values_of(report, DROP, method) for method in methods}),
            ("follows the mark of another class", {method: reliance["followed"][method] for method in methods}),
            ("accuracy", {method: values_of(report, ACCURACY, method) for method in methods}),
        )
        for axis, (title, values) in zip(axes, shown, strict=True):
            _by_method(axis, values)
            axis.set_title(title)
        _save(figure, out / "remedies.png")


def _by_method(axis: Axes, values: Mapping[str, Values]) -> None:
    """Seeds as dots, mean and 95 % interval."""
    for place, seeds in enumerate(values.values()):
        known = [one for one in seeds if one is not None]
        summary = over_seeds(seeds)
        axis.plot([place] * len(known), known, ".", color=DOTS, markersize=4)
        mean = math.nan if summary.mean is None else summary.mean
        low, high = summary.ci or (math.nan, math.nan)
        axis.errorbar(
            place + 0.15,
            mean,
            yerr=[[mean - low], [high - mean]],
            fmt="o",
            color=FACE,
            capsize=3,
        )
    axis.set_xticks(range(len(values)), list(values), rotation=30, ha="right")


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=130, metadata={"Software": None})
    plt.close(figure)
