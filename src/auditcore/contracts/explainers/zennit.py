"""Composites of zennit by class name: which arguments each takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, final

from pydantic import Field, JsonValue, model_validator

from auditcore.contracts.explainers.argument_forms import Form, ImageValues, Number, Words, refuse_arguments
from auditcore.contracts.explainers.explainer import ExplainerContract, MapKind, Need
from auditcore.contracts.explainers.foreign import LibraryExplainer
from auditcore.contracts.explainers.lrp import LrpEpsilonAlpha2Beta1Flat, LrpEpsilonGammaBox, LrpEpsilonPlusFlat
from auditcore.contracts.explainers.rectifiers import Deconvolution, GuidedBackpropagation
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import GRADIENT, RELEVANCE, Passes


@final
@dataclass(frozen=True)
class ZennitComposite:
    """What is known of one composite of zennit.

    Attributes:
        map_kind: What the sign of its maps says.
        arguments: Arguments that a request may set, by zennit's names, with the values that they may have.
        passes: Passes of one map.
    """

    map_kind: MapKind
    arguments: Mapping[str, Form] = field(default_factory=dict)
    passes: Passes = RELEVANCE


_STABLE: Mapping[str, Form] = {"stabilizer": Number(1e-12, 1), "zero_params": Words(("weight", "bias"))}
_EPSILON: Mapping[str, Form] = {"epsilon": Number(1e-12, 10), **_STABLE}

COMPOSITES: Mapping[str, ZennitComposite] = {
    "EpsilonPlus": ZennitComposite("region", _EPSILON),
    "EpsilonPlusFlat": ZennitComposite("region", _EPSILON),
    "EpsilonAlpha2Beta1": ZennitComposite("attribution", _EPSILON),
    "EpsilonAlpha2Beta1Flat": ZennitComposite("attribution", _EPSILON),
    "EpsilonGammaBox": ZennitComposite(
        "region", {**_EPSILON, "gamma": Number(0, 10), "low": ImageValues(), "high": ImageValues()}
    ),
    "ExcitationBackprop": ZennitComposite("region", _STABLE),
    "GuidedBackprop": ZennitComposite("sensitivity", passes=GRADIENT),
    "DeconvNet": ZennitComposite("sensitivity", passes=GRADIENT),
    "BetaSmooth": ZennitComposite(
        "sensitivity", {"beta_smooth": Number(0.01, 1000), "zero_params": Words(("weight", "bias"))}, passes=GRADIENT
    ),
}
"""Class in `zennit.composites` -> what is known of it; those that take rules as code are left out."""


@final
class Zennit(LibraryExplainer):
    """Attribution by a composite of zennit on the model as it is, with zennit's own code and defaults.

    It is zennit's `Gradient` attributor, which begins with 1 at the explained class. Without a canonizer, batch
    normalization and additions keep the rules that zennit gives them, which is what teams often run. Each report states
    how far the map is from auditcore's own map by the same rules, which auditcore applies to the model in canonical
    form.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "modules"})
    paper: ClassVar[str] = "Anders et al. 2021"
    default_map_kind: ClassVar[MapKind | None] = None
    kind: Literal["zennit"] = "zennit"
    composite: Literal[
        "EpsilonPlus",
        "EpsilonPlusFlat",
        "EpsilonAlpha2Beta1",
        "EpsilonAlpha2Beta1Flat",
        "EpsilonGammaBox",
        "ExcitationBackprop",
        "GuidedBackprop",
        "DeconvNet",
        "BetaSmooth",
    ] = Field(description="Name of the class in `zennit.composites`.")
    canonizer: Literal["SequentialMergeBatchNorm", "VGGCanonizer", "ResNetCanonizer"] | None = Field(
        default=None,
        description="Class in `zennit.canonizers` or `zennit.torchvision` that rewrites the model; none if null.",
    )
    arguments: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Arguments of the composite by zennit's names; zennit's defaults where left out. `low` and `high` "
        "of EpsilonGammaBox, which zennit requires, are black and white where left out.",
    )

    @model_validator(mode="after")
    def _arguments_fit_the_composite(self) -> Zennit:
        refuse_arguments(f"zennit's {self.composite}", self.arguments, COMPOSITES[self.composite].arguments)
        return self

    @property
    def kind_of_map(self) -> MapKind:
        """By composite."""
        return COMPOSITES[self.composite].map_kind

    def library_passes(self, *, shape: InputShape) -> Passes:
        """A pass forward, and the relevance or the gradient back."""
        return COMPOSITES[self.composite].passes

    @property
    def counterpart(self) -> ExplainerContract | None:
        """Own composite of auditcore with the same epsilon and gamma, where only these are set."""
        given = {name: value for name, value in self.arguments.items() if isinstance(value, (int, float))}
        epsilon, gamma = float(given.get("epsilon", 1e-6)), float(given.get("gamma", 0.25))
        if set(self.arguments) - {"epsilon", "gamma"} or not 0 < epsilon <= 1 or gamma <= 0:
            return None
        own = _COUNTERPARTS.get(self.composite)
        return None if own is None else own(epsilon, gamma)


_COUNTERPARTS: Mapping[str, Callable[[float, float], ExplainerContract]] = {
    "EpsilonPlusFlat": lambda epsilon, _: LrpEpsilonPlusFlat(epsilon=epsilon),
    "EpsilonAlpha2Beta1Flat": lambda epsilon, _: LrpEpsilonAlpha2Beta1Flat(epsilon=epsilon),
    "EpsilonGammaBox": lambda epsilon, gamma: LrpEpsilonGammaBox(epsilon=epsilon, gamma=gamma),
    "GuidedBackprop": lambda _epsilon, _gamma: GuidedBackpropagation(),
    "DeconvNet": lambda _epsilon, _gamma: Deconvolution(),
}
"""Class -> (epsilon, gamma) -> auditcore's own method."""
