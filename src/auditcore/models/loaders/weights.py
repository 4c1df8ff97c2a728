"""Weights from safetensors or a plain PyTorch state dict, for an architecture that they must fit exactly."""

from __future__ import annotations

import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from auditcore.contracts.access import AccessRules
from auditcore.contracts.models import Weights
from auditcore.errors import InvalidRequest, ModelNotLoadable, UnsafeReference
from auditcore.sources.fetching import BlobReader, open_resource

URI_FIELD = "model.weights.uri"

_WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training frameworks store the state dict in a checkpoint."""

_PREFIXES = ("module.", "_orig_mod.")
"""Prefixes that `DataParallel` and `torch.compile` add to every key."""

_NAMED = 3
"""Number of keys that an error lists; a wrong architecture can miss hundreds."""

_SEEDS = range(2**63)


@dataclass(frozen=True)
class WeightsSource:
    """Where weights may come from.

    Attributes:
        access: What the operator allows.
        blobs: Reader of uploaded files, or None where there are none.
        device: Device of the model, for models that do not run in PyTorch.
    """

    access: AccessRules
    blobs: BlobReader | None = None
    device: str = "cpu"

    def also_allowing(self, package: str) -> WeightsSource:
        """The same source with one more installed package."""
        packages = (*self.access.packages, package)
        return replace(self, access=self.access.model_copy(update={"packages": packages}))

    def build(self, construct: Callable[[], nn.Module], weights: Weights) -> tuple[nn.Module, bool]:
        """Construct an architecture and load its weights.

        Args:
            construct: Builds the architecture with any initial values; the global random state is restored.
            weights: `random:SEED`, or a file to load.

        Returns:
            The module, and whether its weights were trained.

        Raises:
            InvalidRequest: The seed is not a number, or a digest is given for random weights.
            ModelNotLoadable: The file is not a state dict, or does not fit.
            UnsafeReference: The file holds more than tensors, or the operator does not allow it.
            InputError: As `open_resource`.
        """
        seed = _random_seed(weights)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed or 0)
            module = construct()
        if seed is None:
            path = open_resource(
                weights.uri,
                access=self.access,
                field=URI_FIELD,
                limit_bytes=self.access.limits.weights_bytes,
                sha256=weights.sha256,
                blobs=self.blobs,
            )
            fill(module, read_state_dict(path))
        return module, seed is None


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Parameters and buffers by name, on the CPU. No code of the file runs.

    The content tells the format, because blobs have no file name. In a checkpoint, the state dict may be under
    `state_dict`, `model_state_dict` or `model`. Prefixes of `DataParallel` and `torch.compile` are removed.

    Raises:
        ModelNotLoadable: The file is damaged or holds no state dict.
        UnsafeReference: The file holds more than tensors and plain containers, or is TorchScript.
    """
    content = _read_safetensors(path) if _is_safetensors(path) else _read_torch(path)
    for wrapper in _WRAPPERS:
        inner = content.get(wrapper) if isinstance(content, Mapping) else None
        if isinstance(inner, Mapping):
            content = inner
            break
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
    ):
        msg = "the file holds no state dict (names to tensors); save `model.state_dict()`, best as safetensors"
        raise ModelNotLoadable(msg, field=URI_FIELD)
    state: dict[str, Tensor] = dict(content)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def fill(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state dict that fits exactly. Batch counters, which evaluation does not use, may be missing.

    Raises:
        ModelNotLoadable: Names or shapes differ; the message gives some of each.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in own]
    reshaped = [
        f"{name} is {tuple(state[name].shape)} instead of {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    problems = [
        f"{len(names)} {what}: {', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
        if names
    ]
    if problems:
        msg = f"the weights do not fit the architecture ({'; '.join(problems)}); check name, classes and args"
        raise ModelNotLoadable(msg, field=URI_FIELD)
    module.load_state_dict(dict(state), strict=False)


def _random_seed(weights: Weights) -> int | None:
    """Seed of `random:SEED`, or None for weights from a file."""
    scheme, _, text = weights.uri.partition(":")
    if scheme != "random":
        return None
    if not (text.isascii() and text.isdigit() and int(text) in _SEEDS):
        msg = f"random weights need a seed from 0 to {_SEEDS.stop - 1}, as in random:7; got {text!r}"
        raise InvalidRequest(msg, field=URI_FIELD)
    if weights.sha256 is not None:
        msg = "random weights are drawn, not read, so there is no digest to check; leave sha256 out"
        raise InvalidRequest(msg, field="model.weights.sha256")
    return int(text)


def _is_safetensors(path: Path) -> bool:
    """Whether the file begins with the length of a JSON header and its first byte."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        msg = f"the safetensors file is damaged: {error}"
        raise ModelNotLoadable(msg, field=URI_FIELD) from error
    return state


def _read_torch(path: Path) -> Any:  # noqa: ANN401 - the content of the file; the caller checks it
    archive = zipfile.is_zipfile(path)
    if archive and looks_like_torchscript(path):
        refuse_torchscript(field=URI_FIELD)
    refuse_unusual_archives(path, field=URI_FIELD)
    try:
        with warnings.catch_warnings():
            # for a newer pickle protocol, torch.load first warns and then raises
            warnings.simplefilter("ignore", UserWarning)
            # only the archive format can be memory-mapped; older files are one pickle
            return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except pickle.UnpicklingError as error:
        if _looks_like_pickle(path, archive=archive):
            msg = (
                "the file is a pickle that holds more than tensors, so opening it could run code; "
                "save `model.state_dict()`, best as safetensors"
            )
            raise UnsafeReference(msg, field=URI_FIELD) from error
        raise _unreadable(error) from error
    # torch.load raises all these for damaged files, depending on the place of the damage
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> ModelNotLoadable:
    first_line = (str(error) or type(error).__name__).splitlines()[0]
    msg = f"the file is neither safetensors nor a PyTorch state dict, or it is damaged: {first_line}"
    return ModelNotLoadable(msg, field=URI_FIELD)


def looks_like_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript program, whose code PyTorch would run."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return any(name.endswith("/constants.pkl") or "/code/" in name for name in names)


def refuse_torchscript(*, field: str) -> NoReturn:
    """Refuse a program where weights are expected.

    Raises:
        UnsafeReference: Always.
    """
    msg = "the file is a TorchScript program, so opening it could run code; save `model.state_dict()` instead"
    raise UnsafeReference(msg, field=field)


def refuse_unusual_archives(path: Path, *, field: str) -> None:
    """Refuse archives that no PyTorch since 0.1 writes, and that torch.load would unpack without a limit.

    Raises:
        ModelNotLoadable: The archive is a tar, or compressed, so that a few bytes could grow to any size.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            squeezed = [e.filename for e in archive.infolist() if e.compress_type != zipfile.ZIP_STORED]
        if squeezed:
            msg = f"the file is compressed ({squeezed[0]}), which PyTorch never does; save the weights again"
            raise ModelNotLoadable(msg, field=field)
    elif tarfile.is_tarfile(path):
        msg = "the file is a tar archive, as of PyTorch 0.1; save `model.state_dict()`, best as safetensors"
        raise ModelNotLoadable(msg, field=field)


def _looks_like_pickle(path: Path, *, archive: bool) -> bool:
    """Whether the file begins like a pickle; then it was refused for its content, not for damage."""
    if archive:
        return True
    with path.open("rb") as file:
        start = file.read(2)
    # files of protocol 2 and later begin with its number
    return start[:1] == b"\x80" and start[1:] in {b"\x02", b"\x03", b"\x04", b"\x05"}
