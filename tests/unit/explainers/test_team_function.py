"""Functions of a team as explainers: what they get and return, what a trial finds, and that they harm nothing."""

from __future__ import annotations

import random
import signal

import numpy as np
import pytest
import torch
from torch import Tensor

import digits
import small_networks
import team_explainers
from auditcore.contracts.access import AccessRules
from auditcore.contracts.capabilities import BLACK_BOX, explainer_incompatibility
from auditcore.contracts.explainers import CallableExplainer, Gradient
from auditcore.contracts.input_shape import InputShape
from auditcore.errors import ExplainerFailing, UnsafeReference
from auditcore.explainers.foreign import drawing_from, foreign_code
from auditcore.explainers.registry import applicability, explain
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams

TARGETS = torch.tensor([3, 5, 1])


def function(name: str, **fields: object) -> CallableExplainer:
    return CallableExplainer.model_validate({"target": f"team_explainers:{name}"} | fields)


def images() -> Tensor:
    return digits.digit_pixels()[0][:3]


def streams() -> Streams:
    return Streams(7, tuple(f"sha256:{number}" for number in range(3)))


def maps(classifier: Classifier, contract: CallableExplainer, micro_batch: int = 2) -> Tensor:
    return explain(classifier, contract, images(), TARGETS, streams(), micro_batch=micro_batch).maps


def test_a_function_gets_the_normalized_images_and_its_gradient_is_ours() -> None:
    classifier = small_networks.plain()
    contract = function("gradient")
    assert applicability(classifier, contract) is None
    before = classifier.ledger.forward_images, classifier.ledger.backward_images
    found = maps(classifier, contract)
    assert (classifier.ledger.forward_images - before[0], classifier.ledger.backward_images - before[1]) == (3, 3)
    ours = explain(classifier, Gradient(), images(), TARGETS, streams()).maps
    torch.testing.assert_close(found, ours, rtol=1e-4, atol=1e-6)


def test_arrays_without_a_channel_and_arguments_are_taken() -> None:
    classifier = small_networks.plain()
    contract = function("numpy_map", arguments={"power": 2})
    assert applicability(classifier, contract) is None
    found = maps(classifier, contract)
    assert found.shape == (3, 1, digits.SIDE, digits.SIDE)
    once = maps(classifier, function("numpy_map"))
    torch.testing.assert_close(found, once.square(), rtol=1e-4, atol=1e-7)


def test_random_numbers_come_from_the_stream_of_the_image() -> None:
    classifier = small_networks.plain()
    contract = function("smooth", draws=True)
    assert applicability(classifier, contract) is None
    first, again = maps(classifier, contract, micro_batch=3), maps(classifier, contract, micro_batch=1)
    assert torch.equal(first, again)
    elsewhere = explain(classifier, contract, images(), TARGETS, streams().viewing(["rotated"] * 3)).maps
    assert not torch.equal(first, elsewhere)


def test_the_generators_go_on_as_if_nothing_had_been_drawn() -> None:
    def states() -> tuple[object, ...]:
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002 - as teams draw

    def drawn() -> tuple[float, ...]:
        return float(torch.rand(1)), np.random.normal(), random.gauss(0, 1)  # noqa: NPY002 - the same

    drawing = drawing_from(streams(), 1, "test", torch.device("cpu"))
    before = states()
    with drawing:
        found = drawn()
    assert states() == before
    with drawing_from(streams(), 1, "test", torch.device("cpu")):
        assert drawn() == found
    with drawing_from(streams(), 2, "test", torch.device("cpu")):
        assert not set(drawn()) & set(found)


@pytest.mark.parametrize(
    ("contract", "reason"),
    [
        (function("smooth"), "set `draws` to true"),
        (function("own_generator", draws=True), "not from a generator of its own"),
        (function("scaled_by_batch"), "set `batched` to false"),
        (function("small"), r"enlarge smaller maps"),
        (function("infinite"), "return finite maps"),
        (function("broken"), r"failed: KeyError: 'no such\\nlayer'"),
        (function("leaving"), "raised SystemExit"),
        (function("slow", timeout_s=0.2), r"took more than 0.2 s for 2 images"),
        (function("text"), "must return a tensor or an array of maps, got str"),
        (function("nothing"), "cannot be imported: AttributeError"),
        (function("NUMBER"), "is not callable"),
        (function("gradient", arguments={"layer": "head"}), "unexpected keyword argument 'layer'"),
        (CallableExplainer(target="no_such_module:explain"), "install its package on the worker"),
    ],
    ids=lambda value: value.target if isinstance(value, CallableExplainer) else "",
)
def test_a_trial_finds_what_is_wrong(contract: CallableExplainer, reason: str) -> None:
    classifier = Classifier(small_networks.network(small_networks.plain()), preprocessing=digits.PREPROCESSING)
    before = classifier.ledger.forward_images
    with pytest.raises(ExplainerFailing, match=reason):
        raise ExplainerFailing(str(applicability(classifier, contract)), field="plan.explainers")
    assert classifier.ledger.forward_images == before


def test_what_depends_on_the_batch_gets_one_image_at_a_time() -> None:
    classifier = small_networks.plain()
    contract = function("scaled_by_batch", batched=False)
    assert applicability(classifier, contract) is None
    found = maps(classifier, contract, micro_batch=3)
    torch.testing.assert_close(found.abs().amax((1, 2, 3)), torch.ones(3))


def test_a_function_cannot_change_the_audited_model() -> None:
    classifier = Classifier(small_networks.network(small_networks.plain()), preprocessing=digits.PREPROCESSING)
    before = {name: value.clone() for name, value in classifier.module.state_dict().items()}
    expected = maps(classifier, function("gradient"))
    for name in ("vandal", "hooking"):
        assert applicability(classifier, function(name)) is None
        # neither the function itself nor the next one sees what it did to its copy
        torch.testing.assert_close(maps(classifier, function(name)), expected)
        torch.testing.assert_close(maps(classifier, function("gradient")), expected)
    after = classifier.module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not any(parameter.requires_grad for parameter in classifier.module.parameters())


def test_a_failure_in_an_audit_names_the_function() -> None:
    with pytest.raises(ExplainerFailing, match="team_explainers:broken failed: KeyError") as found:
        maps(small_networks.plain(), function("broken"))
    assert found.value.field == "plan.explainers"


def test_predictions_are_enough_for_a_model_behind_a_server() -> None:
    contract = function("predictions_only", model_access="predictions", forward_passes=2, backward_passes=0)
    assert explainer_incompatibility(contract, BLACK_BOX) is None
    assert explainer_incompatibility(function("gradient"), BLACK_BOX) is not None
    classifier = small_networks.plain()
    before = classifier.ledger.forward_images
    found = maps(classifier, contract)
    assert (
        classifier.ledger.forward_images - before
        == 3 * contract.own_passes(original=True, shape=InputShape(3, 32, 32)).forward
    )
    assert found.shape == (3, 1, digits.SIDE, digits.SIDE)


def test_only_functions_that_the_operator_allows_are_called() -> None:
    allowed = AccessRules(explainers=("team_explainers:gradient",))
    allowed.check_explainers((Gradient(), function("gradient")))
    with pytest.raises(UnsafeReference, match=r"'team_explainers:broken' is not allowed.*AUDIT_EXPLAINERS") as found:
        allowed.check_explainers((Gradient(), function("broken")))
    assert found.value.field == "plan.explainers.1.target"
    assert AccessRules().explainers == ()
    assert team_explainers.NUMBER == 3


def test_a_time_limit_in_foreign_code_is_no_fault_of_that_code(digit_classifier: Classifier) -> None:
    def limit(_number: int, _frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGUSR2, limit)
    try:
        with pytest.raises(TimeoutError), foreign_code(digit_classifier, name="hospital:explain"):
            signal.raise_signal(signal.SIGUSR2)
    finally:
        signal.signal(signal.SIGUSR2, before)
    failed = pytest.raises(ExplainerFailing, match="hospital:explain failed: TimeoutError")
    with failed, foreign_code(digit_classifier, name="hospital:explain"):
        raise TimeoutError
