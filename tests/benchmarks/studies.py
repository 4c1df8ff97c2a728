"""The papers' comparisons of training methods, on images with known truth; writes the tables of docs/studies.md.

Two studies on objects on scenes with a planted shortcut: mixed samples and soft labels (Won et al. 2025), and
explanation-driven augmentation (Li et al. 2021). After each, the reliance on the shortcut of every trained model is
measured. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import math
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from rich.console import Console

from auditcore import (
    AccessRules,
    Adam,
    AuditPlan,
    CosineAnnealing,
    DeletionCheck,
    DeletionLoss,
    Edda,
    EddaCheck,
    GradCam,
    GuidedBackpropagation,
    Iba,
    ImageBatchReference,
    InsertionDeletionCheck,
    IntegratedGradients,
    LocalizationCheck,
    Mixup,
    ObjectsOnScenes,
    Random,
    Shortcut,
    SmoothGrad,
    StudyMethod,
    StudyPlan,
    StudyReport,
    StudyRequest,
    SyntheticDataset,
    TrainingPlan,
    generate_images,
    load_classifier,
    shortcut_reliance,
    study,
)
from auditcore.contracts.access import Limits
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.models import FactoryModel, Weights
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.training.methods import TrainingMethod
from auditcore.models.classifier import Classifier
from auditcore.studies.statistics import difference_by_seed, over_seeds
from auditcore.studies.tables import correlation_table, metric_table
from auditcore.training.evaluation import predicted
from auditcore.training.labeled_images import read_labeled
from auditcore.training.results import trained_reference
from benchmarks.machine import processor

console = Console()

CLASSES, SIZE, IMAGES, AGREEMENT = 4, 32, 1000, 0.9
TARGET = "auditcore.models.small_convnet:small_convnet"
MODEL = FactoryModel(
    target=TARGET,
    kwargs={"classes": CLASSES, "width": 8},
    weights=Weights(uri="random:0"),
    preprocessing=Preprocessing(resize=SIZE, crop=SIZE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
)
"""Its weights are drawn anew with each seed."""

EPOCHS, MORE_EPOCHS = 20, 5
EXPLAINERS = (
    GradCam(),
    Iba(),
    SmoothGrad(samples=50),
    IntegratedGradients(steps=50, baseline="mean"),
    GuidedBackpropagation(),
)
"""Those of Won et al. 2025."""

Row = tuple[str, str, str | None]
"""Check, metric and sub-case."""

FAITHFULNESS: tuple[Row, ...] = (
    ("deletion", "lerf_auc", None),
    ("deletion", "rao_auc", None),
    ("deletion", "inter_model_deletion", None),
)
LOCALIZATION: tuple[Row, ...] = (
    ("localization", "energy_pointing_game", None),
    ("localization", "effective_heat_ratio", None),
)
MASKING: tuple[Row, ...] = (("edda", "drop_percent", "top_15"), ("edda", "increase_percent", "top_15"))
GAMES: tuple[Row, ...] = tuple(
    ("insertion_deletion", f"{game}_{fill}", None) for fill in ("zero", "blur") for game in ("deletion", "insertion")
)


def trained(
    method: TrainingMethod | None = None, epochs: int = EPOCHS, rate: float = 3e-3, **changes: object
) -> TrainingPlan:
    """How all models are trained: Adam with cosine annealing, batches of 64."""
    plan = {
        "epochs": epochs,
        "batch_size": 64,
        "optimizer": Adam(learning_rate=rate),
        "schedule": CosineAnnealing(),
        **({} if method is None else {"method": method}),
        **changes,
    }
    return TrainingPlan.model_validate(plan)


def won2025() -> tuple[StudyMethod, ...]:
    """Mixed samples, dissected Mixup, soft labels, and fine-tuning by the inter-model deletion loss."""
    from auditcore import AugMix, CutMix, Cutout, PixMix, RecursiveMix, SaliencyMix  # noqa: PLC0415 - beside their use

    methods: dict[str, TrainingPlan] = {
        "baseline": trained(),
        "mixup": trained(Mixup()),
        "mixup_images": trained(Mixup(mix="images")),
        "mixup_labels": trained(Mixup(mix="labels")),
        "cutmix": trained(CutMix()),
        "saliencymix": trained(SaliencyMix()),
        "recursivemix": trained(RecursiveMix()),
        "pixmix": trained(PixMix()),
        "augmix": trained(AugMix()),
        "cutout": trained(Cutout()),
        "smoothing_0.1": trained(label_smoothing=0.1),
        "smoothing_0.3": trained(label_smoothing=0.3),
        "smoothing_0.5": trained(label_smoothing=0.5),
    }
    more = trained(DeletionLoss(mix=Mixup()), MORE_EPOCHS, 1e-3)
    plain = trained(Mixup(), MORE_EPOCHS, 1e-3)
    return (
        *(StudyMethod(name=name, plan=plan) for name, plan in methods.items()),
        StudyMethod(name="longer_mixup", plan=plain, continues="mixup"),
        StudyMethod(name="faithful_mixup", plan=more, continues="mixup"),
    )


def li2021() -> tuple[StudyMethod, ...]:
    """Explanation-driven augmentation beside its control and the mixes that the paper compares it with."""
    from auditcore import AugMix, CutMix  # noqa: PLC0415 - beside their use

    return tuple(
        StudyMethod(name=name, plan=trained(method))
        for name, method in {
            "no_augmentation": None,
            "cutmix": CutMix(),
            "mixup": Mixup(),
            "augmix": AugMix(),
            "randexp": Edda(explainer=Random()),
            "edda": Edda(),
            "edda_0.2": Edda(umask_threshold=0.2, imask_threshold=0.2),
        }.items()
    )


def data() -> tuple[SyntheticDataset, SyntheticDataset]:
    """Images to train on, and images to audit on."""
    whole = generate_images(
        ObjectsOnScenes(
            images=IMAGES,
            size_px=SIZE,
            object_classes=CLASSES,
            scene_classes=CLASSES,
            shortcut=Shortcut(agreement=AGREEMENT),
        )
    )
    training, test = whole.split(0.7)
    return training, test


def run(methods: Sequence[StudyMethod], seeds: int, images: int, out: Path) -> StudyReport:
    """One study; goes on with what the folder holds."""
    training, test = data()
    placeholder = ImageBatchReference(digest=sha256(b""))
    audit = AuditPlan(
        explainers=EXPLAINERS,
        checks=(DeletionCheck(), EddaCheck(keep=(0.15,)), InsertionDeletionCheck(), LocalizationCheck()),
    )
    plan = StudyPlan(methods=tuple(methods), seeds=tuple(range(seeds)), audit=audit, audit_images=images)
    return study(
        StudyRequest(model=MODEL, images=placeholder, test=placeholder, plan=plan),
        out=out,
        images=list(training),
        test=list(test),
        access=AccessRules(factories=(TARGET,)),
        progress=Told(),
    )


class Told:
    """Prints what begins, and how much is done."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, share: float, now: str) -> None:
        """Print a line if something else has begun."""
        if now != self._last:
            self._last = now
            console.print(f"{share:4.0%} {now}", highlight=False)


def reliance_table(report: StudyReport, out: Path) -> str:
    """How far each method's models follow the planted mark, over seeds."""
    _, test = data()
    found: dict[str, list[tuple[float, ...]]] = {}
    for one in report.models:
        path = out / "weights" / f"{one.method}-{one.seed}.safetensors"
        reference = trained_reference(MODEL, one.weights, uri=path.resolve().as_uri())
        rules = AccessRules(factories=(TARGET,), file_roots=(out.resolve(),))
        classifier = load_classifier(reference, access=rules)
        contradicting = test.with_contradicting_marks()
        before, after = probabilities(classifier, test.without_marks()), probabilities(classifier, contradicting)
        reliance = shortcut_reliance(before, after, labels=list(test.labels), marks=list(contradicting.marks))
        values = (reliance.accuracy_before, reliance.accuracy_after, reliance.followed)
        found.setdefault(one.method, []).append(tuple(math.nan if value is None else value for value in values))
    baseline = found[report.request.plan.baseline]
    lines = [
        "**Reliance on the planted mark** (shares of images; means over seeds and half widths of 95 % intervals)",
        "",
        "| method | right without mark | right with the mark of another class | follows that mark |",
        "|---|---|---|---|",
    ]
    for method, rows in found.items():
        cells = []
        for number in range(3):
            column = [row[number] for row in rows]
            summary, other = over_seeds(column), [row[number] for row in baseline]
            difference = difference_by_seed(column, other)
            p_value = difference.p_value if method != report.request.plan.baseline else None
            star = "*" if p_value is not None and p_value < 0.05 else ""
            width = "" if summary.ci is None else f" ± {(summary.ci[1] - summary.ci[0]) / 2:.3g}"
            cells.append(f"{summary.mean:.3g}{width}{star}")
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def probabilities(classifier: Classifier, images: SyntheticDataset) -> np.ndarray:
    """Probabilities (image, class) of a dataset."""
    labeled, _ = read_labeled(list(images), use="validation", model=classifier, limits=Limits())
    found: np.ndarray = classifier.probabilities(predicted(classifier, labeled)).numpy()
    return found


def page(report: StudyReport, rows: Sequence[Row], out: Path) -> str:
    """The tables of one study."""
    methods = [method.name for method in report.request.plan.methods]
    known = {(row.check, row.metric, row.variant) for row in report.rows}
    parts = [metric_table(report, "performance", "accuracy", None, methods=methods)]
    parts += [metric_table(report, *row, methods=methods) for row in rows if row in known]
    return "\n\n".join([*parts, correlation_table(report), reliance_table(report, out)])


def main() -> None:
    """Run both studies and write their tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="Trainings of each method.")
    parser.add_argument("--images", type=int, default=60, help="Audited test images.")
    parser.add_argument("--out", type=Path, default=Path("studies"), help="Folder of weights, reports and tables.")
    options = parser.parse_args()
    parts = [
        f"Made by `make studies` on {datetime.now(UTC):%Y-%m-%d}, {processor()}, Python {platform.python_version()}.",
    ]
    for title, methods, rows in (
        ("Mixed samples and soft labels (Won et al. 2025)", won2025(), (*FAITHFULNESS, *LOCALIZATION)),
        ("Explanation-driven augmentation (Li et al. 2021)", li2021(), (*MASKING, *GAMES)),
    ):
        folder = options.out / methods[0].name
        report = run(methods, options.seeds, options.images, folder)
        parts += [f"## {title}", page(report, rows, folder), f"It took {report.seconds / 60:.0f} minutes of computing."]
    (options.out / "studies.md").write_text("\n\n".join(parts) + "\n")
    console.print(f"written to {options.out / 'studies.md'}")


if __name__ == "__main__":
    main()
