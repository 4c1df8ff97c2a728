"""Which classes of each image are explained, and how one row per class becomes one value per image again."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import CurveSamples, EndOfProcess, Measurement
from auditcore.contracts.significance import VALUE_DIGITS, significant
from auditcore.models.classifier import Classifier


class Choice(NamedTuple):
    """The target classes of one image, or why it has none."""

    targets: tuple[int, ...]
    code: str | None = None
    reason: str | None = None


LABEL_MISSING = Choice(
    (), "label_missing", "the plan needs given labels, but this image has none; upload it with a label"
)


ENDED_PROCESS: Mapping[EndOfProcess, Choice] = {
    "ended_process": Choice(
        (),
        "ended_process",
        "the process that computed this image ended each time without saying why, such as by a fault in the code of "
        "the model, so it was left out; try the model on this image outside of the audit",
    ),
    "memory_exhausted": Choice(
        (),
        "memory_exhausted",
        "the process that computed this image needed more memory than it may have each time, so it was left out; use "
        "fewer samples, or ask the operator for more memory",
    ),
    "time_limit": Choice(
        (),
        "time_limit",
        "the process that computed this image took longer than it may each time, so it was left out; use fewer "
        "samples, or try whether the model comes to an end on this image outside of the audit",
    ),
}
"""What becomes of an image that ends every process that computes it."""


def choose_targets(
    plan: AuditPlan,
    classifier: Classifier,
    logits: Float[Tensor, "image class"],
    labels: Sequence[tuple[int, ...]],
) -> tuple[Choice, ...]:
    """The classes to explain for each image.

    Args:
        plan: `target`, `top_n` and `only_correct` decide.
        classifier: Says what counts as predicted.
        logits: Of the original images.
        labels: Given labels of each image, in the same order; empty for an image without labels.

    Returns:
        One choice per image. With `only_correct`, only labels that are predicted are targets. An image has no target if
        none of its labels is predicted, or if its prediction is not one of its labels.
    """
    choices = (_choose(plan, classifier, row, given) for row, given in zip(logits, labels, strict=True))
    return tuple(_answered(choice, classifier, row) for choice, row in zip(choices, logits, strict=True))


def _answered(choice: Choice, classifier: Classifier, logits: Float[Tensor, " class"]) -> Choice:
    """The same choice, unless it names a class for which the model gives no answer on this image."""
    most = classifier.capabilities.top_classes
    if most is None:
        return choice
    answered = set(logits.topk(min(most, len(logits))).indices.tolist())
    unanswered = [target for target in choice.targets if target not in answered]
    if not unanswered:
        return choice
    return Choice(
        (),
        "class_not_answered",
        f"the server answers its {most} most probable classes, and {unanswered[0]} is not one of them",
    )


def _choose(
    plan: AuditPlan, classifier: Classifier, logits: Float[Tensor, " class"], labels: tuple[int, ...]
) -> Choice:
    if not labels and needs_labels(plan):
        return LABEL_MISSING
    best = int(logits.argmax())
    right = labels
    if plan.only_correct:
        predicted = classifier.predicts(logits.expand(len(labels), -1), torch.tensor(labels, device=logits.device))
        right = tuple(label for label, hit in zip(labels, predicted.tolist(), strict=True) if hit)
        if not right or (plan.target == "predicted" and best not in right):
            given = ", ".join(str(label) for label in labels)
            # a multi-label model may predict several classes or none, so that the most probable one says little
            found = (
                f"the model gives label {given} a probability below 0.5"
                if classifier.scores == "sigmoid" and not right
                else f"the most probable class is {best}, not label {given}"
            )
            return Choice((), "not_correct", f"the plan wants correct predictions, but {found}")
    match plan.target:
        case "predicted":
            return Choice((best,))
        case "label":
            return Choice(right)
        case "top":
            return Choice(tuple(logits.topk(min(plan.top_n, len(logits))).indices.tolist()))


def needs_labels(plan: AuditPlan) -> bool:
    """Whether images without a label are left out."""
    return plan.target == "label" or plan.only_correct


def merge_targets(measurements: Iterable[Measurement], indices: Sequence[int]) -> list[Measurement]:
    """One value per image: the mean over those of its targets that have a value.

    Args:
        measurements: One value per row; their reasons are already by image index.
        indices: Image index of each row; rows of one image are consecutive.

    Returns:
        The same measurements if every image has one target. Otherwise one value per image, null where no target has a
        value, with the values of single targets in `per_target`.
    """
    rows: dict[int, list[int]] = {}
    for row, index in enumerate(indices):
        rows.setdefault(index, []).append(row)
    if len(rows) == len(indices):
        return list(measurements)
    return [_merged(measured, rows) for measured in measurements]


def _merged(measured: Measurement, rows: Mapping[int, Sequence[int]]) -> Measurement:
    per_target = tuple(tuple(measured.values[row] for row in own) for own in rows.values())
    values = tuple(_mean(own) for own in per_target)
    missing = {index for index, value in zip(rows, values, strict=True) if value is None}
    return measured.model_copy(
        update={
            "values": values,
            "per_target": per_target,
            "reasons": {index: reason for index, reason in measured.reasons.items() if index in missing},
            "curve": None if measured.curve is None else _merged_curve(measured.curve, rows),
        }
    )


def _merged_curve(curve: CurveSamples, rows: Mapping[int, Sequence[int]]) -> CurveSamples:
    merged = []
    for own in rows.values():
        present = [values for row in own if (values := curve.values[row]) is not None]
        merged.append(tuple(_mean(points) for points in zip(*present, strict=True)) if present else None)
    return curve.model_copy(update={"values": tuple(merged)})


def _mean(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return significant(statistics.fmean(present), VALUE_DIGITS) if present else None
