"""How certain an audit is, and what a condition asks for, in words."""

from __future__ import annotations

import pytest

import made_up_audits as made_up
from auditcore.contracts.metrics import METRICS
from auditcore.contracts.policy import Condition
from auditcore.contracts.report import AuditReport
from auditcore.report.certainty import certainty_sentences
from auditcore.report.condition_words import _SENTENCES, condition_sentence


def audited(images: int, **changes: object) -> AuditReport:
    fields = {"check": "deletion", "explainer": "gradient", "metric": "srg", "at_least": 0.1}
    condition = Condition.model_validate(fields | changes)
    values = [0.3 + index / 1000 for index in range(images)]
    shard = made_up.shard(None, {index: [1] for index in range(images)}, made_up.row("gradient", values))
    return made_up.report(shard, policy=(condition,))


@pytest.mark.parametrize(
    ("images", "few", "small"),
    [(9, True, False), (10, False, True), (29, False, True), (30, False, False)],
)
def test_few_images_and_small_samples_are_told(images: int, few: bool, small: bool) -> None:  # noqa: FBT001
    text = " ".join(certainty_sentences(audited(images)))
    assert f"{images} of {images} images used." in text
    assert ("Few images" in text) == few
    assert ("fewer than 30 images" in text) == small
    assert "95 of 100 audits" in text


def test_conditions_on_means_are_told() -> None:
    text = " ".join(certainty_sentences(audited(10, statistic="mean")))
    assert "judged by the mean only" in text
    assert "95 of 100" not in text


def test_images_that_were_left_out_are_counted() -> None:
    report = audited(10)
    images = report.images.model_copy(update={"count": 12, "not_examined": 2})
    first, *_ = certainty_sentences(report.model_copy(update={"images": images}))
    assert first == "10 of 12 images used (2 not examined)."


def test_a_condition_is_told_in_plain_words() -> None:
    (srg,) = audited(10).conditions
    assert condition_sentence(audited(10), srg) == (
        "Deleting the least relevant cells of gradient first leaves more probability than deleting the most relevant "
        "ones first, by at least 0.1."
    )
    rotated = srg.model_copy(update={"check": "sweep", "metric": "s_pearson", "variant": "rotate", "threshold": 0.8})
    assert condition_sentence(audited(10), rotated) == (
        "Under rotation, maps of gradient are at least 0.8 times as stable as the prediction."
    )
    # a metric without a sentence of its own has its meaning
    rare = srg.model_copy(update={"check": "sweep", "metric": "top_k_chance", "comparison": "at_most"})
    assert condition_sentence(audited(10), rare) == (
        f"top_k_chance of gradient is at most 0.1. {METRICS['sweep']['top_k_chance'].meaning}"
    )
    change = srg.model_copy(update={"comparison": "non_inferiority_margin"})
    assert condition_sentence(audited(10), change).startswith("Compared with the baseline, srg of gradient is worse by")


def test_sentences_are_of_metrics_that_exist_and_have_all_their_words() -> None:
    for (kind, metric), sentence in _SENTENCES.items():
        assert metric in METRICS[kind]
        filled = sentence.format(variant="VARIANT", explainer="EXPLAINER", wanted="WANTED")
        assert "WANTED" in filled
        assert ("EXPLAINER" in filled) == METRICS[kind][metric].of_explainer, metric
        if METRICS[kind][metric].variants in {"augmentation", "augmentation_mean", "mask"}:
            assert "VARIANT" in filled, metric
