"""A small network learns from made-up images what they are made for: outlines, textures, or the shortcut."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from auditcore.contracts.synthetic import ObjectsOnScenes
from auditcore.synthetic.dataset import SyntheticDataset
from auditcore.synthetic.generation import generate_images
from auditcore.synthetic.reliance import shortcut_reliance


def inputs(data: SyntheticDataset) -> Tensor:
    return (torch.from_numpy(data.pixels()).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25


def trained(data: SyntheticDataset, *, epochs: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            *(nn.Conv2d(3, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(24, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(48, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(), nn.AdaptiveMaxPool2d(1)),
            *(nn.Flatten(), nn.Linear(48, len(data.class_names))),
        )
        optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
        pixels, labels = inputs(data), torch.tensor(data.labels)
        for _ in range(epochs):
            for batch in torch.randperm(len(pixels)).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(pixels[batch]), labels[batch]).backward()
                optimizer.step()
    return network.eval()


@torch.inference_mode()
def probabilities(network: nn.Module, data: SyntheticDataset) -> np.ndarray[Any, Any]:
    return network(inputs(data)).softmax(1).numpy()


def accuracy(network: nn.Module, data: SyntheticDataset) -> float:
    return float(np.mean(probabilities(network, data).argmax(1) == data.labels))


def made(**changes: Any) -> tuple[SyntheticDataset, ...]:
    small = {"images": 1000, "size_px": 24, "object_classes": 4, "scene_classes": 4}
    return generate_images(ObjectsOnScenes.model_validate(small | changes)).split(0.8)


def test_scenes_are_learned_in_seconds() -> None:
    training, test = made(images=600, labels="scenes")
    assert accuracy(trained(training, epochs=4), test) > 0.9


def test_outlines_are_learned_where_labels_are_objects() -> None:
    """Chance is 0.25; twelve epochs give 0.8."""
    training, test = made()
    assert accuracy(trained(training, epochs=10), test) > 0.65


def test_a_network_follows_a_mark_that_agrees_and_not_one_that_tells_nothing() -> None:
    found = {}
    for agreement, epochs in ((0.95, 4), (0.25, 4)):
        training, test = made(shortcut={"agreement": agreement})
        network = trained(training, epochs=epochs)
        before, after = test.without_marks(), test.with_contradicting_marks()
        found[agreement] = shortcut_reliance(
            probabilities(network, before),
            probabilities(network, after),
            labels=test.labels,
            marks=[mark for mark in after.marks if mark is not None],
        )
        if agreement > 0.5:
            # the mark is all that it has learned
            assert accuracy(network, test.with_own_marks()) > 0.8
    assert (found[0.95].followed or 0) > 0.8
    assert found[0.95].accuracy_after < 0.2
    assert found[0.95].moved_probability > 0.4
    assert (found[0.25].followed or 0) < 0.25
    assert abs(found[0.25].moved_probability) < 0.1
