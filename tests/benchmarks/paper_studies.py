"""The comparisons of Won et al. 2025 and Li et al. 2021 on data that is at hand: what is trained, and what is measured.

Small networks on objects on scenes (after BAM, as Won 3.4.2) and on scikit-learn's digits. Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
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
    TorchvisionModel,
    TrainingPlan,
    generate_images,
)
from auditcore.contracts.checks import Check
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.models import FactoryModel, Weights
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.training.methods import TrainingMethod

AGREEMENT = 0.9
"""Share of the images whose planted mark has the color of their class."""

RATE, LOWER_RATE = 3e-3, 1e-3

CONVNET = "auditcore.models.small_convnet:small_convnet"
TRANSFORMER = "timm.models.vision_transformer:VisionTransformer"
ACCESS = AccessRules(factories=(CONVNET, TRANSFORMER))

DIGIT_SIDE, DIGIT_EPOCHS = 32, 10
"""Digits are learned within five epochs."""

DIGITS = (1078, 360)
"""Digits to train on, and to test on."""

TRAINING_SHARE = 0.7
"""Share of the images of objects that is trained on."""

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
class Scale:
    """How large studies are.

    Attributes:
        network: The network that learns objects; `resnet50` is torchvision's.
        images: Number of images, 70 % of them to train on.
        side: Of an image, in pixels.
        classes: Of objects, and of scenes.
        epochs: Passes over the training images.
        more_epochs: The same of fine-tuning.
        batch_size: Most images of a step.
        precision: Of trainings.
        audited: Factor of the number of audited images.
    """

    network: Literal["convnet", "resnet50"]
    images: int
    side: int
    classes: int
    epochs: int
    more_epochs: int
    batch_size: int
    precision: Literal["fp32", "bf16"]
    audited: int


SMALL = Scale(
    "convnet", images=2000, side=32, classes=4, epochs=20, more_epochs=4, batch_size=64, precision="fp32", audited=1
)
LARGE = Scale(
    "resnet50",
    images=16_000,
    side=128,
    classes=10,
    epochs=30,
    more_epochs=10,
    batch_size=128,
    precision="bf16",
    audited=10,
)
"""For a card: ResNet-50, as in both papers."""


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
        images: Numbers of both.
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
    images: tuple[int, int]
    methods: tuple[StudyMethod, ...]
    tables: tuple[Table, ...]
    checks: tuple[Check, ...]
    audit_images: int
    model: FactoryModel | TorchvisionModel
    explainers: tuple[Explainer, ...] = EXPLAINERS


def halves(scale: Scale) -> tuple[int, int]:
    """Numbers of images of objects to train on and to test on."""
    training = round(TRAINING_SHARE * scale.images)
    return training, scale.images - training


def network(scale: Scale) -> FactoryModel | TorchvisionModel:
    """The network that learns objects."""
    if scale.network == "convnet":
        return convnet(scale.classes)
    weights = Weights(uri="random:0")
    return TorchvisionModel(
        name=scale.network, weights=weights, classes=scale.classes, preprocessing=preprocessing(scale.side)
    )


def convnet(classes: int) -> FactoryModel:
    """Three blocks of convolution, batch normalization and ReLU."""
    return _small(CONVNET, {"classes": classes, "width": 12})


def transformer(classes: int) -> FactoryModel:
    """A vision transformer with 64 patches and four blocks."""
    kwargs: dict[str, bool | int | float | str | None] = {
        "img_size": DIGIT_SIDE,
        "patch_size": 4,
        "num_classes": classes,
        "embed_dim": 48,
        "depth": 4,
        "num_heads": 3,
    }
    return _small(TRANSFORMER, kwargs)


def _small(target: str, kwargs: dict[str, bool | int | float | str | None]) -> FactoryModel:
    return FactoryModel(
        target=target,
        kwargs=kwargs,
        weights=Weights(uri="random:0"),
        preprocessing=preprocessing(DIGIT_SIDE),
    )


def preprocessing(side: int) -> Preprocessing:
    """Images as they are, between -2 and 2."""
    return Preprocessing(resize=side, crop=side, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def trained(
    scale: Scale,
    method: TrainingMethod | None = None,
    *,
    epochs: int | None = None,
    rate: float = RATE,
    **changes: object,
) -> TrainingPlan:
    """How all models are trained: Adam with cosine annealing."""
    plan = {
        "epochs": epochs or scale.epochs,
        "batch_size": scale.batch_size,
        "precision": scale.precision,
        "optimizer": Adam(learning_rate=rate),
        "schedule": CosineAnnealing(),
        **({} if method is None else {"method": method}),
        **changes,
    }
    return TrainingPlan.model_validate(plan)


def fine_tuned(scale: Scale, method: TrainingMethod | None = None) -> TrainingPlan:
    """A few more epochs with a lower learning rate."""
    return trained(scale, method, epochs=scale.more_epochs, rate=LOWER_RATE)


def named(plans: Mapping[str, TrainingPlan], *, continues: str | None = None) -> tuple[StudyMethod, ...]:
    """Methods of a study from training plans by name."""
    return tuple(StudyMethod(name=name, plan=plan, continues=continues) for name, plan in plans.items())


Data = tuple[SyntheticDataset, SyntheticDataset]
"""Images to train on, and images to test on."""


def objects(scale: Scale, *, shortcut: Shortcut | None = None) -> Data:
    """Objects on scenes with the labels of objects."""
    return _halves(scale, "objects", shortcut)


def marked_objects(scale: Scale) -> Data:
    """The same with a mark in a corner that has the class's color in nine images of ten."""
    return objects(scale, shortcut=Shortcut(agreement=AGREEMENT))


def labeled_scenes(scale: Scale) -> Data:
    """The same images with the labels of scenes; boxes and masks are still those of objects."""
    training, test = _halves(scale, "scenes", None)
    return training, test.annotating("object")


def digits() -> Data:
    """Digits; the test images are mostly of other writers."""
    return generate_images(Digits(part="training")), generate_images(Digits(part="test"))


def _halves(scale: Scale, labels: Literal["objects", "scenes"], shortcut: Shortcut | None) -> Data:
    parameters = ObjectsOnScenes(
        images=scale.images,
        size_px=scale.side,
        object_classes=scale.classes,
        scene_classes=scale.classes,
        labels=labels,
        shortcut=shortcut,
    )
    training, test = generate_images(parameters).split(TRAINING_SHARE)
    return training, test


MIXES = ("baseline", "mixup", "cutmix", "saliencymix", "recursivemix", "pixmix")
DISSECTED = ("baseline", "mixup_images", "mixup_labels", "mixup")
SMOOTHED = ("baseline", "smoothing_0.1", "smoothing_0.3", "smoothing_0.5")
FAITHFUL = ("mixup", "longer_mixup", "faithful_mixup", "cutmix", "longer_cutmix", "faithful_cutmix")


def mixes(scale: Scale) -> dict[str, TrainingPlan]:
    """The mixes that Won et al. 2025 compare."""
    return {
        "baseline": trained(scale),
        "mixup": trained(scale, Mixup()),
        "cutmix": trained(scale, CutMix()),
        "saliencymix": trained(scale, SaliencyMix()),
        "recursivemix": trained(scale, RecursiveMix()),
        "pixmix": trained(scale, PixMix()),
    }


def soft_labels(scale: Scale) -> dict[str, TrainingPlan]:
    """Halves of Mixup, and label smoothing."""
    return {
        "mixup_images": trained(scale, Mixup(mix="images")),
        "mixup_labels": trained(scale, Mixup(mix="labels")),
        "smoothing_0.1": trained(scale, label_smoothing=0.1),
        "smoothing_0.3": trained(scale, label_smoothing=0.3),
        "smoothing_0.5": trained(scale, label_smoothing=0.5),
    }


def explained(scale: Scale) -> dict[str, TrainingPlan]:
    """Explanation-driven augmentation beside what Li et al. 2021 compare it with."""
    return {
        "no_augmentation": trained(scale),
        "cutmix": trained(scale, CutMix()),
        "mixup": trained(scale, Mixup()),
        "augmix": trained(scale, AugMix()),
        "randexp": trained(scale, Edda(explainer=Random())),
        "edda": trained(scale, Edda()),
        "edda_0.2": trained(scale, Edda(umask_threshold=0.2, imask_threshold=0.2)),
    }


def won2025(scale: Scale) -> PaperStudy:
    """Mixes and soft labels."""
    return PaperStudy(
        name="won2025",
        title="Mixed samples and soft labels on objects (Won et al. 2025)",
        data=partial(objects, scale),
        images=halves(scale),
        methods=named(mixes(scale) | soft_labels(scale)),
        tables=(
            Table("Won 1", "accuracy", (ACCURACY,), MIXES),
            Table("Won 2", "localization", (ENERGY, HEAT), MIXES),
            Table("Won 4", "correlation of robustness to random deletion with scores of deletion", ("correlations",)),
            Table("Won 5", "least relevant first, and random order", (LERF, RAO), MIXES),
            Table("Won 6", "inter-model deletion", (INTER_MODEL,), MIXES),
            Table("Won 10", "dissected Mixup: inter-model deletion", (INTER_MODEL,), DISSECTED),
            Table("Won 11", "dissected Mixup: localization", (ENERGY, HEAT), DISSECTED),
            Table("Won 12", "label smoothing: inter-model deletion", (INTER_MODEL,), SMOOTHED),
            Table("Won 13", "label smoothing: localization", (ENERGY, HEAT), SMOOTHED),
        ),
        checks=(DeletionCheck(), LocalizationCheck()),
        audit_images=30 * scale.audited,
        model=network(scale),
    )


def faithful_mixes(scale: Scale) -> PaperStudy:
    """Fine-tuning of the models of two mixes: with the same mix alone, and with the deletion loss too."""
    mixed: dict[str, Mixup | CutMix] = {"mixup": Mixup(), "cutmix": CutMix()}
    plans = mixes(scale)
    return PaperStudy(
        name="won2025_fine_tuned",
        title="Fine-tuning with the inter-model deletion loss (Won et al. 2025, 5.1)",
        data=partial(objects, scale),
        images=halves(scale),
        methods=(
            *named({name: plans[name] for name in mixed}),
            *(
                method
                for name, mix in mixed.items()
                for method in named(
                    {
                        f"longer_{name}": fine_tuned(scale, mix),
                        f"faithful_{name}": fine_tuned(scale, DeletionLoss(mix=mix)),
                    },
                    continues=name,
                )
            ),
        ),
        tables=(
            Table("Won 14", "inter-model deletion", (INTER_MODEL,), FAITHFUL),
            Table("Won 14", "accuracy", (ACCURACY,), FAITHFUL),
        ),
        checks=(DeletionCheck(),),
        audit_images=30 * scale.audited,
        model=network(scale),
    )


def scenes(scale: Scale) -> PaperStudy:
    """The same images with the labels of scenes."""
    plans = mixes(scale)
    return PaperStudy(
        name="won2025_scenes",
        title="The same images with the labels of scenes (Won et al. 2025, 3.4.2)",
        data=partial(labeled_scenes, scale),
        images=halves(scale),
        methods=named({name: plans[name] for name in ("baseline", "mixup", "cutmix", "saliencymix")}),
        tables=(
            Table("Won 3", "accuracy with labels of scenes", (ACCURACY,)),
            Table("Won, figure 3", "how much of a map of the scene's class lies on the object", (ENERGY,)),
        ),
        checks=(LocalizationCheck(),),
        audit_images=30 * scale.audited,
        model=network(scale),
    )


def tokens() -> PaperStudy:
    """TokenMixup of a small transformer on digits."""
    tuned = partial(trained, SMALL, epochs=SMALL.more_epochs, rate=3e-4)
    return PaperStudy(
        name="won2025_tokens",
        title="TokenMixup of a vision transformer on digits (Won et al. 2025, 3.6)",
        data=digits,
        images=DIGITS,
        methods=(
            *named({"baseline": trained(SMALL, rate=1e-3)}),
            *named(
                {
                    "horizontal": tuned(TokenMixup(direction="horizontal")),
                    "vertical": tuned(TokenMixup(direction="vertical")),
                    "both": tuned(TokenMixup(direction="both", horizontal_layer=2, vertical_layer=3)),
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
        audit_images=30,
        model=transformer(10),
    )


LI_TABLES = (
    Table("Li 1", "Drop % and Increase % at the top 15 %", (DROP, INCREASE)),
    Table("Li 3", "deletion and insertion with the mean color", ZERO),
    Table("Li 4", "deletion and insertion with blur", BLUR),
    Table("Li 5", "accuracy", (ACCURACY,)),
)


def li2021(scale: Scale) -> PaperStudy:
    """Explanation-driven augmentation on objects."""
    return PaperStudy(
        name="li2021",
        title="Explanation-driven augmentation on objects (Li et al. 2021)",
        data=partial(objects, scale),
        images=halves(scale),
        methods=named(explained(scale)),
        tables=LI_TABLES,
        checks=(EddaCheck(keep=(0.15,)), InsertionDeletionCheck(pixels_per_step=scale.side)),
        explainers=(GradCam(),),
        audit_images=60 * scale.audited,
        model=network(scale),
    )


def li2021_digits() -> PaperStudy:
    """The same on digits, with the halves of Mixup and soft labels beside it."""
    plans = explained(SMALL) | soft_labels(SMALL)
    left_out = {"cutmix", "augmix", "edda_0.2", "smoothing_0.1"}
    short = {
        name: plan.model_copy(update={"epochs": DIGIT_EPOCHS}) for name, plan in plans.items() if name not in left_out
    }
    return PaperStudy(
        name="li2021_digits",
        title="Explanation-driven augmentation, mixes and soft labels on digits",
        data=digits,
        images=DIGITS,
        methods=named(short),
        tables=(
            *LI_TABLES,
            Table("Won 4", "correlation of robustness to random deletion with scores of deletion", ("correlations",)),
            Table("Won 5", "least relevant first, and random order", (LERF, RAO)),
            Table("Won 6, 10, 12", "inter-model deletion", (INTER_MODEL,)),
        ),
        checks=(EddaCheck(keep=(0.15,)), InsertionDeletionCheck(pixels_per_step=DIGIT_SIDE), DeletionCheck()),
        explainers=(GradCam(),),
        audit_images=30,
        model=convnet(10),
    )


def remedies(scale: Scale) -> PaperStudy:
    """Fine-tuning of models that have learned a planted shortcut, beside fine-tuning without any method."""
    return PaperStudy(
        name="remedies",
        title="Fine-tuning of models that have learned a planted shortcut",
        data=partial(marked_objects, scale),
        images=halves(scale),
        methods=(
            *named({"shortcut": trained(scale)}),
            *named(
                {
                    "longer": fine_tuned(scale),
                    "randexp": fine_tuned(scale, Edda(explainer=Random())),
                    "edda": fine_tuned(scale, Edda()),
                    "edda_mean": fine_tuned(scale, Edda(color="mean")),
                    "deletion_loss": fine_tuned(scale, DeletionLoss()),
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
        audit_images=40 * scale.audited,
        model=network(scale),
    )


def paper_studies(scale: Scale) -> tuple[PaperStudy, ...]:
    """All studies of a scale. Digits have 8 x 8 pixels, so their studies have one size only."""
    large = tuple(make(scale) for make in (li2021, remedies, won2025, faithful_mixes, scenes))
    return large if scale is LARGE else (*large, li2021_digits(), tokens())
