"""Layer-wise relevance propagation for transformers (AttnLRP), on any model that PyTorch differentiates."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from auditcore.contracts.explainers import AttnLrp
from auditcore.explainers.attention_probabilities import NO_ATTENTION, attention_softmaxes
from auditcore.explainers.attribution import Attribution, Batch, exactly
from auditcore.explainers.autograd_graph import operations_before, recording
from auditcore.explainers.gradient import UNDEFINED_BELOW
from auditcore.explainers.relevance_operations import carriers, rule_of
from auditcore.models.classifier import Classifier
from auditcore.models.target_gradient import one_hot

_REASONS: WeakKeyDictionary[nn.Module, str | None] = WeakKeyDictionary()
"""Module -> why relevance cannot be propagated through it; None if it can."""


def attn_lrp(batch: Batch, _contract: AttnLrp) -> Attribution:
    """Normalized input times its gradient, in which every operation has the rule of AttnLRP.

    Returns:
        Maps (N,C,H,W), signed, and `conservation`: the sum of relevance over the target logit it began with.

    Source: Achtibat et al. 2024, section 3, with the epsilon rule for linear layers and epsilon 0.
    """
    batch = exactly(batch)
    maps, conserved = [], []
    for part in batch.parts():
        relevance, scores = relevance_of(batch.classifier.module, part.inputs, part.targets)
        maps.append(relevance)
        shares = relevance.sum((1, 2, 3)) / scores
        conserved.append(torch.where(scores.abs() < UNDEFINED_BELOW, torch.nan, shares))
    if not maps:
        return Attribution(torch.empty_like(batch.pixels), {"conservation": batch.pixels.new_empty(0)})
    return Attribution(torch.cat(maps), {"conservation": torch.cat(conserved)})


def relevance_of(
    module: nn.Module, inputs: Float[Tensor, "image channel height width"], targets: Tensor
) -> tuple[Float[Tensor, "image channel height width"], Float[Tensor, " image"]]:
    """Propagate the target logit of each image back to its input.

    Args:
        module: Normalized inputs to logits.
        inputs: Normalized images.
        targets: (N,) class of each image.

    Returns:
        Relevance and target logits, both detached.

    Raises:
        KeyError: An operation has no rule; `incompatibility` says so in advance.
    """
    leaf = inputs.detach().requires_grad_()
    with recording(attention_matrices=False):
        logits: Tensor = module(leaf)
        for node in operations_before(logits, carriers):
            correct = rule_of(node)
            if correct is not None:
                node.register_hook(correct)
    (gradient,) = torch.autograd.grad(logits, leaf, one_hot(targets, logits))
    return inputs * gradient, logits.detach().gather(1, targets[:, None])[:, 0]


def incompatibility(classifier: Classifier, _contract: AttnLrp) -> str | None:
    """Why relevance cannot be propagated: the model has no attention, or an operation that matters has no rule."""
    module = classifier.exact.module
    if module not in _REASONS:
        _REASONS[module] = _reason(classifier.exact)
    return _REASONS[module]


def _reason(classifier: Classifier) -> str | None:
    image = torch.randn(1, *classifier.shape, generator=torch.Generator().manual_seed(0))
    leaf = image.to(classifier.device).requires_grad_()
    with classifier.ledger.paused(), recording(attention_matrices=True):
        logits: Tensor = classifier.module(leaf)
        if not attention_softmaxes(operations_before(logits)):
            return NO_ATTENTION
    with classifier.ledger.paused(), recording(attention_matrices=False):
        logits = classifier.module(leaf)
        unruled = _without_rule(logits)
    if unruled:
        return f"AttnLRP has no rule for the operations {', '.join(unruled)}"
    return None


def _without_rule(logits: Tensor) -> Sequence[str]:
    found: set[str] = set()
    for node in operations_before(logits, carriers):
        try:
            rule_of(node)
        except KeyError as error:
            found.add(str(error.args[0]))
    return sorted(found)
