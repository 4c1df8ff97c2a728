"""Models built by a callable that the operator has allowed by name."""

from __future__ import annotations

import importlib
import operator
from collections.abc import Callable

from torch import nn

from auditcore.contracts.models import FactoryModel
from auditcore.errors import ModelNotLoadable
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
