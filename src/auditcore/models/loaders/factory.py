"""Models built by a callable that the operator has allowed by name."""

from __future__ import annotations

import importlib
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
    with _settings_kept():
        factory = _import(reference.target)

    def construct() -> nn.Module:
        try:
            with _settings_kept():
                module = factory(*reference.args, **reference.kwargs)
        # the factory is foreign code: any error of it is about its arguments, which the caller can change
        except (Exception, SystemExit) as error:
            if raised_by_a_signal(error):
                raise
            msg = f"{reference.target} failed with these arguments: {said(error)}"
            raise ModelNotLoadable(msg, field="model.args") from error
        if not isinstance(module, nn.Module):
            msg = f"{reference.target} must return a torch.nn.Module, got {type(module).__name__}"
            raise ModelNotLoadable(msg, field="model.target")
        _refuse_hollow(module)
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


@contextmanager
def _settings_kept() -> Iterator[None]:
    """Restore the settings of PyTorch for this process, which scripts change, such as by switching off gradients."""
    gradients, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    try:
        yield
    finally:
        torch.set_grad_enabled(gradients)
        torch.set_default_dtype(dtype)


def _refuse_hollow(module: nn.Module) -> None:
    """Refuse a module whose weights have shapes and no values.

    Raises:
        ModelNotLoadable: It has such weights.
    """
    named = (*module.named_parameters(), *module.named_buffers())
    hollow = next((name for name, value in named if value.is_meta), None)
    if hollow is not None:
        msg = (
            f"{hollow!r} of the model has no values, since it was made on the device `meta`; make the model without "
            'torch.device("meta") and init_empty_weights'
        )
        raise ModelNotLoadable(msg, field="model.target")


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
    # the module is foreign code, such as a training script that reads its arguments, and ends, when it is imported
    except (Exception, SystemExit) as error:
        if raised_by_a_signal(error):
            raise
        msg = (
            f"factory {target!r} is allowed but its module fails when it is imported ({said(error)}); put what a "
            'script does below `if __name__ == "__main__":`'
        )
        raise ModelNotLoadable(msg, field="model.target") from error
    if not callable(found):
        msg = f"factory {target!r} is not callable; allow and name a function or class"
        raise ModelNotLoadable(msg, field="model.target")
    factory: Callable[..., object] = found
    return factory
