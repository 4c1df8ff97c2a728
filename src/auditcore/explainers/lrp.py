"""Layer-wise relevance propagation: three composites of zennit on the canonical model.

Zennit decides which rule a layer gets. `relevance_rules` evaluates the rules at the cost of two to three gradients,
with the same result; zennit itself evaluates layers that those rules do not fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor, nn
from zennit.composites import EpsilonAlpha2Beta1Flat, EpsilonGammaBox, EpsilonPlusFlat
from zennit.core import Composite
from zennit.rules import Pass
from zennit.types import Activation, AvgPool, BatchNorm, Convolution, MaxPool

from auditcore.contracts.explainers import (
    AttnLrp,
    ExplainerContract,
    LrpEpsilonAlpha2Beta1Flat,
    LrpEpsilonGammaBox,
    LrpEpsilonPlusFlat,
)
from auditcore.explainers import attn_lrp
from auditcore.explainers.attribution import Attribution, Batch
from auditcore.explainers.differentiation import input_gradient
from auditcore.explainers.gradient import UNDEFINED_BELOW
from auditcore.explainers.relevance_model import CHOOSING_CALLS, MOVING_CALLS, MOVING_LAYERS, relevance_model
from auditcore.models.canonical import called_module, signal_path
from auditcore.models.classifier import Classifier
from auditcore.models.layers import Addition, Gate, SpatialMean
from auditcore.models.tracing import LINEAR_LAYERS

LrpContract = LrpEpsilonPlusFlat | LrpEpsilonGammaBox | LrpEpsilonAlpha2Beta1Flat


def lrp_epsilon_plus_flat(batch: Batch, contract: LrpEpsilonPlusFlat) -> Attribution:
    """Epsilon rule for dense layers, z-plus for convolutions, flat for the first layer.

    Returns:
        Maps and `conservation`: the sum of relevance over the target logit it began with.

    Source: Bach et al. 2015; Kohlbrenner et al. 2020.
    """
    return _propagate(batch, contract)


def lrp_epsilon_gamma_box(batch: Batch, contract: LrpEpsilonGammaBox) -> Attribution:
    """Epsilon rule for dense layers, gamma for convolutions, box for the first layer.

    The box is the range of the normalized input, from black to white, in each channel.

    Returns:
        Maps and `conservation`: the sum of relevance over the target logit it began with.

    Source: Montavon et al. 2019.
    """
    return _propagate(batch, contract)


def lrp_epsilon_alpha2_beta1_flat(batch: Batch, contract: LrpEpsilonAlpha2Beta1Flat) -> Attribution:
    """Epsilon rule for dense layers, alpha2-beta1 for convolutions, flat for the first layer.

    Returns:
        Maps and `conservation`: the sum of relevance over the target logit it began with.

    Source: Bach et al. 2015; Kohlbrenner et al. 2020.
    """
    return _propagate(batch, contract)


def incompatibility(classifier: Classifier, contract: ExplainerContract) -> str | None:
    """Why relevance cannot be propagated on this model: it cannot be traced, or a layer that matters has no rule."""
    canonical = classifier.canonical_or_reason()
    if isinstance(canonical, str):
        return canonical + _instead(classifier)
    unruled = dict.fromkeys(_names_without_rule(canonical))
    if unruled:
        return f"layer-wise relevance propagation has no rule here for {', '.join(unruled)}{_instead(classifier)}"
    if isinstance(contract, LrpEpsilonGammaBox) and not _first_layer_sees_image(canonical):
        return "the first linear layer does not see the image itself, so the box from black to white does not bound it"
    return None


def _instead(classifier: Classifier) -> str:
    """Advice for models that the rules for transformers suit."""
    return "; use attn_lrp" if attn_lrp.incompatibility(classifier, AttnLrp()) is None else ""


_FURTHER_RULES = [((nn.Mish,), Pass())]
"""Rules that zennit's composites lack."""

_RULED = (*LINEAR_LAYERS, Convolution, BatchNorm, Activation, AvgPool, Addition, SpatialMean, Gate, nn.Mish)
"""Layers for which the composites, or `_gates_pass_to_signal`, have a rule."""


def _names_without_rule(canonical: nn.Module) -> Iterator[str]:
    for node in signal_path(canonical):
        layer = called_module(canonical, node)
        if layer is not None:
            if isinstance(layer, nn.MultiheadAttention) or not isinstance(layer, (*_RULED, *MOVING_LAYERS, MaxPool)):
                yield f"{type(layer).__name__} layers"
            elif len(node.args) > (2 if isinstance(layer, (Addition, Gate)) else 1) or node.kwargs:
                yield f"{type(layer).__name__} layers that are given more than their input"
        elif node.op in {"call_function", "call_method"} and node.target not in MOVING_CALLS | CHOOSING_CALLS:
            yield f"{getattr(node.target, '__name__', node.target)}()"


def _first_layer_sees_image(canonical: nn.Module) -> bool:
    """Whether nothing but padding lies between the image and the first linear layer."""
    for node in signal_path(canonical):
        layer = called_module(canonical, node)
        if isinstance(layer, LINEAR_LAYERS):
            return True
        if (
            node.op != "placeholder"
            and not isinstance(layer, (nn.ZeroPad2d, nn.ConstantPad2d))
            and node.target != F.pad
        ):
            return False
    return False


def composite_of(classifier: Classifier, contract: LrpContract) -> Composite:
    """Zennit's composite, which assigns rules to layers; every map must equal its result."""
    if isinstance(contract, LrpEpsilonGammaBox):
        return EpsilonGammaBox(
            low=classifier.low,
            high=classifier.high,
            epsilon=contract.epsilon,
            gamma=contract.gamma,
            layer_map=_FURTHER_RULES,
        )
    composite = EpsilonPlusFlat if isinstance(contract, LrpEpsilonPlusFlat) else EpsilonAlpha2Beta1Flat
    return composite(epsilon=contract.epsilon, layer_map=_FURTHER_RULES)


_MODELS: WeakKeyDictionary[nn.Module, dict[LrpContract, nn.Module]] = WeakKeyDictionary()
"""Canonical model -> the model with rules for each contract. An altered classifier has a canonical model of its own."""


def model_with_rules(classifier: Classifier, contract: LrpContract) -> nn.Module:
    """The canonical model with our rules built in, made once and kept as long as the canonical model.

    Its passes count in the classifier's ledger. What a rule evaluates again belongs to the same pass.
    """
    models = _MODELS.setdefault(classifier.canonical, {})
    # a display name changes no rule
    key = contract.model_copy(update={"name": None})
    if key not in models:
        model = relevance_model(
            classifier.canonical,
            composite_of(classifier, contract),
            epsilon=contract.epsilon,
            gamma=contract.gamma if isinstance(contract, LrpEpsilonGammaBox) else 0.0,
            low=classifier.low,
            high=classifier.high,
        )
        classifier.ledger.attach(model)
        models[key] = model
    return models[key]


def _propagate(batch: Batch, contract: LrpContract) -> Attribution:
    """Relevance, which begins at the target logit.

    Propagation is linear in its start, so it starts from 1 and is scaled afterwards: exact also for tiny logits.
    """
    model = model_with_rules(batch.classifier, contract)
    maps, conserved = [], []
    for part in batch.parts():
        shares, scores = input_gradient(model, part.inputs, part.targets)
        maps.append(shares * scores[:, None, None, None])
        conserved.append(torch.where(scores.abs() < UNDEFINED_BELOW, torch.nan, shares.sum((1, 2, 3))))
    if not maps:
        return Attribution(torch.empty_like(batch.pixels), {"conservation": batch.pixels.new_empty(0)})
    return Attribution(torch.cat(maps), {"conservation": torch.cat(conserved)})


@contextmanager
def rules_of_zennit(classifier: Classifier, contract: LrpContract) -> Iterator[nn.Module]:
    """The canonical model with zennit's hooks, which make its gradient the relevance: the reference of our tests."""
    canonical = classifier.canonical
    with composite_of(classifier, contract).context(canonical), _gates_pass_to_signal(canonical):
        yield canonical


@contextmanager
def _gates_pass_to_signal(canonical: nn.Module) -> Iterator[None]:
    """Let gates hand all relevance to their signal, unscaled, and none to what computed the gate."""

    def straight_through(_gate: nn.Module, inputs: tuple[Tensor, Tensor | float], output: Tensor) -> Tensor:
        signal = inputs[0]
        return signal + (output - signal).detach()

    handles = [
        layer.register_forward_hook(straight_through) for layer in canonical.modules() if isinstance(layer, Gate)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
