"""Methods of captum by name: captum's own maps, their passes, and how close auditcore's own maps come."""

from __future__ import annotations

import copy
import inspect
import re
import warnings
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

import digits
import small_networks
from auditcore.contracts.explainers import Captum
from auditcore.contracts.explainers.captum import METHODS
from auditcore.contracts.explainers.pass_sharing import map_passes
from auditcore.explainers.captum import method_classes
from auditcore.explainers.foreign import cosine
from auditcore.explainers.registry import applicability, explain
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams

TARGETS = torch.tensor([3, 5, 1])
GRID = [[0, 1], [2, 3]]
ARGUMENTS: dict[str, dict[str, Any]] = {
    "Saliency": {"abs": False},
    "IntegratedGradients": {"n_steps": 7, "method": "riemann_middle", "baselines": [0.1, -0.2, 0.3]},
    "GradientShap": {"baselines": [0.0, [0.1, 0.2, 0.3]], "n_samples": 3, "stdevs": 0.1},
    "DeepLift": {"baselines": 0.5},
    "DeepLiftShap": {"baselines": [0.0, 1.0, 0.5]},
    "GuidedGradCam": {"interpolate_mode": "bilinear"},
    "FeatureAblation": {"feature_mask": GRID, "baselines": -1.0},
    "Occlusion": {"sliding_window_shapes": [3, 8, 8], "strides": [3, 5, 5]},
    "ShapleyValueSampling": {"feature_mask": GRID, "n_samples": 3},
    "Lime": {"feature_mask": GRID, "n_samples": 12},
    "KernelShap": {"feature_mask": GRID, "n_samples": 12},
    "NoiseTunnel": {"nt_samples": 4, "stdevs": 0.2, "attribution_method": "IntegratedGradients", "n_steps": 3},
    "LayerGradCam": {"relu_attributions": True, "interpolate_mode": "bilinear"},
    "LayerIntegratedGradients": {"n_steps": 5},
    "LayerConductance": {"n_steps": 5},
    "InternalInfluence": {"n_steps": 5},
}
CONTRACTS = [Captum.model_validate({"method": name, "arguments": ARGUMENTS.get(name, {})}) for name in METHODS]


def method(contract: Captum) -> str:
    return contract.method


def images(count: int = 3) -> Tensor:
    return digits.digit_pixels()[0][:count]


def streams(count: int = 3) -> Streams:
    return Streams(7, tuple(f"sha256:{number}" for number in range(count)))


def by_hand(contract: Captum, classifier: Classifier, inputs: Tensor, targets: Tensor) -> Tensor:
    """What a team writes in its notebook."""
    model: Any = copy.deepcopy(small_networks.network(classifier))
    arguments = {
        name: torch.tensor(value).view(1, -1, 1, 1).expand(1, 3, 32, 32) if isinstance(value, list) else value
        for name, value in contract.arguments.items()
        if name not in {"interpolate_mode", "attribution_method", "sliding_window_shapes", "strides", "feature_mask"}
    }
    if contract.method == "DeepLiftShap":
        arguments["baselines"] = torch.tensor([0.0, 1.0, 0.5]).view(3, 1, 1, 1).expand(3, 3, 32, 32)
    if contract.method == "Occlusion":
        arguments |= {"sliding_window_shapes": (3, 8, 8), "strides": (3, 5, 5)}
    if "feature_mask" in contract.arguments:
        arguments["feature_mask"] = torch.tensor(GRID).repeat_interleave(16, 0).repeat_interleave(16, 1)[None, None]
    kind = method_classes()[contract.method]
    mode = contract.arguments.get("interpolate_mode", "nearest")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if contract.method == "GuidedGradCam":
            guided: Tensor = kind(model, model.second_relu).attribute(inputs, targets, interpolate_mode=mode)
            return guided.detach()
        if contract.known.takes_layer:
            if contract.method != "LayerActivation":
                arguments["target"] = targets
            found = kind(model, model.second_relu).attribute(inputs, **arguments)
            enlarged = torch.nn.functional.interpolate(found, size=(32, 32), mode=mode)
            return enlarged.sum(1, keepdim=True).detach()
        maps: Tensor = kind(model).attribute(inputs, target=targets, **arguments)
        return maps.detach()


def test_every_method_has_a_class_and_arguments_of_its_signature() -> None:
    assert get_args(Captum.model_fields["method"].annotation) == tuple(METHODS)
    extra = {"interpolate_mode"}
    for name, known in METHODS.items():
        kind = method_classes()[name]
        taken = set(inspect.signature(kind).parameters) | set(inspect.signature(kind.attribute).parameters)
        allowed = extra if known.takes_layer else set()
        assert set(known.arguments) <= taken | allowed, name
        assert ("layer" in taken) is known.takes_layer
        required = {
            parameter.name
            for parameter in inspect.signature(kind.attribute).parameters.values()
            if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        } - {"self", "inputs"}
        assert required == known.required, name


@pytest.mark.parametrize("contract", [one for one in CONTRACTS if not one.stochastic], ids=method)
def test_maps_are_those_of_captum(contract: Captum) -> None:
    classifier = small_networks.plain()
    assert applicability(classifier, contract) is None
    found = explain(classifier, contract, images(), TARGETS, streams(), micro_batch=2).maps
    expected = by_hand(contract, classifier, classifier.normalize(images()), TARGETS)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert not found.requires_grad


@pytest.mark.parametrize("contract", CONTRACTS, ids=method)
def test_the_ledger_counts_the_passes_of_the_table(contract: Captum) -> None:
    classifier = small_networks.plain()
    assert applicability(classifier, contract) is None
    ledger = classifier.ledger
    before = ledger.forward_images, ledger.backward_images
    explain(classifier, contract, images(), TARGETS, streams(), micro_batch=2)
    made = ledger.forward_images - before[0], ledger.backward_images - before[1]
    needed = map_passes((contract,), original=True, shape=digits.PREPROCESSING.shape).times(3)
    assert made == (needed.forward, needed.backward)


@pytest.mark.parametrize("contract", CONTRACTS, ids=method)
def test_the_same_request_gives_the_same_maps_in_any_batch(contract: Captum) -> None:
    classifier = small_networks.plain()
    state = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002 - what captum draws from
    together = explain(classifier, contract, images(), TARGETS, streams(), micro_batch=8).maps
    apart = explain(classifier, contract, images(), TARGETS, streams(), micro_batch=1).maps
    torch.testing.assert_close(together, apart, rtol=1e-3, atol=1e-4 * float(together.abs().max()))
    # what others draw is not disturbed
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.random.get_state()[1].tolist() == state[1]  # noqa: NPY002 - the same


@pytest.mark.parametrize("contract", [one for one in CONTRACTS if one.stochastic], ids=method)
def test_random_methods_draw_from_the_stream_of_the_image(contract: Captum) -> None:
    classifier = small_networks.plain()
    first = explain(classifier, contract, images(), TARGETS, streams(), micro_batch=2).maps
    again = explain(classifier, contract, images(), TARGETS, streams(), micro_batch=2).maps
    other = explain(classifier, contract, images(), TARGETS, streams().viewing(["another"] * 3), micro_batch=2).maps
    assert torch.equal(first, again)
    if contract.method not in {"Lime", "ShapleyValueSampling"}:  # few features: Lime's lasso may leave none of them
        assert not torch.equal(first, other)
    assert contract.repeatable


@pytest.mark.parametrize(
    ("entry", "least"),
    [
        ({"method": "Saliency", "arguments": {"abs": False}}, 0.99999),
        ({"method": "InputXGradient"}, 0.99999),
        ({"method": "IntegratedGradients"}, 0.99999),
        ({"method": "DeepLift"}, 0.9999),
        ({"method": "GuidedBackprop"}, 0.99999),
        ({"method": "Deconvolution"}, 0.99999),
        ({"method": "Occlusion", "arguments": {"sliding_window_shapes": [3, 8, 8], "strides": [3, 5, 5]}}, 0.9999),
    ],
    ids=lambda value: value["method"] if isinstance(value, dict) else "",
)
def test_maps_agree_with_ours_where_captum_can_follow_the_model(entry: dict[str, Any], least: float) -> None:
    found = explain(small_networks.plain(), Captum.model_validate(entry), images(), TARGETS, streams())
    assert float(found.diagnostics["cosine_to_own"].min()) > least


def test_faults_of_captum_show_in_the_cosine(digit_classifier: Classifier) -> None:
    # this network uses one rectifier twice and adds with `+`, which hooks on modules cannot see
    classifier = Classifier(digits.trained(), preprocessing=digits.PREPROCESSING)
    found = explain(classifier, Captum(method="Deconvolution"), images(), TARGETS, streams())
    assert float(found.diagnostics["cosine_to_own"].max()) < 0.9
    reason = applicability(digit_classifier, Captum(method="DeepLift"))
    assert reason is not None
    assert reason.startswith("captum's DeepLift failed: RuntimeError: A Module ReLU")


def test_a_failure_leaves_the_audited_model_as_it_was() -> None:
    classifier = Classifier(digits.trained(), preprocessing=digits.PREPROCESSING)
    before = classifier.logits(images())
    hooks = sum(len(module._forward_hooks) for module in classifier.module.modules())
    assert applicability(classifier, Captum(method="DeepLift")) is not None
    assert torch.equal(classifier.logits(images()), before)
    assert sum(len(module._forward_hooks) for module in classifier.module.modules()) == hooks
    assert not any(parameter.requires_grad for parameter in classifier.module.parameters())


def test_a_trial_is_made_once_and_not_counted() -> None:
    classifier = Classifier(digits.trained(), preprocessing=digits.PREPROCESSING)
    contract = Captum(method="InputXGradient")
    before = classifier.ledger.forward_images
    assert applicability(classifier, contract) is None
    assert classifier.ledger.forward_images == before


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"method": "LayerGradCam", "layer": "nowhere"}, "no layer 'nowhere'"),
        ({"method": "LayerGradCam", "layer": "head"}, "no layer 'head'"),
        ({"method": "IntegratedGradients", "arguments": {"baselines": [0.0, 1.0]}}, r"shape \(2,\)"),
        ({"method": "GradientShap", "arguments": {"baselines": [0.0, [[[1.0]]]]}}, r"shape \(1, 1, 1\)"),
        ({"method": "Occlusion", "arguments": {"sliding_window_shapes": [3, 40, 8]}}, "does not fit the input"),
        ({"method": "FeatureAblation", "arguments": {"feature_mask": [[*range(40)]]}}, "1 x 40 cells"),
        ({"method": "DeepLiftShap", "arguments": {"baselines": [0.0]}}, "more than one example"),
    ],
    ids=lambda value: value["method"] if isinstance(value, dict) else "",
)
def test_what_does_not_fit_the_model_is_a_reason(entry: dict[str, Any], reason: str) -> None:
    found = applicability(small_networks.plain(), Captum.model_validate(entry))
    assert re.search(reason, str(found))


def test_layers_of_tokens_are_no_channels_for_captums_grad_cam() -> None:
    classifier = small_networks.tokens()
    (layer, *_) = classifier.feature_grids
    reason = applicability(classifier, Captum(method="LayerGradCam", layer=layer))
    assert reason is not None
    assert "takes axis 1 for channels" in reason
    contract = Captum(method="LayerGradientXActivation", layer=layer)
    assert applicability(classifier, contract) is None
    maps = explain(classifier, contract, images(), TARGETS, streams()).maps
    assert maps.shape == (3, 1, digits.SIDE, digits.SIDE)


@pytest.mark.parametrize("channels", [(3, 3), (3, 1), (1, 3)])
def test_the_cosine_against_numpy_in_float64(channels: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    left, right = (torch.randn(4, channel, 5, 6, generator=generator) for channel in channels)
    left[2] = 0
    found = cosine(left, right)
    for position in range(4):
        one, other = (values[position].double().numpy() for values in (left, right))
        if channels[0] != channels[1]:
            one, other = one.sum(0), other.sum(0)
        lengths = np.sqrt((one**2).sum()) * np.sqrt((other**2).sum())
        expected = np.nan if lengths == 0 else (one * other).sum() / lengths
        np.testing.assert_allclose(float(found[position]), expected, rtol=1e-6)
    assert found[2].isnan()


def test_a_map_and_its_multiple_have_cosine_one() -> None:
    maps = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(cosine(maps, 1e-3 * maps), torch.ones(2))
    torch.testing.assert_close(cosine(maps, -maps), -torch.ones(2))
