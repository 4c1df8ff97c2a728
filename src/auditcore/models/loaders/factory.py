"""Models built by a callable that the operator has allowed by name."""

from __future__ import annotations

import importlib
import operator
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.models import FactoryModel
from auditcore.errors import ModelNotLoadable
from auditcore.models.foreign_code import raised_by_a_signal, said
from auditcore.models.loaders.architecture import LoadedModel
from auditcore.models.loaders.weights import WeightsSource


def load(reference: FactoryModel, source: WeightsSource) -> LoadedModel:
    """Import the target, call it and fill what it returns.

    `check_model` has checked before that the operator allows the target.

    Raises:
        ModelNotLoadable: The target cannot be imported or called, or the weights do not fit what it returns.
    """
    factory = _import(reference.target)

    def construct() -> nn.Module:
        try:
            module = factory(*reference.args, **reference.kwargs)
        # the factory is foreign code: any error of it is about its arguments, which the caller can change
        except Exception as error:
            msg = f"{reference.target} failed with these arguments: {type(error).__name__}: {error}"
            raise ModelNotLoadable(msg, field="model.args") from error
        if not isinstance(module, nn.Module):
            msg = f"{reference.target} must return a torch.nn.Module, got {type(module).__name__}"
            raise ModelNotLoadable(msg, field="model.target")
        _complete(module, reference.preprocessing.shape)
        return module

    module, trained = source.build(construct, reference.weights)
    return LoadedModel(
        module,
        reference.preprocessing,
        reference.scores,
        trained,
        outputs=reference.outputs,
        select=reference.select,
    )


def _complete(module: nn.Module, shape: InputShape) -> None:
    """Pass two images through a model with lazy layers, which get their sizes, and so their weights, only then.

    Raises:
        ModelNotLoadable: It cannot process images of this shape, or a layer takes no part in the pass.
    """
    if not any(map(is_lazy, (*module.parameters(), *module.buffers()))):
        return
    training = module.training
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(2, *shape))
    # the model is foreign code, so any exception may come out of it
    except Exception as error:
        if raised_by_a_signal(error):
            raise
        msg = f"the model's lazy layers cannot get their sizes ({said(error)}); check size and channels"
        raise ModelNotLoadable(msg, field="model.preprocessing") from error
    module.train(training)
    unused = [name for name, value in module.named_parameters() if is_lazy(value)]
    if unused:
        msg = f"the lazy layer of {unused[0]!r} takes no part in the forward, so it has no size; give it one"
        raise ModelNotLoadable(msg, field="model.target")


def _import(target: str) -> Callable[..., object]:
    module_name, _, attribute = target.partition(":")
    try:
        found = operator.attrgetter(attribute)(importlib.import_module(module_name))
    except (ImportError, AttributeError) as error:
        msg = f"factory {target!r} is allowed but cannot be imported: {error}; install its package on the worker"
        raise ModelNotLoadable(msg, field="model.target") from error
    if not callable(found):
        msg = f"factory {target!r} is not callable; allow and name a function or class"
        raise ModelNotLoadable(msg, field="model.target")
    factory: Callable[..., object] = found
    return factory
