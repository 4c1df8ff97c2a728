"""Methods of captum by class name: which arguments each takes, what it needs, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, final

from pydantic import Field, JsonValue, model_validator

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
    feature_count,
    refuse_arguments,
)
from auditcore.contracts.explainers.cam import GradCam, GuidedGradCam
from auditcore.contracts.explainers.deep_lift import DeepLift
from auditcore.contracts.explainers.explainer import ExplainerContract, MapKind, Need
from auditcore.contracts.explainers.foreign import LibraryExplainer
from auditcore.contracts.explainers.gradient import Gradient, InputXGradient, IntegratedGradients, Saliency
from auditcore.contracts.explainers.occlusion import Occlusion
from auditcore.contracts.explainers.rectifiers import Deconvolution, GuidedBackpropagation
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import GRADIENT, LOGITS, Passes

_CHANNELS = 3
"""Of a photo; what a price assumes before a model is known."""

_MOST_STEPS = 1000
_MOST_SAMPLES = 200
"""Of methods that pass all samples of an image at once."""

Arguments = Mapping[str, Any]


@final
@dataclass(frozen=True)
class CaptumMethod:
    """What is known of one method of captum.

    Attributes:
        map_kind: What the sign of its maps says; None for that of the method that it averages.
        passes: (arguments, shape of the input) -> passes of one map, as hooks on the model count them.
        arguments: Arguments that a request may set, by captum's names, with the values that they may have.
        required: Those without a default.
        needs: What the model must offer.
        takes_layer: Whether it works on a layer.
        draws: Whether it draws random numbers.
        steps: Argument that says how many copies of an image pass at once, with captum's default.
        perturbs: Whether it passes changed copies, `perturbations_per_eval` at once.
    """

    map_kind: MapKind | None
    passes: Callable[[Arguments, InputShape], Passes]
    arguments: Mapping[str, Form] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    needs: frozenset[Need] = frozenset({"gradient"})
    takes_layer: bool = False
    draws: bool = False
    steps: tuple[str, int] | None = None
    perturbs: bool = False


def _number(arguments: Arguments, name: str, default: int) -> int:
    value = arguments.get(name, default)
    return value if isinstance(value, int) else default


def _each(passes: Passes, name: str, default: int) -> Callable[[Arguments, InputShape], Passes]:
    """The same passes for each of a number of steps or samples."""
    return lambda arguments, _: passes.times(_number(arguments, name, default))


def _once(passes: Passes) -> Callable[[Arguments, InputShape], Passes]:
    return lambda _arguments, _shape: passes


def _features(arguments: Arguments, shape: InputShape) -> int:
    """Features of a perturbation method: every value of the image without a mask, as in captum."""
    grid = arguments.get("feature_mask")
    return math.prod(shape) if grid is None else feature_count(grid)


def _windows(arguments: Arguments, shape: InputShape) -> int:
    """Windows of captum's Occlusion; the last one along an axis is cut at the border."""
    window = _triple(arguments["sliding_window_shapes"])
    stride = _triple(arguments.get("strides", 1))
    count = 1
    for length, size, step in zip(shape, window, stride, strict=True):
        count *= 1 + max(0, -(-(length - size) // step))
    return count


def _triple(value: object) -> tuple[int, ...]:
    if isinstance(value, list):
        return tuple(int(each) for each in value if isinstance(each, int))
    return (value if isinstance(value, int) else 1,) * 3


def _tunnel(arguments: Arguments, shape: InputShape) -> Passes:
    inner = METHODS[tunneled(arguments)]
    return inner.passes(arguments, shape).times(_number(arguments, "nt_samples", 5))


def tunneled(arguments: Arguments) -> str:
    """Class of the method that a NoiseTunnel averages."""
    return str(arguments.get("attribution_method", "Saliency"))


_BASELINE: Mapping[str, Form] = {"baselines": ImageValues()}
_PATH: Mapping[str, Form] = {
    **_BASELINE,
    "n_steps": Whole(1, _MOST_STEPS),
    "method": Choice(("gausslegendre", "riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid")),
}
_MULTIPLIES: Mapping[str, Form] = {"multiply_by_inputs": Flag()}
_OF_INPUT = "attribute_to_layer_input"
_OF_LAYER: Mapping[str, Form] = {
    _OF_INPUT: Flag(),
    "interpolate_mode": Choice(("nearest", "bilinear", "bicubic")),
}
_MASKED: Mapping[str, Form] = {**_BASELINE, "feature_mask": FeatureGrid()}
_FORWARD: frozenset[Need] = frozenset({"forward"})
_MODULES: frozenset[Need] = frozenset({"gradient", "modules"})
_LAYER: frozenset[Need] = frozenset({"gradient", "layer"})
_TUNNELED = ("Saliency", "InputXGradient", "IntegratedGradients", "DeepLift", "GuidedBackprop", "Deconvolution")

METHODS: Mapping[str, CaptumMethod] = {
    "Saliency": CaptumMethod("sensitivity", _once(GRADIENT), {"abs": Flag()}),
    "InputXGradient": CaptumMethod("attribution", _once(GRADIENT)),
    "IntegratedGradients": CaptumMethod(
        "attribution", _each(GRADIENT, "n_steps", 50), {**_PATH, **_MULTIPLIES}, steps=("n_steps", 50)
    ),
    "GradientShap": CaptumMethod(
        "attribution",
        _each(GRADIENT, "n_samples", 5),
        {
            "baselines": ImageList(64),
            "n_samples": Whole(1, _MOST_SAMPLES),
            "stdevs": Number(0, 10),
            **_MULTIPLIES,
        },
        required=frozenset({"baselines"}),
        draws=True,
    ),
    "DeepLift": CaptumMethod(
        "attribution",
        _once(GRADIENT.times(2)),
        {**_BASELINE, **_MULTIPLIES, "eps": Number(0, 1)},
        needs=_MODULES,
        steps=("", 2),
    ),
    "DeepLiftShap": CaptumMethod(
        "attribution",
        lambda arguments, _: GRADIENT.times(2 * len(_listed(arguments["baselines"]))),
        {"baselines": ImageList(64), **_MULTIPLIES},
        required=frozenset({"baselines"}),
        needs=_MODULES,
    ),
    "GuidedBackprop": CaptumMethod("sensitivity", _once(GRADIENT), needs=_MODULES),
    "Deconvolution": CaptumMethod("sensitivity", _once(GRADIENT), needs=_MODULES),
    "GuidedGradCam": CaptumMethod(
        "sensitivity", _once(GRADIENT.times(2)), _OF_LAYER, needs=_MODULES | _LAYER, takes_layer=True
    ),
    "LRP": CaptumMethod("attribution", _once(LOGITS.plus(GRADIENT)), needs=_MODULES),
    "FeatureAblation": CaptumMethod(
        "region",
        lambda arguments, shape: LOGITS.times(1 + _features(arguments, shape)),
        _MASKED,
        needs=_FORWARD,
        perturbs=True,
    ),
    "Occlusion": CaptumMethod(
        "region",
        lambda arguments, shape: LOGITS.times(1 + _windows(arguments, shape)),
        {**_BASELINE, "sliding_window_shapes": Window(), "strides": Window(single=True)},
        required=frozenset({"sliding_window_shapes"}),
        needs=_FORWARD,
        perturbs=True,
    ),
    "ShapleyValueSampling": CaptumMethod(
        "region",
        lambda arguments, shape: LOGITS.times(1 + _features(arguments, shape) * _number(arguments, "n_samples", 25)),
        {**_MASKED, "n_samples": Whole(1, _MOST_STEPS)},
        needs=_FORWARD,
        draws=True,
        perturbs=True,
    ),
    "Lime": CaptumMethod(
        "region",
        _each(LOGITS, "n_samples", 25),
        {**_MASKED, "n_samples": Whole(2, 100_000)},
        needs=_FORWARD,
        draws=True,
        perturbs=True,
    ),
    "KernelShap": CaptumMethod(
        "region",
        _each(LOGITS, "n_samples", 25),
        {**_MASKED, "n_samples": Whole(2, 100_000)},
        needs=_FORWARD,
        draws=True,
        perturbs=True,
    ),
    "NoiseTunnel": CaptumMethod(
        None,
        _tunnel,
        {
            "attribution_method": Choice(_TUNNELED),
            "nt_type": Choice(("smoothgrad", "smoothgrad_sq", "vargrad")),
            "nt_samples": Whole(1, _MOST_SAMPLES),
            "stdevs": Number(0, 10),
        },
        draws=True,
    ),
    "LayerGradCam": CaptumMethod(
        "region",
        _once(GRADIENT),
        {**_OF_LAYER, "relu_attributions": Flag()},
        needs=_LAYER,
        takes_layer=True,
    ),
    "LayerGradientXActivation": CaptumMethod(
        "region", _once(GRADIENT), {**_OF_LAYER, **_MULTIPLIES}, needs=_LAYER, takes_layer=True
    ),
    "LayerActivation": CaptumMethod("region", _once(LOGITS), _OF_LAYER, needs=_LAYER, takes_layer=True),
    "LayerIntegratedGradients": CaptumMethod(
        "region",
        lambda arguments, _: GRADIENT.times(_number(arguments, "n_steps", 50)).plus(LOGITS.times(2)),
        {**_PATH, **_OF_LAYER, **_MULTIPLIES},
        needs=_LAYER,
        takes_layer=True,
        steps=("n_steps", 50),
    ),
    "LayerConductance": CaptumMethod(
        "region",
        lambda arguments, _: GRADIENT.times(1 + _number(arguments, "n_steps", 50)),
        {**_PATH, **_OF_LAYER},
        needs=_LAYER,
        takes_layer=True,
        steps=("n_steps", 50),
    ),
    "InternalInfluence": CaptumMethod(
        "region",
        _each(GRADIENT, "n_steps", 50),
        {**_PATH, **_OF_LAYER},
        needs=_LAYER,
        takes_layer=True,
        steps=("n_steps", 50),
    ),
    "LayerDeepLift": CaptumMethod(
        "region",
        _once(GRADIENT.times(2)),
        {**_BASELINE, **_OF_LAYER, **_MULTIPLIES},
        needs=_MODULES | _LAYER,
        takes_layer=True,
        steps=("", 2),
    ),
}
"""Class in `captum.attr` -> what is known of it.

Left out are methods that mix the images of a batch (FeaturePermutation), that need 2^n passes (ShapleyValues), that
explain a neuron instead of a class, and those for language models. Arguments that take code are left out too.
"""


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


@final
class Captum(LibraryExplainer):
    """A method of captum, with captum's own code and defaults.

    Each report states how far the map is from auditcore's own map by the same method, where there is one. The maps of
    a method of a layer are summed over channels and enlarged with `interpolate_mode`, which is `nearest` by default as
    in `LayerAttribution.interpolate`. Methods that draw random numbers run image by image, each image from its own
    stream, so that their maps do not depend on the batch.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient"})
    paper: ClassVar[str] = "Kokhlikyan et al. 2020"
    default_map_kind: ClassVar[MapKind | None] = None
    kind: Literal["captum"] = "captum"
    method: Literal[
        "Saliency",
        "InputXGradient",
        "IntegratedGradients",
        "GradientShap",
        "DeepLift",
        "DeepLiftShap",
        "GuidedBackprop",
        "Deconvolution",
        "GuidedGradCam",
        "LRP",
        "FeatureAblation",
        "Occlusion",
        "ShapleyValueSampling",
        "Lime",
        "KernelShap",
        "NoiseTunnel",
        "LayerGradCam",
        "LayerGradientXActivation",
        "LayerActivation",
        "LayerIntegratedGradients",
        "LayerConductance",
        "InternalInfluence",
        "LayerDeepLift",
    ] = Field(description="Name of the class in `captum.attr`.")
    layer: str | None = Field(
        default=None,
        max_length=256,
        description="Module path for methods of a layer; if null, chosen as for grad_cam. The report names the layer.",
    )
    arguments: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Arguments of the class and of its `attribute` by captum's names; captum's defaults where left "
        "out. Images such as `baselines` are in normalized space: a number, a list with one per channel, or nested "
        "lists (C,H,W); GradientShap and DeepLiftShap take a list of images. `feature_mask` is rows of feature "
        "numbers, as many as the image is cut into. NoiseTunnel names its method in `attribution_method` and takes "
        "that method's arguments too.",
    )

    @model_validator(mode="after")
    def _arguments_fit_the_method(self) -> Captum:
        known = self.known
        refuse_arguments(f"captum's {self.method}", self.arguments, self.forms)
        missing = sorted(known.required - set(self.arguments))
        if missing:
            msg = f"arguments: captum's {self.method} has no default for {missing[0]!r}; give it"
            raise ValueError(msg)
        if self.layer is not None and not known.takes_layer:
            msg = f"layer: captum's {self.method} works on no layer; leave `layer` out"
            raise ValueError(msg)
        return self

    @property
    def known(self) -> CaptumMethod:
        """What is known of the method."""
        return METHODS[self.method]

    @property
    def forms(self) -> Mapping[str, Form]:
        """Values that its arguments may have."""
        if self.method != "NoiseTunnel":
            return self.known.arguments
        inner = METHODS.get(tunneled(self.arguments))
        return {**self.known.arguments, **(inner.arguments if inner else {})}

    @property
    def needs_of_model(self) -> frozenset[Need]:
        """By method."""
        return METHODS[tunneled(self.arguments)].needs if self.method == "NoiseTunnel" else self.known.needs

    @property
    def stochastic(self) -> bool:
        """By method."""
        return self.known.draws

    @property
    def kind_of_map(self) -> MapKind:
        """By method; that of the averaged method for a NoiseTunnel."""
        return self.known.map_kind or METHODS[tunneled(self.arguments)].map_kind or "attribution"

    def library_passes(self, *, shape: InputShape) -> Passes:
        """Passes of one map by captum."""
        return self.known.passes(self.arguments, shape)

    @property
    def counterpart(self) -> ExplainerContract | None:
        """Own method of auditcore where it has one with these parameters."""
        given = self.arguments
        # captum's default is 0 in normalized space, which is the mean color
        if given.get("baselines", 0) != 0 or given.get("multiply_by_inputs") is False:
            return None
        own = _COUNTERPARTS.get(self.method)
        return None if own is None else own(given, self.layer)


def _path(arguments: Arguments) -> ExplainerContract | None:
    steps = _number(arguments, "n_steps", 50)
    return IntegratedGradients(steps=steps, baseline="mean") if steps > 1 else None


def _occlusion(arguments: Arguments) -> ExplainerContract | None:
    """Our windows cover all channels and are square."""
    channels, height, width = _triple(arguments["sliding_window_shapes"])
    _, down, right = _triple(arguments.get("strides", 1))
    if channels < _CHANNELS or height != width or down != right:
        return None
    return Occlusion(window=height, stride=down, baseline="mean")


_COUNTERPARTS: Mapping[str, Callable[[Arguments, str | None], ExplainerContract | None]] = {
    "Saliency": lambda arguments, _: Saliency() if arguments.get("abs", True) else Gradient(),
    "InputXGradient": lambda _arguments, _layer: InputXGradient(),
    "IntegratedGradients": lambda arguments, _: _path(arguments),
    "DeepLift": lambda _arguments, _layer: DeepLift(baseline="mean"),
    "GuidedBackprop": lambda _arguments, _layer: GuidedBackpropagation(),
    "Deconvolution": lambda _arguments, _layer: Deconvolution(),
    "GuidedGradCam": lambda given, layer: None if given.get(_OF_INPUT) else GuidedGradCam(layer=layer),
    "LayerGradCam": lambda given, layer: None if given.get(_OF_INPUT) else GradCam(layer=layer),
    "Occlusion": lambda arguments, _: _occlusion(arguments),
}
"""Class -> (arguments, layer) -> auditcore's own method with the same parameters, or None."""
