"""Models that forget, from the logits down."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import digits
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.models.classifier import Classifier
from auditcore.models.randomization import cascade, parameter_layers

SMALL = Preprocessing(resize=32, crop=32)
LAYERS = ["stem.0", "stem.1", "inner.0", "inner.1", "down", "head"]


def state(classifier: Classifier) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in classifier.module.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Layers of which any parameter or buffer differs."""
    return {name.rpartition(".")[0] for name in before if not torch.equal(before[name], after[name])}


def test_layers_in_the_order_in_which_they_run(digit_classifier: Classifier) -> None:
    assert parameter_layers(digit_classifier) == [[layer] for layer in LAYERS]


def test_the_cascade_goes_down_from_the_logits_and_never_back(digit_classifier: Classifier) -> None:
    trained = state(digit_classifier)
    stages = list(cascade(digit_classifier, seed=1, stages=None))
    assert [stage.share for stage in stages] == pytest.approx([step / 6 for step in range(1, 7)])
    states = [state(stage.classifier) for stage in stages]
    for number, now in enumerate(states, start=1):
        assert changed(trained, now) == set(LAYERS[-number:])
    # a layer that is random stays as it is from then on
    for (number, before), after in zip(enumerate(states[:-1], start=1), states[1:], strict=True):
        assert changed(before, after) == {LAYERS[-number - 1]}
    assert changed(trained, state(digit_classifier)) == set()


@pytest.mark.parametrize(
    ("stages", "ends"), [(1, [6]), (2, [3, 6]), (4, [1, 3, 4, 6]), (6, [1, 2, 3, 4, 5, 6]), (50, [1, 2, 3, 4, 5, 6])]
)
def test_groups_are_as_equal_as_can_be_and_random_values_do_not_depend_on_them(
    digit_classifier: Classifier, stages: int, ends: list[int]
) -> None:
    trained = state(digit_classifier)
    found = list(cascade(digit_classifier, seed=1, stages=stages))
    assert [round(stage.share * 6) for stage in found] == ends
    assert [len(changed(trained, state(stage.classifier))) for stage in found] == ends
    whole = next(iter(cascade(digit_classifier, seed=1, stages=1)))
    assert changed(state(whole.classifier), state(found[-1].classifier)) == set()


def test_a_layer_is_initialized_as_before_training(digit_classifier: Classifier) -> None:
    (stage,) = cascade(digit_classifier, seed=1, stages=1)
    module = stage.classifier.module
    norm = module.get_submodule("stem.1")
    assert isinstance(norm, nn.BatchNorm2d)
    torch.testing.assert_close(norm.weight, torch.ones(8))
    torch.testing.assert_close(norm.running_var, torch.ones(8))
    assert norm.running_mean is not None
    assert not norm.running_mean.any()
    head = module.get_submodule("head")
    # kaiming_uniform with a = sqrt(5): within 1/sqrt(fan in), and most of the way there
    assert 0.9 / 8 < head.weight.abs().max() <= 1 / 8
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert not module.training


def test_seed_model_and_layer_decide_and_nothing_else(digit_classifier: Classifier) -> None:
    def last(classifier: Classifier, seed: int) -> tuple[dict[str, Tensor], str]:
        *_, stage = cascade(classifier, seed=seed, stages=2)
        return state(stage.classifier), stage.classifier.digest

    once, digest = last(digit_classifier, 1)
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    again, same_digest = last(digit_classifier, 1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert changed(once, again) == set()
    other, other_digest = last(digit_classifier, 2)
    assert {"head", "down"} <= changed(once, other)
    network = copy.deepcopy(digits.trained())
    with torch.no_grad():
        network.head.bias += 1
    neighbor, _ = last(Classifier(network, preprocessing=digits.PREPROCESSING), 1)
    assert {"head", "down"} <= changed(once, neighbor)
    assert digest == same_digest
    assert len({digest, other_digest, digit_classifier.digest}) == 3
    # layers do not get the same values, not even scaled to their own range
    drawn = torch.stack([once[f"{layer}.weight"].flatten()[:200] for layer in ("stem.0", "inner.0", "down")])
    assert (torch.corrcoef(drawn) - torch.eye(3)).abs().max() < 0.3


def test_passes_count_once_in_the_ledger_of_the_trained_model(digit_classifier: Classifier) -> None:
    ledger = digit_classifier.ledger
    before = ledger.forward_images
    stages = list(cascade(digit_classifier, seed=1, stages=3))
    # finding the layers shows the model no image
    assert ledger.forward_images == before
    for stage in stages:
        assert stage.classifier.ledger is ledger
    before = ledger.forward_images
    stages[-1].classifier.logits(torch.rand(5, 3, 32, 32))
    assert ledger.forward_images - before == 5
    digit_classifier.logits(torch.rand(2, 3, 32, 32))
    assert ledger.forward_images - before == 7


def test_the_canonical_form_is_that_of_the_random_model(digit_classifier: Classifier) -> None:
    assert digit_classifier.canonical is digit_classifier.canonical
    pixels = torch.rand(2, 3, 32, 32)
    for stage in cascade(digit_classifier, seed=1, stages=2):
        with torch.no_grad():
            canonical = stage.classifier.canonical(stage.classifier.normalize(pixels))
        torch.testing.assert_close(canonical, stage.classifier.logits(pixels), rtol=1e-4, atol=1e-5)


def test_attention_and_tokens_are_randomized_too() -> None:
    """nn.MultiheadAttention never calls its output projection; tokens belong to modules without a reset."""
    vit = torchvision.models.VisionTransformer(
        32, 16, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=4
    )
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())))
    classifier = Classifier(vit, preprocessing=SMALL)
    layers = parameter_layers(classifier)
    attention = "encoder.layers.encoder_layer_1.self_attention"
    assert [attention, f"{attention}.out_proj"] in layers
    assert sorted(itertools.chain(*layers)) == sorted(
        name for name, module in vit.named_modules() if list(module.parameters(recurse=False))
    )
    (stage,) = cascade(classifier, seed=1, stages=1)
    before, after = state(classifier), state(stage.classifier)
    assert all(not torch.equal(before[name], after[name]) for name in before)
    # what has no initialization of its own is permuted: as large as it was
    assert before["class_token"].flatten().sort().values.equal(after["class_token"].flatten().sort().values)


def test_parametrized_weights_are_randomized_too() -> None:
    """`reset_parameters` writes into a weight that is computed, and that would be that."""
    torch.manual_seed(0)
    network = nn.Sequential(
        parametrizations.weight_norm(nn.Conv2d(3, 4, 3)),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )
    classifier = Classifier(network, preprocessing=SMALL)
    (stage,) = cascade(classifier, seed=1, stages=1)
    assert isinstance(classifier.module, nn.Sequential)
    assert isinstance(stage.classifier.module, nn.Sequential)
    assert not torch.equal(classifier.module[0].weight, stage.classifier.module[0].weight)


def test_a_shared_layer_counts_once_and_where_it_ran_last() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = nn.Conv2d(3, 3, 3, padding=1)
            self.between = nn.Conv2d(3, 3, 3, padding=1)
            self.head = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.shared(self.between(self.shared(x))).mean(dim=(2, 3)))

    assert parameter_layers(Classifier(Twice(), preprocessing=SMALL)) == [["between"], ["shared"], ["head"]]
