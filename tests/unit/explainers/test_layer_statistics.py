"""Statistics of a bottleneck's layer: of channels or neurons, merged over shards, and how far maps depend on them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import digits
import reference_perturbation as reference
from auditcore.auditing import audit
from auditcore.contracts.checks import ComplexityCheck, DeletionCheck
from auditcore.contracts.explainers import Iba
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.errors import ShapeError
from auditcore.explainers.attribution import Batch
from auditcore.explainers.information_bottleneck import (
    measure_statistics,
    merge_statistics,
    reduce_statistics,
    why_no_map,
)
from auditcore.explainers.registry import explain
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams

NEURON = Iba(layer="down", steps=2, samples=2, statistics="neuron")
CHANNEL = Iba(layer="down", steps=2, samples=2)


def rows_of(
    classifier: Classifier, contract: Iba, images: Tensor, halves: list[int], micro_batch: int = 32
) -> list[list[float]]:
    streams = Streams(7, tuple(f"sha256:{number}" for number in range(len(images))))
    batch = Batch(classifier, images, torch.zeros(len(images)).long(), streams, micro_batch)
    rows: list[list[float]] = measure_statistics(batch, contract, halves).tolist()
    return rows


def outputs_of(classifier: Classifier, images: Tensor) -> np.ndarray:
    net = digits.trained()
    kept: list[Tensor] = []
    handle = net.down.register_forward_hook(lambda _layer, _inputs, output: kept.append(output.clone()))
    with torch.no_grad():
        net(classifier.normalize(images))
    handle.remove()
    found: np.ndarray = kept[0].double().numpy()
    return found


def test_statistics_of_neurons_are_those_of_the_authors_estimator(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:9]
    halves = [number % 2 for number in range(9)]
    rows = rows_of(digit_classifier, NEURON, images, halves, micro_batch=4)
    found = np.array(reduce_statistics(NEURON, rows)).reshape(3, 3, -1)
    outputs = outputs_of(digit_classifier, images)
    for part, own in zip(found, (outputs, outputs[::2], outputs[1::2]), strict=True):
        mean, sd, active = reference.welford(own)
        np.testing.assert_allclose(part[0], mean.reshape(-1), rtol=0, atol=1e-6)
        np.testing.assert_allclose(part[1], np.maximum(sd.reshape(-1), 0.01), rtol=1e-5)
        np.testing.assert_array_equal(part[2], active.reshape(-1))
    # unlike those of channels, which are one number for all positions
    assert len(found[0, 0]) == outputs[0].size > outputs.shape[1]


@pytest.mark.parametrize("cuts", [(3,), (1, 2, 8), (5, 6)])
def test_merged_rows_do_not_depend_on_shard_boundaries(digit_classifier: Classifier, cuts: tuple[int, ...]) -> None:
    images = digits.digit_pixels()[0][:9]
    halves = [number % 2 for number in range(9)]
    whole = reduce_statistics(NEURON, rows_of(digit_classifier, NEURON, images, halves))
    merged: list[list[float]] = []
    for start, stop in zip((0, *cuts), (*cuts, 9), strict=True):
        shard = merge_statistics(NEURON, rows_of(digit_classifier, NEURON, images[start:stop], halves[start:stop], 2))
        assert len(shard) == len(set(halves[start:stop]))
        merged = merge_statistics(NEURON, [*merged, *shard])
    assert len(merged) == 2
    # passes of other sizes differ by rounding of float32
    np.testing.assert_allclose(reduce_statistics(NEURON, merged), whole, rtol=1e-4, atol=1e-6)


def test_merging_does_not_cancel() -> None:
    # two neurons far from zero that hardly vary: a difference of squares would leave nothing
    values = np.array([[1e8, 5.0], [1e8 + 1, 5.0], [1e8 + 2, 5.5], [1e8 + 3, 0.0]])
    rows = [[0.0, 1.0, *value, 0.0, 0.0, *(value != 0).astype(float)] for value in values]
    found = np.array(reduce_statistics(NEURON, merge_statistics(NEURON, rows))).reshape(3, 3, -1)
    np.testing.assert_allclose(found[0, 0], values.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found[0, 1], values.std(0, ddof=1), rtol=1e-6)
    assert np.isnan(found[2]).all()


def test_rows_of_channels_are_unchanged(digit_classifier: Classifier) -> None:
    rows = rows_of(digit_classifier, CHANNEL, digits.digit_pixels()[0][:3], [0, 1, 0])
    assert merge_statistics(CHANNEL, rows) == rows
    assert [row[0] for row in rows] == [0, 1, 0]


def test_one_image_has_no_statistics_of_neurons(digit_classifier: Classifier) -> None:
    rows = rows_of(digit_classifier, NEURON, digits.digit_pixels()[0][:1], [0])
    found = reduce_statistics(NEURON, rows)
    assert all(math.isnan(value) for value in found)
    assert why_no_map(NEURON, found) == "statistics of a neuron need at least two images; set `statistics` to channel"
    assert (
        why_no_map(
            CHANNEL, reduce_statistics(CHANNEL, rows_of(digit_classifier, CHANNEL, digits.digit_pixels()[0][:1], [0]))
        )
        is None
    )


def run(classifier: Classifier, contract: Iba, images: Tensor, measured: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    targets = classifier.logits(images).argmax(1)
    streams = Streams(7, tuple(f"sha256:{number}" for number in range(len(images))))
    found = explain(
        classifier, contract, images, targets, streams, shared={contract.shared_key: measured}, micro_batch=8
    )
    return found.maps, found.diagnostics["statistics_agreement"]


@pytest.mark.parametrize("contract", [CHANNEL, NEURON], ids=["channel", "neuron"])
def test_the_control_is_the_correlation_of_the_maps_of_both_halves(contract: Iba, digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:6]
    measured = reduce_statistics(contract, rows_of(digit_classifier, contract, images, [0, 1] * 3))
    size = len(measured) // 3
    _, agreement = run(digit_classifier, contract, images[:3], measured)
    one, other = (
        run(digit_classifier, contract, images[:3], measured[start : start + size])[0].flatten(1).double().numpy()
        for start in (size, 2 * size)
    )
    expected = [np.corrcoef(left, right)[0, 1] for left, right in zip(one, other, strict=True)]
    np.testing.assert_allclose(agreement, expected, atol=1e-5)
    assert (agreement < 1).all()
    # halves that are equal leave nothing to depend on
    _, same = run(digit_classifier, contract, images[:3], measured[:size] * 3)
    np.testing.assert_allclose(same, 1, atol=1e-6)


def test_without_a_half_the_control_is_undefined(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:2]
    measured = reduce_statistics(CHANNEL, rows_of(digit_classifier, CHANNEL, images, [0, 0]))
    maps, agreement = run(digit_classifier, CHANNEL, images, measured)
    assert maps.isfinite().all()
    assert agreement.isnan().all()


def test_statistics_of_the_other_kind_are_refused(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:4]
    measured = reduce_statistics(CHANNEL, rows_of(digit_classifier, CHANNEL, images, [0, 1] * 2))
    with pytest.raises(ShapeError, match="16 channels at 8 x 8 positions, got 144"):
        run(digit_classifier, NEURON, images, measured)


def report_of(tmp_path: Path, contract: Iba, images: int, **options: int) -> AuditReport:
    request = AuditRequest(
        model=digits.reference(digits.write_weights(tmp_path)),
        images=ImageBatchReference(digest="sha256:" + "0" * 64),
        plan=AuditPlan(explainers=(contract,), checks=(DeletionCheck(grid=4, repeats=1), ComplexityCheck())),
    )
    return audit(request, images=digits.encoded(images), access=digits.access(tmp_path), audit_id="test", **options)


def test_an_audit_does_not_depend_on_its_shards_and_warns(tmp_path: Path) -> None:
    one = report_of(tmp_path, NEURON, 7)
    two = report_of(tmp_path, NEURON, 7, shard_images=3, micro_batch=4)
    for left, right in zip((*one.results, *one.controls), (*two.results, *two.controls), strict=True):
        if left.explainer == "iba":
            np.testing.assert_allclose(right.per_image, left.per_image, rtol=2e-3, atol=1e-4)
    (control,) = (row for row in one.controls if row.metric == "statistics_agreement")
    assert control.mean is not None
    assert control.mean < 0.9
    (warning,) = (warning for warning in one.warnings if warning.code == "depends_on_other_images")
    assert warning.explainer == "iba"
    assert f"with those of the other half by {control.mean:.2f} on average" in warning.message
    assert one.model is not None
    assert one.model.layers == {"iba": "down"}


def test_an_audit_of_one_image_has_a_reason_for_the_missing_map(tmp_path: Path) -> None:
    report = report_of(tmp_path, NEURON, 1)
    (srg,) = (row for row in report.results if (row.explainer, row.metric) == ("iba", "srg"))
    assert srg.per_image == (None,)
    assert "need at least two images" in srg.reasons[0]
    assert not report.warnings
    # statistics of channels are there, but no second half that would tell how far the map depends on it
    report = report_of(tmp_path, CHANNEL, 1)
    (control,) = (row for row in report.controls if row.metric == "statistics_agreement")
    assert "too small for statistics of its own" in control.reasons[0]
