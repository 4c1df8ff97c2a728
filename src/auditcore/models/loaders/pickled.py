"""Tensors of a pickled module, without running any code of the pickle.

`torch.save(model)` writes a pickle that names classes and functions to call, so that opening it can run any code. Here
only the functions that build tensors are called; every other name becomes an inert object that stores its arguments.
The result is a tree of containers and attributes, from which parameters and buffers are taken.
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
from auditcore.models.loaders.torch_files import looks_like_torchscript, refuse_torchscript, refuse_unusual_archives
from auditcore.models.zip_files import is_zip

MOST_DEPTH = 200
"""Deepest nesting of modules."""

MOST_MODULES = 100_000
"""Most modules of one model that are looked at; a few bytes can name the same module any number of times."""


def _parameter_alone(data: Tensor, requires_grad: bool, hooks: object, _: object) -> Any:  # noqa: ANN401, FBT001 - as PyTorch
    """Rebuild a parameter without the attributes that a training has given it."""
    return torch._utils._rebuild_parameter(data, requires_grad, hooks)  # noqa: SLF001 - what pickles name


def _tensor_alone(rebuild: Any, _: object, arguments: tuple[Any, ...], __: object) -> Any:  # noqa: ANN401 - as PyTorch
    """Rebuild a tensor of a class of its own, or with attributes, as a plain one."""
    return rebuild(*arguments) if rebuild in _REBUILDING.values() else Inert()


_REBUILDING: Mapping[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,  # noqa: SLF001 - what pickles name
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,  # noqa: SLF001 - what pickles name
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,  # noqa: SLF001 - what pickles name
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter_alone,
    ("torch._tensor", "_rebuild_from_type_v2"): _tensor_alone,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): torch.Size,
    # the names of non-persistent buffers are a set
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
"""The only names that are called: they build tensors from bytes, and containers."""


class Inert:
    """An object in place of one of any class: it stores its state and does nothing.

    Attributes:
        state: Its attributes, and the entries of a dictionary of some class.
        dump_patches: Read by torch.load for older files: whether to write changes of source code to disk.
    """

    dump_patches = False

    state: dict[str, Any]

    def __new__(cls, *_: object, **__: object) -> Inert:  # noqa: PYI034 - beartype refuses Self here
        """Begin with no state; unpickling does not call `__init__`."""
        made = super().__new__(cls)
        made.state = {}
        return made

    def __init__(self, *_: object, **__: object) -> None:
        """Ignore the arguments."""

    def __setstate__(self, state: object) -> None:
        """Keep the attributes that the object would have had."""
        own = state[0] if isinstance(state, tuple) and state else state
        if isinstance(own, dict):
            self.state.update({str(name): value for name, value in own.items()})

    def __setitem__(self, key: object, value: object) -> None:
        """Keep an entry of a dictionary of some class."""
        self.state[str(key)] = value

    def append(self, _value: object) -> None:
        """Drop an element of a list of some class."""

    def extend(self, _values: object) -> None:
        """Drop elements of a list of some class."""

    def add(self, _value: object) -> None:
        """Drop an element of a set of some class."""

    def __call__(self, *_: object, **__: object) -> Inert:
        """Return another inert object instead of the result of a call."""
        return Inert()

    def __hash__(self) -> int:
        """By identity, so that it can be a key."""
        return id(self)

    def __eq__(self, other: object) -> bool:
        """By identity."""
        return self is other


class _Bounded(pickle._Unpickler):  # noqa: SLF001 - there is no public name for it
    """The unpickler written in Python: what it remembers is a dictionary.

    The one in C makes a table as long as the largest number in the file, so that a hundred bytes can take 20 GB.
    """


@final
class _Unpickler(_Bounded):
    """Builds tensors; everything else is inert."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - a class or function
        return _REBUILDING.get((module, name), Inert)


_PICKLE = types.ModuleType("auditcore_inert_pickle")
"""The pickle module for torch.load, which uses only `Unpickler` and `load` of it."""
_PICKLE.__dict__.update(Unpickler=_Unpickler, load=lambda file, **options: _Unpickler(file, **options).load())


def read_inert(path: Path, *, field: str) -> object:
    """Content of a pickled module or checkpoint: tensors and containers; every other object is inert.

    Args:
        path: A file that `torch.save` has written.
        field: Path in the request, for errors.

    Raises:
        ModelNotLoadable: The file is damaged or compressed.
        UnsafeReference: The file is a TorchScript program.
    """
    if looks_like_torchscript(path):
        refuse_torchscript(field=field)
    refuse_unusual_archives(path, field=field)
    refuse_empty_claims(path, field=field)
    try:
        with warnings.catch_warnings():
            # for older files torch.load compares the source code of classes, which are all inert here
            warnings.simplefilter("ignore")
            found: object = torch.load(  # nosec B614 - every object but tensors and containers is inert
                path, map_location="cpu", pickle_module=_PICKLE, weights_only=False
            )
    # with inert objects, a pickle can fail in any way
    except Exception as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        msg = f"no weights can be read from the pickle ({first_line}); save `model.state_dict()` instead"
        raise ModelNotLoadable(msg, field=field) from error
    return found


@final
class _Claims(_Bounded):
    """Adds up the values that a file of older form claims to hold; builds nothing.

    Attributes:
        values: How many.
    """

    values = 0

    def find_class(self, _module: str, _name: str) -> type[Inert]:
        return Inert

    def persistent_load(self, claim: object) -> Inert:
        match claim:
            case ("storage", _, _, _, int(values), *_):
                self.values += max(values, 0)
        return Inert()


_PICKLES = 4
"""How a file of older form begins: a magic number, the version, sizes of types, and the object."""


def refuse_empty_claims(path: Path, *, field: str) -> None:
    """Refuse a file of older form that claims more values than it has bytes, because torch.load would make room first.

    Each value has at least one byte. Archives are not concerned: their values are read from entries of known size.

    Args:
        path: A file that `torch.load` would read.
        field: Path in the request, for errors.

    Raises:
        ModelNotLoadable: It claims more.
    """
    if is_zip(path):
        return
    claimed = 0
    with path.open("rb") as file:
        for _ in range(_PICKLES):
            reader = _Claims(file)
            try:
                reader.load()
            # what is damaged here is damaged for torch.load as well, which says so
            except Exception:  # noqa: BLE001 - with inert objects, a pickle can fail in any way
                claimed += reader.values
                break
            claimed += reader.values
    if claimed > path.stat().st_size:
        size = path.stat().st_size
        msg = f"the file claims to hold {claimed} values, but it has {size} bytes; save the weights again"
        raise ModelNotLoadable(msg, field=field)


def is_module(one: Inert) -> bool:
    """Whether an inert object stands for a `torch.nn.Module`."""
    return "_parameters" in one.state and "_modules" in one.state


def state_of_module(module: Inert) -> dict[str, Tensor]:
    """What `Module.state_dict` would return; of at most `MOST_MODULES` modules."""
    state: dict[str, Tensor] = {}
    waiting: list[tuple[str, Inert, frozenset[int]]] = [("", module, frozenset())]
    visits = 0
    while waiting and visits < MOST_MODULES:
        visits += 1
        prefix, here, around = waiting.pop()
        skipped = here.state.get("_non_persistent_buffers_set")
        for kind in ("_parameters", "_buffers"):
            for name, value in _entries(here.state.get(kind)):
                if isinstance(value, Tensor) and not (
                    kind == "_buffers" and isinstance(skipped, set | frozenset) and name in skipped
                ):
                    state[f"{prefix}{name}"] = value.detach()
        inside = around | {id(here)}
        waiting.extend(
            (f"{prefix}{name}.", child, inside)
            for name, child in _entries(here.state.get("_modules"))
            # a pickle can hold a module inside itself
            if isinstance(child, Inert) and id(child) not in inside and len(inside) < MOST_DEPTH
        )
    return state


def _entries(value: object) -> list[tuple[str, object]]:
    return [(str(name), one) for name, one in value.items()] if isinstance(value, Mapping) else []
