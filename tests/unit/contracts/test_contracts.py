from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

import documented
from auditcore.contracts.access import AccessRules
from auditcore.contracts.augmentations import Brightness, Rotate, Scale
from auditcore.contracts.canonical_json import canonical_json, digest_of
from auditcore.contracts.checks import (
    CHECK_OF_KIND,
    DeletionCheck,
    EddaCheck,
    InsertionDeletionCheck,
    SweepCheck,
    all_augmentations,
)
from auditcore.contracts.explainers import Explainer, Gradient, IntegratedGradients, Random, SmoothGrad
from auditcore.contracts.images import ImageUri, InlineImage
from auditcore.contracts.metrics import METRICS
from auditcore.contracts.models import DemoModel, FactoryModel, Weights
from auditcore.contracts.plan import AuditPlan, PresetPlan
from auditcore.contracts.policy import Condition, validate_policy
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.presets import quick_plan, resolve_plan, standard_plan
from auditcore.contracts.request import AuditRequest
from auditcore.costs.estimate import passes_of, waves_of
from auditcore.errors import InvalidRequest, UnsafeReference
from auditcore.sources.registry import check_model

DOCUMENTED = documented.REQUEST | {"images": {"kind": "batch", "digest": "sha256:" + "0" * 64}}


def test_documented_request_is_accepted_and_survives_a_round_trip() -> None:
    request = AuditRequest.model_validate_json(json.dumps(DOCUMENTED))
    assert isinstance(request.plan, AuditPlan)
    assert request.plan.explainers == (Gradient(), IntegratedGradients(steps=50, baseline="mean"))
    assert AuditRequest.model_validate_json(canonical_json(request)) == request
    check_model(request.model, AccessRules())


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("model", "kind"), "oracle", "oracle"),
        (("plan", "explainers", 0, "kind"), "tarot", "tarot"),
        (("plan", "checks", 1, "grid"), 1, "greater than or equal to 2"),
        (("plan", "checks", 2, "keep"), [1.5], "less than 1"),
        (("plan", "checks", 2, "keep"), [0.15, 0.15], "the same"),
        (("plan", "checks", 0, "augmentations", 1, "interval"), [5, 20], "contain the identity"),
        (("plan", "checks", 0, "augmentations", 0, "interval"), [-0.3, 3], "inside"),
        (("plan", "sede"), 1, "Extra inputs"),
        (("images", "digest"), "sha256:xyz", "pattern"),
        (("model", "preprocessing", "std"), [0.5, 0, 0.5], "above 0"),
        (("model", "preprocessing", "resize"), 100, "at least crop"),
        (("plan", "seed"), 2**53, "less than"),
        (("plan", "top_n"), 2, "explain several classes with target 'top'"),
        (("plan", "checks", 1, "name"), "explainer", "give it another `name`"),
        (("plan", "checks", 1, "name"), "originals", "give it another `name`"),
        (("plan", "checks", 1, "name"), "measure", "give it another `name`"),
    ],
)
def test_wrong_field_is_refused_and_named(path: tuple[str | int, ...], value: Any, named: str) -> None:
    request = json.loads(json.dumps(DOCUMENTED))
    place = request
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(ValidationError) as caught:
        AuditRequest.model_validate(request)
    assert named in str(caught.value)
    assert str(path[0]) in {str(part) for error in caught.value.errors() for part in error["loc"]}


def test_two_entries_of_one_kind_need_names() -> None:
    with pytest.raises(ValidationError, match="give one of them a `name`"):
        AuditPlan(explainers=(Gradient(), Gradient()), checks=(EddaCheck(),))
    plan = AuditPlan(explainers=(Gradient(), Gradient(name="again")), checks=(EddaCheck(),))
    assert [explainer.label for explainer in plan.explainers] == ["gradient", "again"]


def test_a_check_runs_on_explainers_of_the_plan() -> None:
    with pytest.raises(ValidationError, match=r"'edda' runs on explainer 'grad_cam', .* use names of: gradient, again"):
        AuditPlan(explainers=(Gradient(), Gradient(name="again")), checks=(EddaCheck(explainers=("grad_cam",)),))
    with pytest.raises(ValidationError, match="'gradient' is listed twice"):
        EddaCheck(explainers=("gradient", "gradient"))
    with pytest.raises(ValidationError, match="at least 1"):
        EddaCheck(explainers=())
    plan = AuditPlan(explainers=(Gradient(), Gradient(name="again")), checks=(EddaCheck(explainers=("again",)),))
    assert [plan.checks[0].runs_on(explainer.label) for explainer in plan.explainers] == [False, True]


def test_no_condition_can_ask_for_an_explainer_that_a_check_does_not_run_on() -> None:
    plan = AuditPlan(explainers=(Gradient(), Gradient(name="again")), checks=(DeletionCheck(explainers=("again",)),))
    wanted = Condition(check="deletion", explainer="gradient", metric="srg", at_least=0)
    with pytest.raises(InvalidRequest, match="explainer 'gradient' is not part of this audit; use one of: again"):
        validate_policy((wanted,), plan)
    validate_policy((wanted.model_copy(update={"explainer": "again"}),), plan)


def test_the_name_of_the_control_is_reserved() -> None:
    with pytest.raises(ValidationError, match="kind random"):
        AuditPlan(explainers=(Gradient(name="random"),), checks=(EddaCheck(),))
    AuditPlan(explainers=(Random(), Random(name="noise"), Gradient()), checks=(EddaCheck(),))


def test_augmentation_may_be_listed_once() -> None:
    with pytest.raises(ValidationError, match="rotate is listed twice"):
        SweepCheck(augmentations=(Rotate(), Rotate(interval=(-1, 1))))


def test_several_classes_are_explained_where_the_target_is_top() -> None:
    assert AuditPlan(target="top", top_n=3, explainers=(Gradient(),), checks=(EddaCheck(),)).top_n == 3


@pytest.mark.parametrize("entry", [{"uri": "file:///a.png"}, {"data": "YQ=="}])
def test_a_class_is_listed_once(entry: dict[str, str]) -> None:
    contract = ImageUri if "uri" in entry else InlineImage
    with pytest.raises(ValidationError, match=r"a class is listed twice in \[3, 1, 3\]"):
        contract.model_validate(entry | {"label": [3, 1, 3]})
    assert contract.model_validate(entry | {"label": [3, 1]}).label == (3, 1)
    assert contract.model_validate(entry | {"label": 3}).label == 3


def test_contracts_are_frozen_and_finite() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Gradient().name = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="finite"):
        Brightness(interval=(float("nan"), 0.3))


@pytest.mark.parametrize("preset", ["quick", "standard"])
def test_preset_resolves_to_a_plan_in_full(preset: str) -> None:
    plan = resolve_plan(PresetPlan.model_validate({"preset": preset, "seed": 3}))
    assert plan.seed == 3
    assert any(isinstance(explainer, Random) for explainer in plan.explainers)
    assert AuditPlan.model_validate_json(plan.model_dump_json()) == plan


def test_unknown_preset_is_refused() -> None:
    with pytest.raises(
        ValidationError,
        match="'quick', 'standard', 'tetkova2023', 'erdem2021', 'won2023', 'li2021', 'arun2021' or 'saporta2022'",
    ):
        AuditRequest.model_validate({**DOCUMENTED, "plan": {"preset": "thorough"}})


def test_automatic_intervals_need_a_measuring_wave() -> None:
    assert waves_of(standard_plan()) == ("measure", "compute")
    assert waves_of(quick_plan()) == ("compute",)
    assert passes_of(standard_plan()) == passes_of(standard_plan(), wave="measure") + passes_of(
        standard_plan(), wave="compute"
    )
    assert passes_of(standard_plan()) > passes_of(quick_plan()) > 0
    # every class is explained and checked by itself; shared are the prediction and the two images of one color
    thrice = quick_plan().model_copy(update={"target": "top", "top_n": 3})
    assert passes_of(thrice) - 3 == pytest.approx(3 * (passes_of(quick_plan()) - 2), abs=2)


def test_passes_are_estimated_from_the_plan() -> None:
    plan = AuditPlan(
        explainers=(Gradient(), IntegratedGradients(steps=10), SmoothGrad(samples=5), Random()),
        checks=(SweepCheck(augmentations=(Rotate(), Scale()), levels=7), DeletionCheck(grid=4, repeats=3), EddaCheck()),
    )
    assert passes_of(plan, wave="measure") == 1 + 2 * 10 * 2
    # the gradient is the prediction and the probability curve too; black and the mean color are passed once
    maps = 2.3 * (1 + 10 + 5)
    checks = 2 * 6 * maps + 15 * (2 * 4 + 3) + 2 * 3 * 4
    smoothgrad_again = 2.3 * 5
    assert passes_of(plan, wave="compute") == round(maps + 2 + smoothgrad_again + checks)


def test_scale_intervals_surround_one() -> None:
    with pytest.raises(ValidationError, match="identity 1"):
        Scale(interval=(-0.2, 0.2))
    assert Scale(interval=(0.8, 1.2)).identity == 1


def test_every_check_has_metrics_with_meaning() -> None:
    assert {*CHECK_OF_KIND, "explainer"} == set(METRICS)
    assert all(metric.meaning.endswith(".") for metrics in METRICS.values() for metric in metrics.values())


def test_every_explainer_and_augmentation_names_its_source() -> None:
    for member in get_args(get_args(Explainer)[0]):
        assert member.__doc__
        assert member.paper
    assert {augmentation.kind for augmentation in all_augmentations()} == {
        "brightness", "hue", "saturation", "rotate", "translate", "scale",
    }  # fmt: skip


# --- policy ---------------------------------------------------------------------------------------

PLAN = AuditPlan(explainers=(Gradient(),), checks=(SweepCheck(augmentations=(Rotate(),)), EddaCheck(keep=(0.15,))))


def test_condition_on_a_result_of_the_plan_is_accepted() -> None:
    validate_policy(
        (
            Condition(check="sweep", explainer="gradient", metric="s_pearson", variant="rotate", at_least=0.8),
            Condition(check="sweep", metric="prediction_flip_rate", variant="rotate", at_most=0.1),
            Condition(check="edda", explainer="gradient", metric="sufficiency", variant="top_15", at_least=-0.5),
        ),
        PLAN,
    )


@pytest.mark.parametrize(
    ("change", "field", "offered"),
    [
        ({"check": "deletion"}, "policy.0.check", "sweep, edda"),
        ({"explainer": "grad_cam"}, "policy.0.explainer", "gradient"),
        ({"explainer": None}, "policy.0.explainer", "gradient"),
        ({"metric": "pearson"}, "policy.0.metric", "s_pearson"),
        ({"metric": "top_k_chance"}, "policy.0.metric", "s_pearson"),
        ({"variant": "hue"}, "policy.0.variant", "rotate"),
        ({"variant": None}, "policy.0.variant", "rotate"),
        ({"metric": "probability_score"}, "policy.0.explainer", "null"),
    ],
)
def test_condition_that_can_never_be_met_is_refused(change: dict[str, Any], field: str, offered: str) -> None:
    right = {"check": "sweep", "explainer": "gradient", "metric": "s_pearson", "variant": "rotate", "at_least": 0.8}
    with pytest.raises(InvalidRequest, match=offered) as caught:
        validate_policy((Condition.model_validate(right | change),), PLAN)
    assert caught.value.field == field


def test_variant_of_a_metric_without_variants_is_refused() -> None:
    plan = AuditPlan(explainers=(Gradient(),), checks=(DeletionCheck(),))
    condition = Condition(check="deletion", explainer="gradient", metric="srg", variant="top_15", at_least=0)
    with pytest.raises(InvalidRequest, match="null") as caught:
        validate_policy((condition,), plan)
    assert caught.value.field == "policy.0.variant"


@pytest.mark.parametrize("thresholds", [{}, {"at_least": 0.1, "at_most": 0.2}])
def test_condition_has_exactly_one_threshold(thresholds: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="exactly one"):
        Condition.model_validate({"check": "edda", "metric": "sufficiency", **thresholds})


def test_a_game_that_is_not_in_the_plan_has_no_condition() -> None:
    check = InsertionDeletionCheck(games=("insertion_blur", "deletion_zero"))
    plan = AuditPlan(explainers=(Gradient(),), checks=(check,))

    def condition(game: str) -> Condition:
        return Condition(check="insertion_deletion", explainer="gradient", metric=game, at_least=0)

    validate_policy((condition("insertion_blur"), condition("deletion_zero")), plan)
    validate_policy((condition("insertion_blur_accuracy"),), plan)
    offered = r"use one of: insertion_blur, insertion_blur_accuracy, deletion_zero, deletion_zero_accuracy$"
    with pytest.raises(InvalidRequest, match=offered) as caught:
        validate_policy((condition("insertion_blur"), condition("insertion_zero")), plan)
    assert caught.value.field == "policy.1.metric"


def test_accuracy_of_adaptive_curves_has_no_condition() -> None:
    check = InsertionDeletionCheck(games=("insertion_blur", "deletion_zero"), curve="adaptive")
    plan = AuditPlan(explainers=(Gradient(),), checks=(check,))
    condition = Condition(check="insertion_deletion", explainer="gradient", metric="insertion_blur", at_least=0)
    validate_policy((condition,), plan)
    with pytest.raises(InvalidRequest, match=r"use one of: insertion_blur, deletion_zero$"):
        validate_policy((condition.model_copy(update={"metric": "insertion_blur_accuracy"}),), plan)


def test_a_miss_fails_by_default() -> None:
    assert Condition(check="edda", metric="sufficiency", at_least=0).severity == "fail"


def test_variants_follow_the_check() -> None:
    assert SweepCheck(augmentations=(Rotate(), Brightness())).variants_of("s_pearson") == (
        "rotate",
        "brightness",
        "mean",
    )
    assert SweepCheck(augmentations=(Rotate(), Brightness())).variants_of("pearson_score") == ("rotate", "brightness")
    assert SweepCheck(augmentations=(Rotate(),)).variants_of("s_pearson") == ("rotate",)
    edda = EddaCheck(keep=(0.15, 0.125), thresholds=(0.5, 0.25))
    assert edda.variants_of("sufficiency") == ("top_15", "top_12.5", "tau_0.5", "tau_0.25")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": (), "thresholds": ()}, "at least one share in keep or one of thresholds"),
        ({"keep": (0.15, 0.15)}, "two shares in keep are the same"),
        ({"thresholds": (0.5, 0.5)}, "two thresholds are the same"),
        ({"thresholds": (0.0,)}, "greater than or equal to 0.001"),
        ({"thresholds": (1.0,)}, "less than or equal to 0.999"),
        ({"min_probability": 0.0}, "greater than or equal to 0.00000001"),
        ({"color": "blur"}, "'black' or 'mean'"),
    ],
)
def test_masks_that_mean_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EddaCheck.model_validate(settings)


# --- access ---------------------------------------------------------------------------------------


def factory(target: str = "efficientnet_lite_pytorch:EfficientNet.from_name", uri: str = "random:1") -> FactoryModel:
    return FactoryModel(target=target, weights=Weights(uri=uri), preprocessing=Preprocessing())


def test_nothing_but_the_demo_is_allowed_by_default() -> None:
    rules = AccessRules()
    check_model(DemoModel(), rules)
    check_model(DemoModel().as_factory(), rules)
    for refused in (
        factory("os:system"),
        factory(uri="file:///etc/passwd"),
        factory(uri="https://models.example/weights.pth"),
        factory(uri="package:torch/version.py"),
        factory(uri="ftp://models.example/weights.pth"),
        factory(uri="/weights.pth"),
    ):
        with pytest.raises(UnsafeReference):
            check_model(refused, rules)


@pytest.mark.parametrize("suffix", ["pkl", "pickle"])
def test_formats_that_can_run_code_are_refused(suffix: str, tmp_path: Path) -> None:
    rules = AccessRules(file_roots=(tmp_path,))
    with pytest.raises(UnsafeReference, match="can run code"):
        check_model(factory(uri=(tmp_path / f"model.{suffix}").as_uri()), rules)


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [("mar", "mar"), ("pt2", "torch_export"), ("torchscript", "torchscript"), ("onnx", "onnx")],
)
def test_files_without_weights_are_refused_and_their_own_kind_is_named(suffix: str, kind: str, tmp_path: Path) -> None:
    rules = AccessRules(file_roots=(tmp_path,))
    with pytest.raises(UnsafeReference, match=f"a model of kind '{kind}'"):
        check_model(factory(uri=(tmp_path / f"model.{suffix}").as_uri()), rules)


def test_links_and_dots_do_not_lead_out_of_a_root(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    secret = tmp_path / "secret.pth"
    secret.touch()
    (inside / "link.pth").symlink_to(secret)
    rules = AccessRules(file_roots=(inside,))
    rules.check_uri((inside / "good.pth").as_uri(), field="x")
    for escape in (inside / "link.pth", inside / ".." / "secret.pth"):
        with pytest.raises(UnsafeReference, match="outside the allowed folders"):
            rules.check_uri(f"file://{escape}", field="x")
    with pytest.raises(UnsafeReference, match="outside"):
        rules.check_uri(f"file://{inside}/%2e%2e/secret.pth", field="x")


@pytest.mark.parametrize(
    "uri",
    [
        "https://models.example.evil/a.pth",
        "https://models.example/../private/a.pth",
        "https://models.example/public/%2e%2e/private/a.pth",
        "https://user:password@models.example/public/a.pth",
        "http://models.example/public/a.pth",
    ],
)
def test_only_allowed_prefixes_are_fetched(uri: str) -> None:
    rules = AccessRules(https_prefixes=("https://models.example/public/",))
    rules.check_uri("https://models.example/public/a.pth", field="x")
    with pytest.raises(UnsafeReference) as caught:
        rules.check_uri(uri, field="model.weights.uri")
    assert caught.value.field == "model.weights.uri"


def test_https_prefix_must_end_a_path_segment() -> None:
    with pytest.raises(ValidationError, match="end in /"):
        AccessRules(https_prefixes=("https://models.example",))


def test_digest_does_not_depend_on_the_order_of_keys() -> None:
    shuffled = dict(reversed(list(DOCUMENTED.items())))
    assert digest_of(shuffled) == digest_of(DOCUMENTED)
    assert digest_of({**DOCUMENTED, "plan": {"preset": "quick"}}) != digest_of(DOCUMENTED)
