"""CutMix against a slow replica of the authors' code and against torchvision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torchvision.transforms import v2

import mixed_batches
import reference_mixing
from auditcore import CutMix
from auditcore.contracts.models import Scores
from auditcore.training.draws import generator
from auditcore.training.methods.cutmix import CutMixTraining
from auditcore.training.pasted_boxes import box_around, inside, labels_by_share, sides_for
from mixed_batches import HEIGHT, WIDTH, batch, network, run_step

FRAME = (HEIGHT, WIDTH)
CPU = torch.device("cpu")


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
@pytest.mark.parametrize("step", range(3))
def test_a_step_is_the_replicas(scores: Scores, step: int) -> None:
    trained = network(scores)
    images = batch(trained, step=step)
    shown = run_step(CutMixTraining(CutMix(alpha=0.7)), trained, images)

    random = generator(0, "method", step)
    random.random()
    kept = random.beta(0.7, 0.7)
    partner = random.permutation(6)
    center = int(random.integers(HEIGHT)), int(random.integers(WIDTH))
    box = reference_mixing.box(center, reference_mixing.box_sides(1 - kept, FRAME), FRAME)
    share = len(box) / (HEIGHT * WIDTH)
    pixels, labels = images.pixels.double().numpy(), images.targets.double().numpy()
    expected = [reference_mixing.pasted(own, pixels[other], box) for own, other in zip(pixels, partner, strict=True)]
    targets = [reference_mixing.shared(own, labels[other], share) for own, other in zip(labels, partner, strict=True)]

    assert np.allclose(shown.pixels, expected, atol=1e-6)
    assert shown.facts == {"pasted_share": share}
    loss = reference_mixing.cross_entropy(
        shown.logits.double().numpy(), np.array(targets), multi_label=scores == "sigmoid"
    )
    assert shown.loss == pytest.approx(loss, rel=1e-5)


def test_boxes_and_labels_are_torchvisions() -> None:
    """torchvision takes the image before as partner; its `transform` is called with our box."""
    trained = network()
    images = batch(trained)
    cutmix = v2.CutMix(num_classes=mixed_batches.CLASSES)
    for seed in range(20):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            params = cutmix.make_params([images.pixels])
            torch.manual_seed(seed)
            kept = float(cutmix._dist.sample(()))
            column, row = int(torch.randint(WIDTH, (1,))), int(torch.randint(HEIGHT, (1,)))
        box = box_around((row, column), sides_for(1 - kept, FRAME), FRAME)
        assert (box.left, box.top, box.right, box.bottom) == params["box"]
        assert 1 - box.share(FRAME) == pytest.approx(params["lam_adjusted"])
        labels = images.truth.int().argmax(dim=1)
        params |= {"labels": labels, "batch_size": len(labels)}
        expected = cutmix.transform(images.pixels, params)
        partner = torch.arange(len(labels)).roll(1)
        assert torch.equal(torch.where(inside([box], FRAME, CPU), images.pixels[partner], images.pixels), expected)
        ours = labels_by_share(images.targets, images.targets[partner], torch.full((6,), box.share(FRAME)))
        assert torch.allclose(ours, cutmix.transform(labels, params))


@given(st.floats(0, 1), st.integers(0, HEIGHT - 1), st.integers(0, WIDTH - 1))
def test_a_share_is_the_area_of_the_pasted_pixels(share: float, row: int, column: int) -> None:
    box = box_around((row, column), sides_for(share, FRAME), FRAME)
    covered = inside([box], FRAME, CPU)
    assert float(covered.double().mean()) == pytest.approx(box.share(FRAME))
    assert 0 <= box.share(FRAME) <= share + 1e-12


@given(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3))
def test_mixed_labels_are_convex(shares: list[float]) -> None:
    own, pasted = torch.eye(4)[:3], torch.eye(4)[[1, 1, 3]]
    mixed = labels_by_share(own, pasted, torch.tensor(shares))
    assert torch.allclose(mixed.sum(dim=1), torch.ones(3))
    assert bool((mixed >= torch.minimum(own, pasted)).all())
    assert bool((mixed <= torch.maximum(own, pasted)).all())


def test_some_batches_stay_as_they_are() -> None:
    trained = network()
    method = CutMixTraining(CutMix(probability=0.5))
    mixed = []
    for step in range(40):
        images = batch(trained, 3, step=step)
        shown = run_step(method, trained, images)
        mixed.append(shown.facts["pasted_share"] > 0)
        if not mixed[-1]:
            assert torch.allclose(shown.pixels, images.pixels, atol=1e-6)
    # 0.5, less the few boxes of no pixel
    assert 8 <= sum(mixed) <= 26


@pytest.mark.parametrize("wrong", [{"alpha": 0}, {"probability": 1.1}, {"probability": 0}])
def test_impossible_parameters_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        CutMix(**wrong)
