"""The comparisons of Won et al. 2025 and Li et al. 2021 on data that is at hand: what is trained, and what is measured.

Small networks on objects on scenes (after BAM, as Won 3.4.2) and on scikit-learn's digits. Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, final

from auditcore import (
    AccessRules,
    Adam,
    AugMix,
    CosineAnnealing,
    CutMix,
    DeletionCheck,
    DeletionLoss,
    Digits,
    Edda,
    EddaCheck,
    GradCam,
    GuidedBackpropagation,
    Iba,
    InsertionDeletionCheck,
    IntegratedGradients,
    LocalizationCheck,
    Mixup,
    ObjectsOnScenes,
    PixMix,
    Random,
    RecursiveMix,
    SaliencyMix,
    Shortcut,
    SmoothGrad,
    StudyMethod,
    SyntheticDataset,
    TokenMixup,
    TrainingPlan,
    generate_images,
)
from auditcore.contracts.checks import Check
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.models import FactoryModel, Weights
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.training.methods import TrainingMethod

IMAGES, SIZE, CLASSES, AGREEMENT = 2000, 32, 4, 0.9
EPOCHS, MORE_EPOCHS, RATE, LOWER_RATE = 20, 4, 3e-3, 1e-3

CONVNET = "auditcore.models.small_convnet:small_convnet"
TRANSFORMER = "timm.models.vision_transformer:VisionTransformer"
ACCESS = AccessRules(factories=(CONVNET, TRANSFORMER))

Row = tuple[str, str, str | None]
"""Check, metric and sub-case."""

ACCURACY: Row = ("performance", "accuracy", None)
LERF: Row = ("deletion", "lerf_auc", None)
RAO: Row = ("deletion", "rao_auc", None)
INTER_MODEL: Row = ("deletion", "inter_model_deletion", None)
ENERGY: Row = ("localization", "energy_pointing_game", None)
HEAT: Row = ("localization", "effective_heat_ratio", None)
DROP: Row = ("edda", "drop_percent", "top_15")
INCREASE: Row = ("edda", "increase_percent", "top_15")
ZERO: tuple[Row, ...] = (("insertion_deletion", "deletion_zero", None), ("insertion_deletion", "insertion_zero", None))
BLUR: tuple[Row, ...] = (("insertion_deletion", "deletion_blur", None), ("insertion_deletion", "insertion_blur", None))

EXPLAINERS: tuple[Explainer, ...] = (
    GradCam(),
    Iba(),
    SmoothGrad(samples=50),
    IntegratedGradients(steps=50, baseline="mean"),
    GuidedBackpropagation(),
)
"""Those of Won et al. 2025."""


@final
@dataclass(frozen=True)
class Table:
    """A table of a paper and its counterpart here.

    Attributes:
        paper: Its number there.
        caption: What it shows.
        rows: Metrics; `correlations` for those over models, `reliance` for that on the planted mark.
        methods: Methods to show; all if empty.
    """

    paper: str
    caption: str
    rows: tuple[Row | Literal["correlations", "reliance"], ...]
    methods: tuple[str, ...] = ()


@final
@dataclass(frozen=True)
class PaperStudy:
    """One study.

    Attributes:
        name: Of its folder.
        title: For people.
        data: Makes the images to train on and those to test on.
        methods: What is compared; the first is the baseline.
        tables: What is shown.
        checks: What is measured.
        explainers: Whose maps are measured.
        audit_images: Test images that are audited.
        model: Architecture; its weights are drawn anew with each seed.
    """

    name: str
    title: str
    data: Callable[[], tuple[SyntheticDataset, SyntheticDataset]]
    methods: tuple[StudyMethod, ...]
    tables: tuple[Table, ...]
    checks: tuple[Check, ...]
    explainers: tuple[Explainer, ...] = EXPLAINERS
    audit_images: int = 30
    model: FactoryModel = field(default_factory=lambda: convnet(CLASSES))


def convnet(classes: int) -> FactoryModel:
    """Three blocks of convolution, batch normalization and ReLU."""
    return _model(CONVNET, {"classes": classes, "width": 12})


def transformer(classes: int) -> FactoryModel:
    """A vision transformer with 64 patches and four blocks."""
    kwargs: dict[str, bool | int | float | str | None] = {
        "img_size": SIZE,
        "patch_size": 4,
        "num_classes": classes,
        "embed_dim": 48,
        "depth": 4,
        "num_heads": 3,
    }
    return _model(TRANSFORMER, kwargs)


def _model(target: str, kwargs: dict[str, bool | int | float | str | None]) -> FactoryModel:
    return FactoryModel(
        target=target,
        kwargs=kwargs,
        weights=Weights(uri="random:0"),
        preprocessing=Preprocessing(resize=SIZE, crop=SIZE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
    )


def trained(
    method: TrainingMethod | None = None, epochs: int = EPOCHS, rate: float = RATE, **changes: object
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


def named(plans: Mapping[str, TrainingPlan], *, continues: str | None = None) -> tuple[StudyMethod, ...]:
    """Methods of a study from training plans by name."""
    return tuple(StudyMethod(name=name, plan=plan, continues=continues) for name, plan in plans.items())


def scenes(labels: Literal["objects", "scenes"] = "objects", shortcut: Shortcut | None = None) -> ObjectsOnScenes:
    """Objects on scenes, four classes of each."""
    return ObjectsOnScenes(
        images=IMAGES,
        size_px=SIZE,
        object_classes=CLASSES,
        scene_classes=CLASSES,
        labels=labels,
        shortcut=shortcut,
    )


def objects() -> tuple[SyntheticDataset, SyntheticDataset]:
    """Labels are those of objects."""
    return _halves(scenes())


def labeled_scenes() -> tuple[SyntheticDataset, SyntheticDataset]:
    """The same images with the labels of scenes; boxes and masks are still those of objects."""
    training, test = _halves(scenes("scenes"))
    return training, test.annotating("object")


def marked_objects() -> tuple[SyntheticDataset, SyntheticDataset]:
    """The same with a mark in a corner that has the class's color in nine images of ten."""
    return _halves(scenes(shortcut=Shortcut(agreement=AGREEMENT)))


def digits() -> tuple[SyntheticDataset, SyntheticDataset]:
    """Digits; the test images are mostly of other writers."""
    return generate_images(Digits(part="training")), generate_images(Digits(part="test"))


def _halves(data: ObjectsOnScenes) -> tuple[SyntheticDataset, SyntheticDataset]:
    training, test = generate_images(data).split(0.7)
    return training, test


MIXES: Mapping[str, TrainingPlan] = {
    "baseline": trained(),
    "mixup": trained(Mixup()),
    "cutmix": trained(CutMix()),
    "saliencymix": trained(SaliencyMix()),
    "recursivemix": trained(RecursiveMix()),
    "pixmix": trained(PixMix()),
}
SOFT_LABELS: Mapping[str, TrainingPlan] = {
    "mixup_images": trained(Mixup(mix="images")),
    "mixup_labels": trained(Mixup(mix="labels")),
    "smoothing_0.1": trained(label_smoothing=0.1),
    "smoothing_0.3": trained(label_smoothing=0.3),
    "smoothing_0.5": trained(label_smoothing=0.5),
}
DISSECTED = ("baseline", "mixup_images", "mixup_labels", "mixup")
SMOOTHED = ("baseline", "smoothing_0.1", "smoothing_0.3", "smoothing_0.5")
FAITHFUL = ("mixup", "longer_mixup", "faithful_mixup", "cutmix", "longer_cutmix", "faithful_cutmix")


def continued(name: str, mix: Mixup | CutMix) -> tuple[StudyMethod, ...]:
    """Fine-tuning of the models of a mix: with the same mix alone, and with the deletion loss too."""
    return (
        *named({f"longer_{name}": trained(mix, MORE_EPOCHS, LOWER_RATE)}, continues=name),
        *named({f"faithful_{name}": trained(DeletionLoss(mix=mix), MORE_EPOCHS, LOWER_RATE)}, continues=name),
    )


WON = PaperStudy(
    name="won2025",
    title="Mixed samples and soft labels on objects (Won et al. 2025)",
    data=objects,
    methods=(*named(MIXES), *named(SOFT_LABELS)),
    tables=(
        Table("Won 1", "accuracy", (ACCURACY,), tuple(MIXES)),
        Table("Won 2", "localization", (ENERGY, HEAT), tuple(MIXES)),
        Table("Won 4", "correlation of robustness to random deletion with scores of deletion", ("correlations",)),
        Table("Won 5", "least relevant first, and random order", (LERF, RAO), tuple(MIXES)),
        Table("Won 6", "inter-model deletion", (INTER_MODEL,), tuple(MIXES)),
        Table("Won 10", "dissected Mixup: inter-model deletion", (INTER_MODEL,), DISSECTED),
        Table("Won 11", "dissected Mixup: localization", (ENERGY, HEAT), DISSECTED),
        Table("Won 12", "label smoothing: inter-model deletion", (INTER_MODEL,), SMOOTHED),
        Table("Won 13", "label smoothing: localization", (ENERGY, HEAT), SMOOTHED),
    ),
    checks=(DeletionCheck(), LocalizationCheck()),
)

FAITHFUL_MIXES = PaperStudy(
    name="won2025_fine_tuned",
    title="Fine-tuning with the inter-model deletion loss (Won et al. 2025, 5.1)",
    data=objects,
    methods=(
        *named({"mixup": MIXES["mixup"], "cutmix": MIXES["cutmix"]}),
        *continued("mixup", Mixup()),
        *continued("cutmix", CutMix()),
    ),
    tables=(
        Table("Won 14", "inter-model deletion", (INTER_MODEL,), FAITHFUL),
        Table("Won 14", "accuracy", (ACCURACY,), FAITHFUL),
    ),
    checks=(DeletionCheck(),),
)

SCENES = PaperStudy(
    name="won2025_scenes",
    title="The same images with the labels of scenes (Won et al. 2025, 3.4.2)",
    data=labeled_scenes,
    methods=named({name: MIXES[name] for name in ("baseline", "mixup", "cutmix", "saliencymix")}),
    tables=(
        Table("Won 3", "accuracy with labels of scenes", (ACCURACY,)),
        Table("Won, figure 3", "how much of a map of the scene's class lies on the object", (ENERGY,)),
    ),
    checks=(LocalizationCheck(),),
)

TOKENS = PaperStudy(
    name="won2025_tokens",
    title="TokenMixup of a vision transformer on digits (Won et al. 2025, 3.6)",
    data=digits,
    methods=(
        *named({"baseline": trained(rate=1e-3)}),
        *named(
            {
                "horizontal": trained(TokenMixup(direction="horizontal"), MORE_EPOCHS, 3e-4),
                "vertical": trained(TokenMixup(direction="vertical"), MORE_EPOCHS, 3e-4),
                "both": trained(TokenMixup(direction="both"), MORE_EPOCHS, 3e-4),
            },
            continues="baseline",
        ),
    ),
    tables=(
        Table("Won 7", "accuracy", (ACCURACY,)),
        Table("Won 8", "localization", (ENERGY, HEAT)),
        Table("Won 9", "inter-model deletion", (INTER_MODEL,)),
    ),
    checks=(DeletionCheck(), LocalizationCheck()),
    explainers=(GradCam(), SmoothGrad(samples=50), IntegratedGradients(steps=50, baseline="mean")),
    model=transformer(10),
)

EXPLAINED: Mapping[str, TrainingPlan] = {
    "no_augmentation": trained(),
    "cutmix": trained(CutMix()),
    "mixup": trained(Mixup()),
    "augmix": trained(AugMix()),
    "randexp": trained(Edda(explainer=Random())),
    "edda": trained(Edda()),
    "edda_0.2": trained(Edda(umask_threshold=0.2, imask_threshold=0.2)),
}

LI_TABLES = (
    Table("Li 1", "Drop % and Increase % at the top 15 %", (DROP, INCREASE)),
    Table("Li 3", "deletion and insertion with the mean color", ZERO),
    Table("Li 4", "deletion and insertion with blur", BLUR),
    Table("Li 5", "accuracy", (ACCURACY,)),
)

LI = PaperStudy(
    name="li2021",
    title="Explanation-driven augmentation on objects (Li et al. 2021)",
    data=objects,
    methods=named(EXPLAINED),
    tables=LI_TABLES,
    checks=(EddaCheck(keep=(0.15,)), InsertionDeletionCheck()),
    explainers=(GradCam(),),
    audit_images=60,
)

DIGIT_EPOCHS = 10
"""Digits are learned within five epochs."""

LI_DIGITS = PaperStudy(
    name="li2021_digits",
    title="Explanation-driven augmentation, mixes and soft labels on digits",
    data=digits,
    methods=tuple(
        one.model_copy(update={"plan": one.plan.model_copy(update={"epochs": DIGIT_EPOCHS})})
        for one in (*named(EXPLAINED), *named(SOFT_LABELS))
        if one.name not in {"cutmix", "augmix", "edda_0.2", "smoothing_0.1"}
    ),
    tables=(
        *LI_TABLES,
        Table("Won 4", "correlation of robustness to random deletion with scores of deletion", ("correlations",)),
        Table("Won 5", "least relevant first, and random order", (LERF, RAO)),
        Table("Won 6, 10, 12", "inter-model deletion", (INTER_MODEL,)),
    ),
    checks=(EddaCheck(keep=(0.15,)), InsertionDeletionCheck(), DeletionCheck()),
    explainers=(GradCam(),),
    model=convnet(10),
)

REMEDIES = PaperStudy(
    name="remedies",
    title="Fine-tuning of models that have learned a planted shortcut",
    data=marked_objects,
    methods=(
        *named({"shortcut": trained()}),
        *named(
            {
                "longer": trained(epochs=MORE_EPOCHS, rate=LOWER_RATE),
                "randexp": trained(Edda(explainer=Random()), MORE_EPOCHS, LOWER_RATE),
                "edda": trained(Edda(), MORE_EPOCHS, LOWER_RATE),
                "edda_mean": trained(Edda(color="mean"), MORE_EPOCHS, LOWER_RATE),
                "deletion_loss": trained(DeletionLoss(), MORE_EPOCHS, LOWER_RATE),
            },
            continues="shortcut",
        ),
    ),
    tables=(
        Table("Li 1", "Drop % and Increase % at the top 15 %", (DROP, INCREASE)),
        Table("Won 6", "inter-model deletion", (INTER_MODEL,)),
        Table("ours", "accuracy on images with marks like those of the training", (ACCURACY,)),
        Table("ours", "reliance on the planted mark", ("reliance",)),
    ),
    checks=(EddaCheck(keep=(0.15,)), DeletionCheck()),
    explainers=(GradCam(),),
    audit_images=40,
)

STUDIES = (LI, REMEDIES, LI_DIGITS, WON, FAITHFUL_MIXES, SCENES, TOKENS)
