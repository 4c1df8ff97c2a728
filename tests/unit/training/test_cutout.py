"""Cutout against a slow replica of the authors' code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import reference_mixing
from auditcore import Cutout
from auditcore.contracts.models import Scores
from auditcore.training.draws import generator
from auditcore.training.methods.cutout import CutoutTraining
from auditcore.training.pasted_boxes import box_around
from mixed_batches import HEIGHT, WIDTH, batch, network, run_step

FRAME = (HEIGHT, WIDTH)


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
@pytest.mark.parametrize(
    ("contract", "side"),
    [(Cutout(), 6), (Cutout(side_px=9, color="black"), 9), (Cutout(side=0.3, squares=3), 3), (Cutout(side=0.01), 1)],
)
def test_a_step_is_the_replicas(scores: Scores, contract: Cutout, side: int) -> None:
    trained = network(scores)
    images = batch(trained)
    shown = run_step(CutoutTraining(contract), trained, images)

    random = generator(0, "method", 0)
    expected = images.pixels.double().numpy().copy()
    color = trained.start.mean.double().numpy()[0] if contract.color == "mean" else np.zeros((3, 1, 1))
    for _ in range(contract.squares):
        for image in expected:
            center = int(random.integers(HEIGHT)), int(random.integers(WIDTH))
            for row, column in reference_mixing.box(center, (side, side), FRAME):
                image[:, row, column] = color[:, 0, 0]
    assert np.allclose(shown.pixels, expected, atol=1e-6)
    loss = reference_mixing.cross_entropy(
        shown.logits.double().numpy(), images.targets.double().numpy(), multi_label=scores == "sigmoid"
    )
    assert shown.loss == pytest.approx(loss, rel=1e-5)


def test_normalized_images_have_zeros_where_the_mean_color_covers_them() -> None:
    """As in the authors' code, which multiplies normalized images by 0."""
    trained = network()
    shown = run_step(CutoutTraining(Cutout(side=1.0)), trained, batch(trained))
    normalized = trained.start.normalize(shown.pixels)
    covered = normalized.abs().amax(dim=1) < 1e-5
    assert float(covered.double().mean()) == pytest.approx(shown.facts["covered_share"])


@given(st.integers(0, HEIGHT - 1), st.integers(0, WIDTH - 1), st.integers(0, 40))
def test_a_square_stays_inside_and_holds_its_center(row: int, column: int, side: int) -> None:
    box = box_around((row, column), (side, side), FRAME)
    assert 0 <= box.top <= box.bottom <= HEIGHT
    assert 0 <= box.left <= box.right <= WIDTH
    assert 0 <= box.share(FRAME) <= 1
    assert side < 2 or (box.top <= row < box.bottom and box.left <= column < box.right)


def test_labels_stay_and_one_image_is_enough() -> None:
    trained = network()
    images = batch(trained, 1)
    shown = run_step(CutoutTraining(Cutout()), trained, images)
    own = trained.losses(shown.logits, images.targets).mean()
    assert shown.loss == pytest.approx(float(own.detach()))


@pytest.mark.parametrize("wrong", [{"side": 0}, {"side": 1.5}, {"side_px": 0}, {"squares": 0}, {"color": "red"}])
def test_impossible_parameters_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Cutout.model_validate(wrong)
