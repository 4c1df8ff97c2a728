"""A private copy of the model under audit, without what other tools have left on it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from auditcore.errors import ModelNotLoadable
from auditcore.models.foreign_code import copied

_COMPILED = ("torch._dynamo.eval_frame", "OptimizedModule")
"""Class of what `torch.compile` returns; importing it takes a second."""

_QUANTIZED = "torch.ao.nn.quantized"


def plain_copy(module: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a copy that computes the same, uncompiled and without backward hooks, and notes for the report.

    `torch.compile` would compile anew for each size of batch and each use of gradients, which takes minutes, and hooks
    have no effect inside compiled code. Backward hooks, as tools for heat maps leave them, take no part in predictions
    and may change gradients.

    Args:
        module: The model; it stays as it is.

    Raises:
        ModelNotLoadable: It cannot be copied, or it has layers of quantized weights.
    """
    for name, layer in module.named_modules():
        if type(layer).__module__.startswith(_QUANTIZED):
            msg = (
                f"layer {name!r} has quantized weights, which have no gradients and cannot be checked; audit the model "
                "before its quantization, or export the quantized one as ONNX"
            )
            raise ModelNotLoadable(msg, field="model")
    # a copy does not keep what `module.compile()` has set
    copy = _uncompiled(copied(_uncompiled(module)))
    for parent in list(copy.modules()):
        for name, layer in list(parent._modules.items()):  # noqa: SLF001 - also of children that are used twice
            if layer is not None and _is_compiled(layer):
                parent._modules[name] = _uncompiled(layer)  # noqa: SLF001
    hooked = []
    for name, layer in copy.named_modules():
        if _without_backward_hooks(layer):
            hooked.append(name or "the model itself")
    if not hooked:
        return copy, ()
    also = f" and {len(hooked) - 1} more" if len(hooked) > 1 else ""
    return copy, (f"backward hooks were removed from {hooked[0]}{also}: they can change gradients, not predictions",)


def _is_compiled(module: nn.Module) -> bool:
    return (type(module).__module__, type(module).__name__) == _COMPILED


def _uncompiled(module: nn.Module) -> nn.Module:
    while _is_compiled(module):
        module = module.get_submodule("_orig_mod")
    return module


def _without_backward_hooks(layer: nn.Module) -> bool:
    """Remove backward hooks; return whether there were any."""
    found = False
    for kind in ("_backward_hooks", "_backward_pre_hooks"):
        hooks = layer.__dict__.get(kind)
        if isinstance(hooks, Mapping) and hooks:
            layer.__dict__[kind] = type(hooks)()
            found = True
    return found
