"""Tensors out of a pickled module, without running anything that is pickled beside them.

`torch.save(model)` writes a pickle that names classes and functions to be called, so that opening it can run any code.
Here every name but those that put tensors together is replaced by an inert stand-in that keeps what it is given. What
is left is a tree of modules' attributes, of which parameters and buffers are taken.
"""

from __future__ import annotations

import collections
import pickle
import types
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from auditcore.errors import ModelNotLoadable
from auditcore.models.loaders.weights import looks_like_torchscript, refuse_torchscript, refuse_unusual_archives

MOST_DEPTH = 200
"""Modules inside modules; a pickle can hold a module inside itself."""

_REBUILDING: Mapping[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,  # noqa: SLF001 - what pickles name
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,  # noqa: SLF001 - likewise
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,  # noqa: SLF001 - likewise
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): torch.Size,
    # which buffers of a module are not kept is a set
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    **{
        ("torch", name): getattr(torch, name)
        for name in (
            *("FloatStorage", "DoubleStorage", "HalfStorage", "BFloat16Storage", "LongStorage", "IntStorage"),
            *("ShortStorage", "CharStorage", "ByteStorage", "BoolStorage"),
        )
    },
}
"""All that is ever called: it makes tensors of bytes, and containers of what there is."""


class Inert:
    """What stands for an object of any class: it keeps state and does nothing.

    Attributes:
        dump_patches: What the reader of older files asks of classes: whether to write differences of source to disk.
    """

    dump_patches = False

    def __init__(self, *_: object, **__: object) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        """Keep the attributes that the object would have had."""
        own = state[0] if isinstance(state, tuple) and state else state
        if isinstance(own, dict):
            self.state = {str(name): value for name, value in own.items()}

    def __setitem__(self, _key: object, _value: object) -> None:
        """An entry of a dictionary of some class; nobody reads it."""

    def append(self, _value: object) -> None:
        """An element of a list of some class; likewise."""

    def extend(self, _values: object) -> None:
        """Elements; likewise."""

    def add(self, _value: object) -> None:
        """An element of a set; likewise."""

    def __call__(self, *_: object, **__: object) -> Inert:
        """What calling it would have given: as inert."""
        return Inert()

    def __hash__(self) -> int:
        """By identity, so that it can be a key."""
        return id(self)

    def __eq__(self, other: object) -> bool:
        """By identity."""
        return self is other


@final
class _Unpickler(pickle.Unpickler):
    """Knows tensors; everything else is inert."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - a class or function
        return _REBUILDING.get((module, name), Inert)


_PICKLE = types.ModuleType("auditcore_inert_pickle")
"""What torch.load takes as a pickle module; it asks for `Unpickler` and `load` alone."""
_PICKLE.__dict__.update(Unpickler=_Unpickler, load=lambda file, **options: _Unpickler(file, **options).load())


def read_pickled_state(path: Path, *, field: str) -> dict[str, Tensor]:
    """Parameters and buffers of a pickled module or checkpoint, by name.

    Args:
        path: Written by `torch.save`.
        field: Path in the request, for errors.

    Raises:
        ModelNotLoadable: The file is damaged, compressed, or holds no module and no state dict.
        UnsafeReference: It is a TorchScript program.
    """
    if looks_like_torchscript(path):
        refuse_torchscript(field=field)
    refuse_unusual_archives(path, field=field)
    try:
        with warnings.catch_warnings():
            # older files compare the source of classes, which are all inert here
            warnings.simplefilter("ignore")
            found = torch.load(path, map_location="cpu", pickle_module=_PICKLE, weights_only=False)
    # a pickle for which nothing is what it seems breaks in any way it likes
    except Exception as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        msg = f"no weights can be read out of the pickle ({first_line}); save `model.state_dict()` instead"
        raise ModelNotLoadable(msg, field=field) from error
    state = _state(found)
    if not state:
        msg = "the pickle holds no module with parameters; save `model.state_dict()` instead"
        raise ModelNotLoadable(msg, field=field)
    return state


def _state(found: object) -> dict[str, Tensor]:
    if isinstance(found, Inert):
        state: dict[str, Tensor] = {}
        _collect(found, "", state, depth=0)
        return state
    if isinstance(found, Mapping):
        for key in ("state_dict", "model_state_dict", "model"):
            inner = found.get(key)
            if isinstance(inner, Mapping | Inert):
                return _state(inner)
        return {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    return {}


def _collect(module: Inert, prefix: str, state: dict[str, Tensor], *, depth: int) -> None:
    """What `Module.state_dict` would give."""
    if depth > MOST_DEPTH:
        return
    skipped = module.state.get("_non_persistent_buffers_set")
    for kind in ("_parameters", "_buffers"):
        for name, value in _entries(module.state.get(kind)):
            if isinstance(value, Tensor) and not (
                kind == "_buffers" and isinstance(skipped, set | frozenset) and name in skipped
            ):
                state[f"{prefix}{name}"] = value.detach()
    for name, child in _entries(module.state.get("_modules")):
        if isinstance(child, Inert):
            _collect(child, f"{prefix}{name}.", state, depth=depth + 1)


def _entries(value: object) -> list[tuple[str, object]]:
    return [(str(name), one) for name, one in value.items()] if isinstance(value, Mapping) else []
