"""Optimizers of PyTorch, with the learning rate of a plan."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from auditcore.contracts.training import optimizers
from auditcore.contracts.training.plan import TrainingPlan


def build_optimizer(module: nn.Module, contract: optimizers.Optimizer, more: Sequence[nn.Parameter] = ()) -> Optimizer:
    """The optimizer that a plan names, over all weights that learn.

    Args:
        module: The network.
        contract: The optimizer.
        more: Weights of the training method, after those of the network.
    """
    weights = [parameter for parameter in module.parameters() if parameter.requires_grad] + list(more)
    match contract:
        case optimizers.Sgd():
            return SGD(
                weights,
                lr=contract.learning_rate,
                momentum=contract.momentum,
                nesterov=contract.nesterov,
                weight_decay=contract.weight_decay,
            )
        case optimizers.Adam():
            return Adam(weights, lr=contract.learning_rate, weight_decay=contract.weight_decay)
        case optimizers.AdamW():
            return AdamW(weights, lr=contract.learning_rate, weight_decay=contract.weight_decay)


def learning_rate(plan: TrainingPlan, step: int, *, steps_per_epoch: int) -> float:
    """The learning rate of a step, counted from 0."""
    factor = plan.schedule.factor(step, steps_per_epoch=steps_per_epoch, epochs=plan.epochs)
    return plan.optimizer.learning_rate * factor


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Let the next step use a learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
