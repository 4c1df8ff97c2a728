"""RecursiveMix against a slow replica over several steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import reference_mixing
from auditcore import RecursiveMix
from auditcore.contracts.models import Scores
from auditcore.errors import ModelNotTrainable
from auditcore.training.draws import generator
from auditcore.training.method import MethodSetting
from auditcore.training.methods.recursive_mix import RecursiveMixTraining, divergence
from auditcore.training.network import Network
from mixed_batches import CLASSES, HEIGHT, WIDTH, batch, network, run_step

FRAME = (HEIGHT, WIDTH)
NETWORKS: dict[Scores, Network] = {"softmax": network("softmax"), "sigmoid": network("sigmoid")}


def method_for(trained: Network, contract: RecursiveMix) -> RecursiveMixTraining:
    return RecursiveMixTraining(contract, MethodSetting(trained, steps_per_epoch=2, epochs=2, seed=0))


def nearest(image: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
    rows = [int(row * image.shape[1] / sides[0]) for row in range(sides[0])]
    columns = [int(column * image.shape[2] / sides[1]) for column in range(sides[1])]
    return image[:, rows][:, :, columns]


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
def test_steps_are_the_replicas(scores: Scores) -> None:
    """Three steps of 5, 6 and 5 images: one image of the second has no counterpart in the first."""
    trained = network(scores)
    method = method_for(trained, RecursiveMix(alpha=0.9, loss_weight=0.4))
    feature_maps: list[torch.Tensor] = []
    layer = trained.start.last_feature_layer
    assert layer is not None
    trained.module.get_submodule(layer).register_forward_hook(
        lambda _layer, _inputs, output: feature_maps.append(output.detach())
    )
    weight, bias = (value.detach().double().numpy() for value in method.parameters())
    last: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    for step, count in enumerate((5, 6, 5)):
        images = batch(trained, count, step=step)
        shown = run_step(method, trained, images)
        logits = shown.logits.double().numpy()
        random = generator(0, "method", step)
        sides = reference_mixing.box_sides(random.uniform(0, 0.9), FRAME)
        center = int(random.integers(HEIGHT)), int(random.integers(WIDTH))
        inside = reference_mixing.box(center, sides, FRAME)
        share = len(inside) / (HEIGHT * WIDTH)
        pixels, targets = images.pixels.double().numpy().copy(), images.targets.double().numpy().copy()
        consistency = 0.0
        if last is not None:
            rows, columns = sorted({row for row, _ in inside}), sorted({column for _, column in inside})
            corners = [columns[0] / WIDTH, rows[0] / HEIGHT, (columns[-1] + 1) / WIDTH, (rows[-1] + 1) / HEIGHT]
            for row in range(min(count, len(last[0]))):
                small = nearest(last[0][row], (len(rows), len(columns)))
                pixels[row][:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = small
                targets[row] = reference_mixing.shared(targets[row], last[1][row], share)
                maps = feature_maps[-1][row].double().numpy()
                cells = np.array(corners) * np.array([maps.shape[2], maps.shape[1]] * 2)
                part = weight @ reference_mixing.roi_mean(maps, cells.tolist()) + bias
                if scores == "softmax":
                    consistency += reference_mixing.divergence(last[2][row], reference_mixing.softmax(part))
                else:
                    consistency += np.mean(
                        [
                            reference_mixing.divergence(np.array([p, 1 - p]), np.array([q, 1 - q]))
                            for p, q in zip(last[2][row], 1 / (1 + np.exp(-part)), strict=True)
                        ]
                    )
        assert np.allclose(shown.pixels, pixels, atol=1e-6)
        expected = reference_mixing.cross_entropy(logits, targets, multi_label=scores == "sigmoid")
        if last is not None:
            assert shown.facts["consistency_loss"] == pytest.approx(consistency / count, rel=1e-4)
            assert shown.facts["pasted_share"] == pytest.approx(share)
            expected += 0.4 * share * consistency / count
        assert shown.loss == pytest.approx(expected, rel=1e-5)
        probabilities = (
            np.array([reference_mixing.softmax(row) for row in logits])
            if scores == "softmax"
            else 1 / (1 + np.exp(-logits))
        )
        last = pixels, targets, probabilities


def test_the_linear_layer_and_the_part_of_the_map_learn() -> None:
    trained = network()
    method = method_for(trained, RecursiveMix(alpha=1.0, loss_weight=10))
    for step in range(2):
        loss = method.step(trained, batch(trained, step=step)).loss
    loss.backward()
    assert all(value.grad is not None and bool(value.grad.any()) for value in method.parameters())
    assert all(value.grad is not None for value in trained.module.parameters())


def test_another_process_goes_on_from_the_state() -> None:
    trained = network()
    first, second = (method_for(trained, RecursiveMix(resize="bilinear")) for _ in range(2))
    first.step(trained, batch(trained, step=0))
    with torch.no_grad():
        for value in first.parameters():
            value.add_(1)
    second.restore(first.state())
    images = [batch(trained, step=1) for _ in range(2)]
    one, other = (run_step(method, trained, each) for method, each in zip((first, second), images, strict=True))
    assert one.facts["pasted_share"] > 0
    assert torch.equal(one.pixels, other.pixels)
    assert one.loss == other.loss


@settings(max_examples=30)
@given(
    st.lists(st.floats(-8, 8, width=32), min_size=CLASSES, max_size=CLASSES), st.sampled_from(["softmax", "sigmoid"])
)
def test_a_prediction_does_not_diverge_from_itself(values: list[float], scores: Scores) -> None:
    trained = NETWORKS[scores]
    logits = torch.tensor([values])
    own = logits.softmax(1) if scores == "softmax" else logits.sigmoid()
    assert float(divergence(trained, logits, own)) == pytest.approx(0, abs=1e-5)
    assert float(divergence(trained, logits.flip(1), own)) >= -1e-5


def test_a_model_without_a_feature_map_is_refused() -> None:
    class OnlyVectors(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3 * HEIGHT * WIDTH, CLASSES)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.linear(functional.relu(images).flatten(1))

    with pytest.raises(ModelNotTrainable, match="no layer with such a map") as refusal:
        method_for(network(module=OnlyVectors()), RecursiveMix())
    assert refusal.value.field == "plan.method.kind"
