"""Which JSON values arguments of other libraries may have, and what a wrong one is told."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from auditcore.contracts.explainers import CallableExplainer, Captum, Zennit
from auditcore.contracts.explainers.argument_forms import (
    Choice,
    FeatureGrid,
    Flag,
    Form,
    ImageList,
    ImageValues,
    Number,
    Whole,
    Window,
    Words,
    shape_of,
)
from auditcore.contracts.input_shape import InputShape

RIGHT: list[tuple[Form, Any]] = [
    (Flag(), True),
    (Choice(("a", "b")), "b"),
    (Whole(1, 5), 5),
    (Number(0, 1), 0.5),
    (Number(0, 1), 1),
    (Words(("weight", "bias")), ["bias"]),
    (ImageValues(), -1.5),
    (ImageValues(), [0.1, 0.2, 0.3]),
    (ImageValues(), [[[1, 2]], [[3, 4]]]),
    (ImageList(2), [0, [1, 2, 3]]),
    (Window(), [3, 8, 8]),
    (Window(single=True), 4),
    (FeatureGrid(), [[0, 1], [2, 0]]),
]
WRONG: list[tuple[Form, Any]] = [
    (Flag(), 1),
    (Flag(), "true"),
    (Choice(("a", "b")), "c"),
    (Whole(1, 5), 6),
    (Whole(1, 5), 0),
    (Whole(1, 5), 2.0),
    (Whole(0, 5), True),
    (Number(0, 1), float("nan")),
    (Number(0, 1), "0.5"),
    (Number(0, 1), 1.01),
    (Words(("weight", "bias")), "bias"),
    (Words(("weight", "bias")), ["gamma"]),
    (ImageValues(), float("inf")),
    (ImageValues(), [[1.0], [2.0]]),
    (ImageValues(), [[[1, 2]], [[3]]]),
    (ImageValues(), []),
    (ImageList(2), 0),
    (ImageList(2), [0, 1, 2]),
    (Window(), 8),
    (Window(), [3, 0, 8]),
    (Window(), [8, 8]),
    (FeatureGrid(), [[0, 2], [2, 0]]),
    (FeatureGrid(), [[0, 1], [0]]),
    (FeatureGrid(), [[0.0, 1.0]]),
]


@pytest.mark.parametrize(("form", "value"), RIGHT, ids=repr)
def test_right_values_have_no_problem(form: Form, value: Any) -> None:
    assert form.problem(value) is None


@pytest.mark.parametrize(("form", "value"), WRONG, ids=repr)
def test_wrong_values_are_told_what_is_right(form: Form, value: Any) -> None:
    assert form.problem(value)


def test_the_shape_of_nested_lists() -> None:
    assert shape_of(1.5) == ()
    assert shape_of([[1, 2, 3], [4, 5, 6]]) == (2, 3)
    assert shape_of([1, [2]]) is None
    assert shape_of("text") is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kind": "captum", "method": "Saliency", "arguments": {"path": "/etc/passwd"}}, "'path'.*it takes abs"),
        ({"kind": "captum", "method": "InputXGradient", "arguments": {"abs": True}}, "it takes none"),
        ({"kind": "captum", "method": "Saliency", "arguments": {"abs": 1}}, r"arguments\.abs.*true or false, got 1"),
        ({"kind": "captum", "method": "Occlusion"}, "no default for 'sliding_window_shapes'"),
        ({"kind": "captum", "method": "GradientShap"}, "no default for 'baselines'"),
        ({"kind": "captum", "method": "Saliency", "layer": "stem"}, "works on no layer"),
        ({"kind": "captum", "method": "os.system"}, "Input should be"),
        ({"kind": "captum", "method": "NoiseTunnel", "arguments": {"n_steps": 3}}, "no argument 'n_steps'"),
        ({"kind": "zennit", "composite": "EpsilonPlusFlat", "arguments": {"epsilon": 0}}, "arguments.epsilon"),
        ({"kind": "zennit", "composite": "EpsilonPlusFlat", "arguments": {"layer_map": []}}, "it takes epsilon"),
        ({"kind": "zennit", "composite": "EpsilonPlusFlat", "canonizer": "os.system"}, "Input should be"),
        ({"kind": "callable", "target": "hospital/heatmaps.py"}, "String should match"),
        ({"kind": "callable", "target": "a:b", "arguments": {"targets": 1}}, "'targets' is no name"),
        ({"kind": "callable", "target": "a:b", "arguments": {"x": float("nan")}}, "finite number"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_wrong_with_a_request_is_said(entry: dict[str, Any], message: str) -> None:
    kind = {"captum": Captum, "zennit": Zennit, "callable": CallableExplainer}[entry["kind"]]
    with pytest.raises(ValidationError, match=message):
        kind.model_validate(entry)


def test_a_tunnel_takes_the_arguments_of_its_method() -> None:
    tunnel = Captum(
        method="NoiseTunnel", arguments={"attribution_method": "IntegratedGradients", "n_steps": 4, "nt_samples": 3}
    )
    assert tunnel.own_passes(original=True, shape=InputShape(3, 32, 32))[:2] == (12, 12)
    assert tunnel.kind_of_map == "attribution"


def test_entries_with_lists_are_keys_by_their_content() -> None:
    one = Captum(method="IntegratedGradients", arguments={"baselines": [0.1, 0.2, 0.3]})
    same = Captum.model_validate_json(one.model_dump_json())
    other = Captum(method="IntegratedGradients", arguments={"baselines": [0.1, 0.2, 0.4]})
    assert {one: "found"}[same] == "found"
    assert other not in {one: "found"}
