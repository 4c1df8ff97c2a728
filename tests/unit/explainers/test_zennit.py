"""Composites of zennit by name: zennit's own maps, their passes, and how close auditcore's own maps come."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import pytest
import torch
import zennit.canonizers
import zennit.composites
import zennit.torchvision
from torch import Tensor, nn
from zennit.attribution import Gradient

import digits
import small_networks
from auditcore.contracts.explainers import Zennit
from auditcore.contracts.explainers.pass_sharing import map_passes
from auditcore.contracts.explainers.zennit import COMPOSITES
from auditcore.explainers.registry import applicability, explain
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams

TARGETS = torch.tensor([3, 5, 1])
ARGUMENTS: dict[str, dict[str, Any]] = {
    "EpsilonPlus": {"epsilon": 0.01, "zero_params": ["bias"]},
    "EpsilonGammaBox": {"low": -2.0, "high": [2.0, 2.5, 3.0], "gamma": 0.5},
    "BetaSmooth": {"beta_smooth": 5.0},
}
CONTRACTS = [Zennit.model_validate({"composite": name, "arguments": ARGUMENTS.get(name, {})}) for name in COMPOSITES]


def composite(contract: Zennit) -> str:
    return contract.composite


def images() -> Tensor:
    return digits.digit_pixels()[0][:3]


def streams() -> Streams:
    return Streams(7, tuple(f"sha256:{number}" for number in range(3)))


def by_hand(contract: Zennit, network: nn.Module, inputs: Tensor) -> Tensor:
    """What a team writes in its notebook."""
    arguments = dict(contract.arguments)
    if contract.composite == "EpsilonGammaBox":
        arguments |= {"low": torch.full((1, 3, 1, 1), -2.0), "high": torch.tensor([2.0, 2.5, 3.0]).view(1, 3, 1, 1)}
    if contract.canonizer is not None:
        arguments["canonizers"] = [zennit.canonizers.SequentialMergeBatchNorm()]
    rules = getattr(zennit.composites, contract.composite)(**arguments)
    with Gradient(network, rules) as attributor:
        _, maps = attributor(inputs.clone(), torch.eye(10)[TARGETS])
    found: Tensor = maps
    return found.detach()


def test_every_composite_has_a_class_and_arguments_of_its_signature() -> None:
    assert get_args(Zennit.model_fields["composite"].annotation) == tuple(COMPOSITES)
    for name, known in COMPOSITES.items():
        taken = inspect.signature(getattr(zennit.composites, name)).parameters
        assert set(known.arguments) <= set(taken), name
        code = {"layer_map", "first_map", "canonizers"}
        assert set(taken) - code == set(known.arguments), name
    for name in get_args(get_args(Zennit.model_fields["canonizer"].annotation)[0]):
        assert hasattr(zennit.canonizers, name) or hasattr(zennit.torchvision, name)


@pytest.mark.parametrize("contract", CONTRACTS, ids=composite)
def test_maps_are_those_of_zennit_and_the_ledger_counts_its_passes(contract: Zennit) -> None:
    classifier = small_networks.plain()
    assert applicability(classifier, contract) is None
    ledger = classifier.ledger
    before = ledger.forward_images, ledger.backward_images
    found = explain(classifier, contract, images(), TARGETS, streams(), micro_batch=2).maps
    needed = map_passes((contract,), original=True, shape=digits.PREPROCESSING.shape).times(3)
    made = ledger.forward_images - before[0], ledger.backward_images - before[1]
    assert made == (needed.forward, needed.backward)
    expected = by_hand(contract, small_networks.network(classifier), classifier.normalize(images()))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(
    "name", ["EpsilonPlusFlat", "EpsilonAlpha2Beta1Flat", "EpsilonGammaBox", "GuidedBackprop", "DeconvNet"]
)
def test_ours_agree_where_every_layer_is_a_module(name: str) -> None:
    contract = Zennit.model_validate({"composite": name})
    found = explain(small_networks.plain(), contract, images(), TARGETS, streams())
    # zennit begins with 1 and ours with the logit, whose sign turns the map
    assert float(found.diagnostics["cosine_to_own"].abs().min()) > 0.9999


def test_additions_and_normalization_without_a_canonizer_show_in_the_cosine() -> None:
    classifier = Classifier(digits.trained(), preprocessing=digits.PREPROCESSING)
    targets = classifier.logits(images()).argmax(1)
    cosines = explain(classifier, Zennit(composite="EpsilonAlpha2Beta1Flat"), images(), targets, streams())
    assert float(cosines.diagnostics["cosine_to_own"].abs().max()) < 0.95


def test_a_canonizer_rewrites_the_copy_and_not_the_model() -> None:
    classifier = Classifier(digits.trained(), preprocessing=digits.PREPROCESSING)
    before = classifier.logits(images())
    contract = Zennit(composite="EpsilonPlusFlat", canonizer="SequentialMergeBatchNorm")
    plain = contract.model_copy(update={"canonizer": None})
    assert applicability(classifier, contract) is None
    found = explain(classifier, contract, images(), TARGETS, streams()).maps
    again = explain(classifier, contract, images(), TARGETS, streams()).maps
    assert torch.equal(found, again)
    assert not torch.allclose(found, explain(classifier, plain, images(), TARGETS, streams()).maps, rtol=0.1)
    expected = by_hand(contract, digits.trained(), classifier.normalize(images()))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert torch.equal(classifier.logits(images()), before)


def test_what_zennit_cannot_do_on_a_model_is_a_reason() -> None:
    classifier = Classifier(digits.trained(), preprocessing=digits.PREPROCESSING)
    reason = applicability(classifier, Zennit(composite="BetaSmooth"))
    assert reason is not None
    assert reason.startswith("zennit's BetaSmooth failed: RuntimeError")
    bounds = Zennit(composite="EpsilonGammaBox", arguments={"low": [0.0, 0.0]})
    assert "`low` has shape (2,)" in str(applicability(small_networks.plain(), bounds))
