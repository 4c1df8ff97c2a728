"""What a report says of how often a model is right: which images count, and where a number is null."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

import digits
from auditcore.auditing import audit
from auditcore.contracts.checks import ComplexityCheck
from auditcore.contracts.explainers import Gradient
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.shards import ExplainedClass, ImageRecord
from auditcore.models.classifier import Classifier
from auditcore.report.performance import MULTI_LABEL, NO_LABELS, SEVERAL_LABELS, performance_of


def record(
    index: int, predicted: int | None, label: int | tuple[int, ...] | None, code: str | None = None
) -> ImageRecord:
    targets = (ExplainedClass(target=0, probability=0.5),) if code is None else ()
    return ImageRecord(index=index, label=label, predicted=predicted, targets=targets, code=code, reason=code)


def test_images_left_out_as_wrong_count_as_wrong_and_unseen_ones_not() -> None:
    found = performance_of(
        (
            record(0, 3, 3),
            record(1, 4, 4),
            record(2, 3, 4, code="not_correct"),
            record(3, 3, None),
            record(4, None, 3, code="undecodable"),
        ),
        "softmax",
    )
    assert (found.n, found.reasons) == (3, {})
    assert found.accuracy == pytest.approx(2 / 3, rel=1e-6)
    assert found.macro_f1 == pytest.approx(2 / 3, rel=1e-6)


def test_with_several_labels_any_of_them_is_right() -> None:
    found = performance_of((record(0, 3, (1, 3)), record(1, 4, (1, 2)), record(2, 5, 5)), "softmax")
    assert (found.n, found.accuracy, found.macro_f1) == (3, pytest.approx(2 / 3, rel=1e-6), None)
    assert found.reasons == {"macro_f1": SEVERAL_LABELS}


@pytest.mark.parametrize(
    ("records", "scores", "n", "reason"),
    [((record(0, 1, None),), "softmax", 0, NO_LABELS), ((record(0, 1, 1),), "sigmoid", 1, MULTI_LABEL)],
)
def test_an_undefined_value_is_null_with_a_reason(
    records: Sequence[ImageRecord], scores: str, n: int, reason: str
) -> None:
    found = performance_of(records, scores)  # type: ignore[arg-type]
    assert (found.n, found.accuracy, found.macro_f1) == (n, None, None)
    assert found.reasons == {"accuracy": reason, "macro_f1": reason}


@pytest.mark.parametrize("only_correct", [False, True])
@pytest.mark.parametrize("target", ["predicted", "label", "top"])
def test_an_audit_counts_every_labelled_image(
    only_correct: bool,  # noqa: FBT001
    target: str,
    tmp_path: Path,
) -> None:
    images = digits.encoded(40, labeled=True)
    labels = [image.label for image in images]
    pixels, _ = digits.digit_pixels()
    classifier = Classifier(digits.trained(), preprocessing=digits.PREPROCESSING)
    predicted = classifier.logits(pixels[:40]).argmax(dim=1).tolist()
    plan = AuditPlan(
        only_correct=only_correct,
        target=target,  # type: ignore[arg-type]
        explainers=(Gradient(),),
        checks=(ComplexityCheck(),),
    )
    request = AuditRequest(
        model=digits.reference(digits.write_weights(tmp_path)),
        images=ImageBatchReference(digest="sha256:" + "0" * 64),
        plan=plan,
    )
    report = audit(request, images=images, access=digits.access(tmp_path), shard_images=16)
    assert report.model is not None
    expected = sum(one == label for one, label in zip(predicted, labels, strict=True)) / 40
    assert 0 < expected < 1
    assert report.model.performance.n == 40
    assert report.model.performance.accuracy == pytest.approx(expected)
    assert (report.images.used < 40) is only_correct
