"""The name, unit and direction of every number a report can hold: one table."""

from __future__ import annotations

from typing import Literal, final

from auditcore.contracts.contract import Contract

Variant = Literal["augmentation", "augmentation_mean", "change", "mask", "none"]

Bounds = tuple[float | None, float | None]
"""No value of a metric lies below the first or above the second; None where there is no such bound."""

UNBOUNDED: Bounds = (None, None)


@final
class Metric(Contract):
    """What one metric means.

    Attributes:
        unit: Unit of mean and per-image values.
        higher_is_better: Direction; null where neither is better.
        meaning: One sentence for a reader of the report.
        variants: What its `variant` names: an augmentation, or `mean` over several of them; a part of the
            changes, see `checks.change_variants`; a mask (the share of kept pixels, or the threshold above which they
            are kept); or nothing.
        of_explainer: False for properties of model and image, listed with `explainer: null`.
        of_order: Under checks that order pixels or cells, whether it depends on the order; where a check reports both
            orders, others are listed once.
        control: Tells how far the other numbers can be trusted; listed under `controls`.
        lowest: No value of an image lies below; None where there is no such bound.
        highest: No value of an image lies above; likewise.
        pooled: Listed with statistics over all single changes of all images too, beside those over images.
        boxed: Listed with the quartiles over images too.
    """

    unit: str
    higher_is_better: bool | None
    meaning: str
    variants: Variant = "none"
    of_explainer: bool = True
    of_order: bool = True
    control: bool = False
    lowest: float | None = None
    highest: float | None = None
    pooled: bool = False
    boxed: bool = False


METRICS: dict[str, dict[str, Metric]] = {
    "sweep": {
        "probability_score": Metric(
            unit="area",
            higher_is_better=True,
            variants="augmentation",
            of_explainer=False,
            lowest=0,
            highest=2,
            meaning="Area under the target probability over the interval, shifted to 1 at the anchor.",
        ),
        "prediction_flip_rate": Metric(
            unit="share of levels",
            higher_is_better=False,
            variants="augmentation",
            of_explainer=False,
            lowest=0,
            highest=1,
            meaning="Share of changed copies whose predicted class is not the target.",
        ),
        "pearson_score": Metric(
            unit="area",
            higher_is_better=True,
            variants="augmentation",
            lowest=-1,
            highest=1,
            meaning="Area under the correlation of maps before and after the change, shifted to 1 at the anchor.",
        ),
        "top_k_score": Metric(
            unit="area",
            higher_is_better=True,
            variants="augmentation",
            lowest=0,
            highest=1,
            meaning="Area under the overlap of the k most relevant pixels, or channel values where `reduce` is none, "
            "shifted to 1 at the anchor.",
        ),
        "s_pearson": Metric(
            unit="ratio",
            higher_is_better=True,
            variants="augmentation_mean",
            boxed=True,
            meaning="pearson_score / probability_score; below 1 the explanation is less stable than the prediction.",
        ),
        "s_top_k": Metric(
            unit="ratio",
            higher_is_better=True,
            variants="augmentation_mean",
            boxed=True,
            lowest=0,
            meaning="top_k_score / probability_score; below 1 the explanation is less stable than the prediction.",
        ),
        "interpolation_ceiling": Metric(
            control=True,
            unit="correlation",
            higher_is_better=None,
            variants="augmentation",
            lowest=-1,
            highest=1,
            meaning="Correlation of a map with itself warped forth and back: what interpolation alone costs.",
        ),
        "top_k_chance": Metric(
            control=True,
            unit="share",
            higher_is_better=None,
            lowest=0,
            highest=1,
            meaning="Expected top-k overlap if one of the maps were shuffled, averaged over augmentations and levels.",
        ),
        "repeatability_pearson": Metric(
            control=True,
            unit="correlation",
            higher_is_better=True,
            lowest=-1,
            highest=1,
            meaning="Correlation of a stochastic explainer's map with its map of the same image under another draw.",
        ),
        "repeatability_top_k": Metric(
            control=True,
            unit="share",
            higher_is_better=True,
            lowest=0,
            highest=1,
            meaning="Top-k overlap of a stochastic explainer's map with its map of the same image under another draw.",
        ),
    },
    "deletion": {
        "lerf_auc": Metric(
            unit="probability",
            higher_is_better=True,
            lowest=0,
            highest=1,
            meaning="Mean target probability while the least relevant cells go first.",
        ),
        "morf_auc": Metric(
            unit="probability",
            higher_is_better=False,
            lowest=0,
            highest=1,
            meaning="Mean target probability while the most relevant cells go first.",
        ),
        "rao_auc": Metric(
            unit="probability",
            higher_is_better=None,
            lowest=0,
            highest=1,
            of_order=False,
            meaning="Mean target probability under random order; the same for every explainer.",
        ),
        "inter_model_deletion": Metric(
            unit="probability",
            higher_is_better=True,
            lowest=-1,
            highest=1,
            meaning="lerf_auc - rao_auc; above 0 the map knows more than chance.",
        ),
        "srg": Metric(
            unit="probability",
            higher_is_better=True,
            lowest=-1,
            highest=1,
            meaning="lerf_auc - morf_auc, the symmetric relevance gain.",
        ),
    },
    "edda": {
        "sufficiency": Metric(
            unit="probability",
            higher_is_better=True,
            variants="mask",
            lowest=-1,
            highest=1,
            meaning="Target probability of the most relevant pixels alone, minus that of the whole image.",
        ),
        "comprehensiveness": Metric(
            unit="probability",
            higher_is_better=True,
            variants="mask",
            lowest=-1,
            highest=1,
            meaning="Target probability lost when the most relevant pixels are removed.",
        ),
        "drop_percent": Metric(
            unit="percent",
            higher_is_better=False,
            variants="mask",
            lowest=0,
            highest=100,
            meaning="Relative loss of target probability when only the most relevant pixels are kept.",
        ),
        "increase_percent": Metric(
            unit="percent",
            higher_is_better=True,
            variants="mask",
            lowest=0,
            meaning="Relative gain of target probability when only the most relevant pixels are kept.",
        ),
        "umask_agreement": Metric(
            unit="share of images",
            higher_is_better=True,
            variants="mask",
            lowest=0,
            highest=1,
            meaning="Share of images whose most relevant pixels alone give the same class.",
        ),
        "imask_flip": Metric(
            unit="share of images",
            higher_is_better=True,
            variants="mask",
            lowest=0,
            highest=1,
            meaning="Share of images whose class changes when the most relevant pixels are removed.",
        ),
        "kept_share": Metric(
            control=True,
            unit="share of pixels",
            higher_is_better=None,
            variants="mask",
            lowest=0,
            highest=1,
            meaning="Share of pixels above a threshold; a map that keeps more pixels keeps more of the prediction.",
        ),
    },
    "ssim_sweep": {
        "ssim": Metric(
            unit="similarity",
            higher_is_better=True,
            variants="change",
            lowest=-1,
            highest=1,
            pooled=True,
            meaning="Mean structural similarity of maps before and after the changes that were accepted; `all_valid` "
            "takes only images of which every change was.",
        ),
        "accepted_fraction": Metric(
            unit="share of copies",
            higher_is_better=None,
            variants="change",
            of_explainer=False,
            lowest=0,
            highest=1,
            meaning="Share of changed copies whose target probability moved by less than the tolerance; `all_valid`: 1 "
            "for images of which every copy is accepted, else 0.",
        ),
        "ssim_data_range": Metric(
            control=True,
            unit="attribution",
            higher_is_better=None,
            lowest=0,
            meaning="Largest absolute attribution over all originals, the data range of SSIM; the same for every "
            "image.",
        ),
        "repeatability_ssim": Metric(
            control=True,
            unit="similarity",
            higher_is_better=True,
            lowest=-1,
            highest=1,
            meaning="Structural similarity of a stochastic explainer's map and its map of the same image under another "
            "draw.",
        ),
    },
    "pixel_flipping": {
        "pixel_flipping_aoc": Metric(
            unit="area",
            higher_is_better=True,
            lowest=0,
            highest=1,
            meaning="Area over the relative target probability while the most relevant pixels are removed, in [0, 1].",
        ),
    },
    "insertion_deletion": {
        "deletion_zero": Metric(
            unit="probability",
            higher_is_better=False,
            lowest=0,
            highest=1,
            meaning="Mean target probability while pixels turn into the mean color, most relevant first.",
        ),
        "deletion_zero_accuracy": Metric(
            unit="share of steps",
            higher_is_better=False,
            lowest=0,
            highest=1,
            meaning="Share of steps that predict the target as pixels turn into the mean color, most relevant first.",
        ),
        "deletion_black": Metric(
            unit="probability",
            higher_is_better=False,
            lowest=0,
            highest=1,
            meaning="Mean target probability while pixels turn black, most relevant first.",
        ),
        "deletion_black_accuracy": Metric(
            unit="share of steps",
            higher_is_better=False,
            lowest=0,
            highest=1,
            meaning="Share of steps that predict the target as pixels turn black, most relevant first.",
        ),
        "deletion_blur": Metric(
            unit="probability",
            higher_is_better=False,
            lowest=0,
            highest=1,
            meaning="Mean target probability while pixels are blurred, most relevant first.",
        ),
        "deletion_blur_accuracy": Metric(
            unit="share of steps",
            higher_is_better=False,
            lowest=0,
            highest=1,
            meaning="Share of steps that predict the target as pixels blur, most relevant first.",
        ),
        "insertion_zero": Metric(
            unit="probability",
            higher_is_better=True,
            lowest=0,
            highest=1,
            meaning="Mean target probability while pixels appear on the mean color, most relevant first.",
        ),
        "insertion_zero_accuracy": Metric(
            unit="share of steps",
            higher_is_better=True,
            lowest=0,
            highest=1,
            meaning="Share of steps that predict the target as pixels appear on the mean color, most relevant first.",
        ),
        "insertion_black": Metric(
            unit="probability",
            higher_is_better=True,
            lowest=0,
            highest=1,
            meaning="Mean target probability while pixels appear on black, most relevant first.",
        ),
        "insertion_black_accuracy": Metric(
            unit="share of steps",
            higher_is_better=True,
            lowest=0,
            highest=1,
            meaning="Share of steps that predict the target as pixels appear on black, most relevant first.",
        ),
        "insertion_blur": Metric(
            unit="probability",
            higher_is_better=True,
            lowest=0,
            highest=1,
            meaning="Mean target probability while pixels come into focus, most relevant first.",
        ),
        "insertion_blur_accuracy": Metric(
            unit="share of steps",
            higher_is_better=True,
            lowest=0,
            highest=1,
            meaning="Share of steps that predict the target as pixels come into focus, most relevant first.",
        ),
    },
    "road": {
        "morf_accuracy": Metric(
            unit="share of removals",
            higher_is_better=False,
            lowest=0,
            highest=1,
            meaning="Share of removals after which the target is still predicted, most relevant pixels imputed first.",
        ),
        "lerf_accuracy": Metric(
            unit="share of removals",
            higher_is_better=True,
            lowest=0,
            highest=1,
            meaning="Share of removals after which the target is still predicted, least relevant pixels imputed first.",
        ),
        "morf_probability": Metric(
            unit="probability",
            higher_is_better=False,
            lowest=0,
            highest=1,
            meaning="Mean target probability over removals, most relevant pixels imputed first.",
        ),
        "lerf_probability": Metric(
            unit="probability",
            higher_is_better=True,
            lowest=0,
            highest=1,
            meaning="Mean target probability over removals, least relevant pixels imputed first.",
        ),
        "road_gain": Metric(
            unit="probability",
            higher_is_better=True,
            lowest=-1,
            highest=1,
            meaning="lerf_probability - morf_probability.",
        ),
    },
    "sensitivity": {
        "max_sensitivity": Metric(
            unit="relative distance",
            higher_is_better=False,
            lowest=0,
            meaning="Largest distance between the maps of noisy copies and the map, over the length of the map.",
        ),
        "repeatability_distance": Metric(
            control=True,
            unit="relative distance",
            higher_is_better=False,
            lowest=0,
            meaning="Distance between a stochastic explainer's map and its map of the same image under another draw, "
            "over the length of the map.",
        ),
    },
    "infidelity": {
        "infidelity": Metric(
            unit="squared logit",
            higher_is_better=False,
            lowest=0,
            meaning="Mean squared difference between the map's account of noise and the change of the target logit.",
        ),
    },
    "localization": {
        "energy_pointing_game": Metric(
            unit="share of relevance",
            higher_is_better=True,
            lowest=0,
            highest=1,
            meaning="Share of positive relevance inside the boxes.",
        ),
        "effective_heat_ratio": Metric(
            unit="area",
            higher_is_better=True,
            lowest=0,
            highest=1,
            meaning="Heat inside the boxes per pixel above a threshold, averaged over 11 quantiles of the heat from "
            "0.1 of the maximum on; 1 for a map that is the boxes.",
        ),
        "wsol_iou": Metric(
            unit="intersection over union",
            higher_is_better=True,
            lowest=0,
            highest=1,
            meaning="Overlap of the best of the boxes with the box around all hot pixels.",
        ),
        "wsol_iou_largest_region": Metric(
            unit="intersection over union",
            higher_is_better=True,
            lowest=0,
            highest=1,
            meaning="Overlap of the best of the boxes with the box around the largest connected hot region.",
        ),
        "box_share": Metric(
            control=True,
            of_explainer=False,
            unit="share of pixels",
            higher_is_better=None,
            lowest=0,
            highest=1,
            meaning="Share of the image inside the boxes: what a map without knowledge gets from energy_pointing_game.",
        ),
    },
    "randomization": {
        "cascade_similarity": Metric(
            unit="similarity",
            higher_is_better=False,
            lowest=-1,
            highest=1,
            meaning="Similarity with the map of the trained model, averaged over layers randomized from the top.",
        ),
        "randomized_similarity": Metric(
            unit="similarity",
            higher_is_better=False,
            lowest=-1,
            highest=1,
            meaning="Similarity with the map of the trained model when all its layers are random.",
        ),
    },
    "complexity": {
        "sparseness": Metric(
            unit="Gini index",
            higher_is_better=None,
            lowest=0,
            highest=1,
            meaning="Gini index of absolute relevance over pixels: 0 all alike, 1 all in one pixel.",
        ),
        "entropy": Metric(
            unit="nats",
            higher_is_better=None,
            lowest=0,
            meaning="Entropy of absolute relevance over pixels, at most the logarithm of their number.",
        ),
    },
    "explainer": {
        "completeness_error": Metric(
            control=True,
            unit="relative error",
            higher_is_better=False,
            lowest=0,
            meaning="|sum of the map - (f(x) - f(baseline))| / |f(x) - f(baseline)| of methods that promise "
            "completeness.",
        ),
        "conservation": Metric(
            control=True,
            unit="ratio",
            higher_is_better=None,
            meaning="Sum of relevance / f(x) of layer-wise relevance propagation; biases absorb the rest.",
        ),
        "statistics_agreement": Metric(
            control=True,
            unit="correlation",
            higher_is_better=True,
            lowest=-1,
            highest=1,
            meaning="Correlation of two maps of an information bottleneck, with the layer's statistics over every "
            "other image of the audit and over the rest: low where a map depends on the other images.",
        ),
        "repeatability": Metric(
            control=True,
            unit="correlation",
            higher_is_better=True,
            lowest=-1,
            highest=1,
            meaning="Correlation of a stochastic explainer's map, channels summed, with its map of the same image "
            "under another draw.",
        ),
        "image_dependence": Metric(
            control=True,
            unit="correlation",
            higher_is_better=None,
            lowest=-1,
            highest=1,
            meaning="Mean correlation of an image's map, channels summed, with the maps of other images; above 0.9 the "
            "map hardly depends on the image, and its stability means nothing.",
        ),
    },
}
"""Check kind -> metric -> meaning. `explainer` holds the controls an explainer reports about itself."""
