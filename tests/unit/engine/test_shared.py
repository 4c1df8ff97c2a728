"""Quantities of the whole audit: every image counts once, whatever its shard and however many classes it is for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

import digits
from auditcore.contracts.access import Limits
from auditcore.contracts.checks import ComplexityCheck
from auditcore.contracts.explainers import Gradient, Iba
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import ShardResult, Wave
from auditcore.engine.shard import run_shard
from auditcore.engine.shared import reduce_shared
from auditcore.explainers.attribution import Batch
from auditcore.explainers.information_bottleneck import measure_statistics, reduce_statistics
from auditcore.images.batch import decode_batch
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams

EARLY = Iba(name="early", layer="stem.2", steps=1, samples=1)
LATE = Iba(name="late", layer="down", steps=1, samples=1)
PLAN = AuditPlan(target="label", explainers=(EARLY, Gradient(), LATE), checks=(ComplexityCheck(),))


def shard(classifier: Classifier, images: Sequence[EncodedImage], wave: Wave = "measure") -> ShardResult:
    return run_shard(
        classifier=classifier,
        images=images,
        plan=PLAN,
        wave=wave,
        shared={},
        limits=Limits(),
        progress=lambda _share: None,
        clock=lambda: 0.0,
    )


def test_statistics_of_a_layer_are_those_of_all_images_each_once(digit_classifier: Classifier) -> None:
    # the first has three classes, so it would count three times
    images = [
        dataclasses.replace(image, label=label)
        for image, label in zip(digits.encoded(4), ((0, 1, 2), 3, (4, 5), 6), strict=True)
    ]
    results = [shard(digit_classifier, part) for part in (images[:1], images[1:])]
    found = reduce_shared(PLAN, results)
    decoded = decode_batch(images, digits.PREPROCESSING, Limits())
    targets = digit_classifier.logits(decoded.pixels).argmax(dim=1)
    batch = Batch(digit_classifier, decoded.pixels, targets, Streams(0, decoded.digests), 4)
    assert set(found) == {EARLY.shared_key, LATE.shared_key}
    for contract in (EARLY, LATE):
        expected = reduce_statistics(contract, measure_statistics(batch, contract, [0, 1, 0, 1]).tolist())
        assert found[contract.shared_key] == pytest.approx(expected, rel=1e-5, abs=1e-7)
