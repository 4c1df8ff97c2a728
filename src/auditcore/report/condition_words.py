"""What a condition asks for, in a sentence that a person without the catalogue of metrics understands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from auditcore.contracts.metrics import METRICS
from auditcore.contracts.report import AuditReport, ConditionOutcome
from auditcore.report.headlines import check_kinds
from auditcore.report.outcomes import wanted_text

_SENTENCES: Final[Mapping[tuple[str, str], str]] = {
    ("sweep", "s_pearson"): "Under {variant}, maps of {explainer} are {wanted} times as stable as the prediction.",
    (
        "sweep",
        "s_top_k",
    ): "Under {variant}, the most relevant pixels of {explainer} are {wanted} times as stable as the prediction.",
    ("sweep", "pearson_score"): "Over the interval of {variant}, maps of {explainer} keep {wanted} of their "
    "correlation with the map of the unchanged image.",
    ("sweep", "top_k_score"): "Over the interval of {variant}, maps of {explainer} keep {wanted} of their most "
    "relevant pixels.",
    (
        "sweep",
        "probability_score",
    ): "Over the interval of {variant}, the model keeps {wanted} of its probability.",
    ("sweep", "prediction_flip_rate"): "Under {variant}, the predicted class changes in a share of {wanted} of copies.",
    ("ssim_sweep", "ssim"): "Maps of {explainer} keep a structural similarity of {wanted} under harmless changes "
    "({variant}).",
    ("deletion", "inter_model_deletion"): "While the cells least relevant to {explainer} are deleted, the probability "
    "stays higher than under a random order, by {wanted}.",
    ("deletion", "srg"): "Deleting the least relevant cells of {explainer} first leaves more probability than deleting "
    "the most relevant ones first, by {wanted}.",
    ("deletion", "lerf_auc"): "While the cells least relevant to {explainer} are deleted, the mean probability is "
    "{wanted}.",
    ("deletion", "morf_auc"): "While the cells most relevant to {explainer} are deleted, the mean probability is "
    "{wanted}.",
    (
        "edda",
        "sufficiency",
    ): "With only the most relevant pixels of {explainer} ({variant}), the probability minus "
    "that of the whole image is {wanted}.",
    ("edda", "comprehensiveness"): "Removing the most relevant pixels of {explainer} ({variant}) takes {wanted} of "
    "probability away.",
    ("pixel_flipping", "pixel_flipping_aoc"): "Removing the most relevant pixels of {explainer} makes the probability "
    "drop fast: the area over its curve is {wanted}.",
    (
        "road",
        "road_gain",
    ): "Removing the least relevant pixels of {explainer} leaves more probability than removing "
    "the most relevant ones, by {wanted}.",
    ("sensitivity", "max_sensitivity"): "Under small noise, maps of {explainer} move by {wanted} times their length.",
    ("infidelity", "infidelity"): "The map of {explainer} accounts for the effect of noise with a squared error of "
    "{wanted}.",
    (
        "localization",
        "energy_pointing_game",
    ): "A share of {wanted} of the positive relevance of {explainer} lies inside the marked objects.",
    ("localization", "hit_rate"): "The most relevant pixel of {explainer} lies on the object in a share of {wanted} of "
    "images.",
    ("localization", "mask_iou"): "The hot pixels of {explainer} overlap with the marked objects by {wanted}.",
    (
        "randomization",
        "cascade_similarity",
    ): "When layers are made random one after the other, maps of {explainer} "
    "keep a similarity of {wanted} with those of the trained model.",
    ("randomization", "randomized_similarity"): "When all layers are random, maps of {explainer} keep a similarity of "
    "{wanted} with those of the trained model.",
    ("agreement", "pearson"): "Maps of {explainer} correlate with those of the reference model by {wanted}.",
    ("agreement", "ssim"): "Maps of {explainer} have a structural similarity with those of the reference model of "
    "{wanted}.",
}
"""Kind of a check and metric -> what a threshold on it asks for."""


def condition_sentence(report: AuditReport, outcome: ConditionOutcome) -> str:
    """Say in plain words what a condition asks for.

    Such as "Under rotate, maps of grad_cam are at least 0.8 times as stable as the prediction."

    Args:
        report: The audit's report.
        outcome: One of its conditions.

    Returns:
        One or two sentences. Conditions on changes, and metrics without a sentence of their own, name the metric and
        give its meaning from the catalogue.
    """
    kind = check_kinds(report)[outcome.check]
    explainer = outcome.explainer or "the model"
    sentence = _SENTENCES.get((kind, outcome.metric))
    if sentence is not None and outcome.change is None and outcome.comparison in {"at_least", "at_most"}:
        return sentence.format(variant=_variant_words(outcome), explainer=explainer, wanted=wanted_text(outcome))
    case = "" if outcome.variant is None else f" ({outcome.variant})"
    meaning = METRICS[kind][outcome.metric].meaning
    if outcome.comparison not in {"at_least", "at_most"}:
        return f"Compared with the baseline, {outcome.metric}{case} of {explainer} {wanted_text(outcome)}. {meaning}"
    return f"{outcome.metric}{case} of {explainer} is {wanted_text(outcome)}. {meaning}"


def _variant_words(outcome: ConditionOutcome) -> str:
    """A sub-case as a part of a sentence."""
    match outcome.variant:
        case None:
            return "all changes"
        case "mean":
            return "all augmentations together"
        case "rotate":
            return "rotation"
        case "translate":
            return "translation"
        case "brightness" | "contrast" | "saturation" | "hue" as name:
            return f"changes of {name}"
        case name:
            return name.replace("_", " ")
