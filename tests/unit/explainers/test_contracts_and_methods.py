"""What a contract says about its method and what the implementation does must agree."""

from __future__ import annotations

from collections import defaultdict

import pytest
from pydantic import ValidationError

import digit_transformer
import digits
from auditcore.contracts.capabilities import BLACK_BOX, NO_GRADIENTS, explainer_incompatibility
from auditcore.contracts.explainers import EXPLAINER_CONTRACTS, Explainer, default_explainers
from auditcore.contracts.explainers.diagnostics import Diagnostic
from auditcore.contracts.explainers.explainer import ExplainerContract
from auditcore.contracts.metrics import METRICS
from auditcore.contracts.plan import AuditPlan
from auditcore.counts.coalitions import coalition_count
from auditcore.explainers.kernel_shap import drawn_coalitions, every_coalition
from auditcore.explainers.registry import EXPLAINERS, applicability, explain
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams

ALONE = [explainer for explainer in default_explainers() if not explainer.needs_measure_wave]


@pytest.mark.parametrize("contract", EXPLAINER_CONTRACTS, ids=lambda contract: contract.__name__)
def test_the_registry_answers_what_the_contract_promises(contract: type[ExplainerContract]) -> None:
    method = EXPLAINERS[contract]
    assert contract.needs_measure_wave is (method.measure_shared is not None) is (method.reduce_shared is not None)
    if "layer_gradient" in contract.shared_passes:
        assert method.layer is not None
    if contract.default_map_kind is None:
        assert contract.kind_of_map is not ExplainerContract.kind_of_map


@pytest.mark.parametrize("explainer", ALONE, ids=lambda explainer: explainer.kind)
def test_a_method_reports_the_diagnostics_of_its_contract(digit_classifier: Classifier, explainer: Explainer) -> None:
    images = digits.digit_pixels()[0][:2]
    classifier = digit_transformer.suited(digit_classifier, explainer)
    assert applicability(classifier, explainer) is None
    targets = classifier.logits(images).argmax(1)
    found = explain(classifier, explainer, images, targets, Streams(1, ("sha256:0", "sha256:1")))
    assert set(found.diagnostics) == set(explainer.diagnostics)


def test_diagnostics_of_one_name_mean_one_thing() -> None:
    meanings: dict[str, list[Diagnostic]] = defaultdict(list)
    for contract in EXPLAINER_CONTRACTS:
        for name, diagnostic in contract.diagnostics.items():
            meanings[name].append(diagnostic)
    assert set(meanings) >= {"completeness_error", "conservation", "statistics_agreement"}
    assert all(one == found[0] for found in meanings.values() for one in found)
    assert all(METRICS["explainer"][name] == found[0].metric for name, found in meanings.items())


def test_a_black_box_is_told_which_explainers_suit_it() -> None:
    suitable = [one.kind for one in default_explainers() if explainer_incompatibility(one, BLACK_BOX) is None]
    named = [kind for kind in suitable if kind in NO_GRADIENTS]
    assert named == [kind for kind in suitable if kind != "random"] == ["occlusion", "ablation", "rise", "kernel_shap"]
    assert NO_GRADIENTS.endswith("use occlusion, ablation, rise or kernel_shap, or send the model itself")


def test_only_a_control_has_the_name_of_the_control() -> None:
    checks = [{"kind": "complexity"}]
    AuditPlan.model_validate({"explainers": [{"kind": "random"}], "checks": checks})
    with pytest.raises(ValidationError, match="only an explainer of kind random may be called 'random'"):
        AuditPlan.model_validate({"explainers": [{"kind": "gradient", "name": "random"}], "checks": checks})


@pytest.mark.parametrize(("segments", "samples"), [(4, 14), (4, 13), (9, 600), (9, 509), (16, 11)])
def test_as_many_coalitions_are_drawn_as_are_counted(segments: int, samples: int) -> None:
    whole = every_coalition(segments)
    drawn = drawn_coalitions(Streams(1, ("sha256:0",)).generator(0, "test"), segments, samples // 2)
    expected = whole if len(whole.weights) <= samples else drawn
    assert coalition_count(segments, samples) == len(expected.weights)
