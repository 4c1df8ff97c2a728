"""Recorded and compiled passes give what eager ones give, whatever the size of a batch, and are counted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import get_args

import pytest
import torch

from auditcore.contracts.shards import Way
from auditcore.contracts.speed import Speed
from auditcore.devices.arithmetic import arithmetic
from auditcore.engine.calibration import calibrate
from auditcore.engine.ways import Ahead, choose_way
from auditcore.errors import ModelOutputInvalid
from auditcore.models.classifier import Classifier
from auditcore.models.static_passes import StaticPasses
from gpu import samples

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here"),
]
SIZE = 8
TOLERANCE = 1e-4
LONG = Ahead(forward=1e9, backward=1e9)


@pytest.fixture
def classifier() -> Iterator[Classifier]:
    found = samples.on(torch.device("cuda"))
    with arithmetic(Speed(), found.device):
        yield found
    found.static, found.calibration = None, None
    found.ways_tried.clear()


def inputs_of(classifier: Classifier, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    pixels = torch.rand(count, *classifier.shape, generator=generator)
    return classifier.normalize(pixels.to(classifier.device))


@pytest.mark.parametrize("way", [way for way in get_args(Way) if way != "eager"])
def test_recorded_passes_give_what_eager_ones_give(classifier: Classifier, way: Way) -> None:
    static = StaticPasses(
        classifier.folded.forward,
        images=SIZE,
        shape=classifier.shape,
        device=classifier.device,
        way=way,
        tries_kernels=False,
    )
    for kind in ("logits", "gradient", "predicted"):
        static.record(kind)
    # the largest first, so that padding holds what earlier batches left behind
    for count in (SIZE, SIZE - 1, 5) if way == "compiled" else (SIZE,):
        inputs, targets = (
            inputs_of(classifier, count),
            torch.arange(count, device=classifier.device) % classifier.classes,
        )
        classifier.static = None
        expected = [classifier.score(inputs), *classifier.gradient(inputs, targets), *classifier.gradient(inputs, None)]
        classifier.static = static
        before = classifier.ledger.forward_images, classifier.ledger.backward_images
        found = [classifier.score(inputs), *classifier.gradient(inputs, targets), *classifier.gradient(inputs, None)]
        assert classifier.ledger.forward_images - before[0] == 3 * count
        assert classifier.ledger.backward_images - before[1] == 2 * count
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=TOLERANCE, atol=TOLERANCE)


def test_small_batches_run_directly(classifier: Classifier) -> None:
    static = StaticPasses(
        classifier.folded.forward,
        images=SIZE,
        shape=classifier.shape,
        device=classifier.device,
        way="graphs",
        tries_kernels=False,
    )
    static.record("logits")
    assert [static.takes("logits", count) for count in (1, SIZE - 1, SIZE, SIZE + 1)] == [False, False, True, False]
    assert not static.takes("gradient", SIZE)


def test_a_long_audit_records_a_short_one_does_not(classifier: Classifier) -> None:
    classifier.calibration = calibrate(classifier, fixed=SIZE)
    choose_way(classifier, Ahead(forward=10, backward=10), Speed(), time.perf_counter)
    assert classifier.static is None
    choose_way(classifier, LONG, Speed(), time.perf_counter)
    assert classifier.ways_tried == {"graphs"}
    assert classifier.calibration.micro_batch == SIZE


def test_logits_that_are_not_finite_are_reported_when_results_come_back(classifier: Classifier) -> None:
    pixels = torch.full((2, *classifier.shape), torch.nan, device=classifier.device)
    classifier.logits(pixels)
    with pytest.raises(ModelOutputInvalid):
        classifier.guard.require_finite()
    classifier.guard.require_finite()
