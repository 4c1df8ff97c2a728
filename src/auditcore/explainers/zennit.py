"""Composites of zennit on the model as it is."""

from __future__ import annotations

from typing import Any

import torch
import zennit.canonizers
import zennit.composites
import zennit.torchvision
from torch import Tensor, nn
from zennit.attribution import Gradient

from auditcore.contracts.explainers import Zennit
from auditcore.contracts.explainers.argument_forms import shape_of
from auditcore.explainers.attribution import Attribution, Batch
from auditcore.explainers.foreign import attributed, trial, trial_batch
from auditcore.models.classifier import Classifier
from auditcore.models.target_gradient import one_hot


def zennit_composite(batch: Batch, contract: Zennit) -> Attribution:
    """Maps by a composite of zennit, which begin with 1 at the target.

    Returns:
        (N,C,H,W).

    Raises:
        ExplainerFailing: zennit failed.

    Source: Anders et al. 2021; zennit's own code.
    """
    classifier = batch.classifier

    def attribute(module: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        composite = _composite(classifier, contract)
        attributor = Gradient(model=module, composite=composite, attr_output=lambda logits: one_hot(targets, logits))
        with attributor:
            _, found = attributor(inputs)
        maps: Tensor = found
        return maps

    return Attribution(attributed(batch, contract, attribute, name=f"zennit's {contract.composite}"))


def _composite(classifier: Classifier, contract: Zennit) -> Any:  # noqa: ANN401 - zennit has no types
    arguments = {name: _value(name, value, classifier) for name, value in contract.arguments.items()}
    if contract.composite == "EpsilonGammaBox":
        arguments = {"low": classifier.low, "high": classifier.high} | arguments
    if contract.canonizer is not None:
        source = zennit.canonizers if hasattr(zennit.canonizers, contract.canonizer) else zennit.torchvision
        arguments["canonizers"] = [getattr(source, contract.canonizer)()]
    return getattr(zennit.composites, contract.composite)(**arguments)


def _value(name: str, value: object, classifier: Classifier) -> Any:  # noqa: ANN401 - as zennit takes it
    if name not in {"low", "high"}:
        return value
    values = torch.tensor(value, dtype=torch.float32, device=classifier.device)
    return values.view(1, -1, 1, 1) if values.ndim < 2 else values[None]  # noqa: PLR2004 - a number or one per channel


def incompatibility(classifier: Classifier, contract: Zennit) -> str | None:
    """Why zennit cannot run here: a bound does not fit the input, or zennit fails on an image of noise."""
    shape = tuple(trial_batch(classifier, 1).pixels.shape[1:])
    for name in ("low", "high"):
        found = shape_of(contract.arguments.get(name)) or ()
        if found and found not in {shape, shape[:1]}:
            return f"`{name}` has shape {found}, but the input of the model has (C,H,W) = {shape}"

    def attempt() -> None:
        zennit_composite(trial_batch(classifier, 1), contract)

    return trial(classifier, contract, attempt)
