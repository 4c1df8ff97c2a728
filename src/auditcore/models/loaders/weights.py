"""Weights from safetensors or a checkpoint of PyTorch, for an architecture that they must fit exactly."""

from __future__ import annotations

import pickle
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from auditcore.contracts.access import AccessRules
from auditcore.contracts.models import Weights
from auditcore.errors import InvalidRequest, ModelNotLoadable, UnsafeReference
from auditcore.models.loaders.checkpoints import fill, names_tensors
from auditcore.models.loaders.pickled import read_inert, refuse_empty_claims
from auditcore.models.loaders.torch_files import looks_like_torchscript, refuse_torchscript, refuse_unusual_archives
from auditcore.models.zip_files import entries_of, is_zip
from auditcore.sources.fetching import BlobReader, open_resource
from auditcore.sources.named_files import MOST_INDEX_BYTES, shards_of
from auditcore.sources.placeholders import refuse_placeholder
from auditcore.sources.sibling_files import read_sibling

URI_FIELD = "model.weights.uri"

_SEEDS = range(2**63)

_DAMAGE = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    OverflowError,
    AssertionError,
    struct.error,
)
"""What torch.load raises for damaged files, depending on the place of the damage."""

_OTHER_FORMATS = {
    b"\x89HDF": "HDF5, as Keras writes it",
    b"\x93NUMPY": "an array of NumPy",
    b"\x1f\x8b": "compressed by gzip",
    b"GGUF": "GGUF",
}
"""How files of other programs begin -> what they are."""


@dataclass(frozen=True)
class WeightsSource:
    """Where weights may come from.

    Attributes:
        access: What the operator allows.
        blobs: Reader of uploaded files, or None where there are none.
        device: Device of the model, for models that do not run in PyTorch.
        notes: What loading has found that a reader of the report should know.
    """

    access: AccessRules
    blobs: BlobReader | None = None
    device: str = "cpu"
    notes: list[str] = field(default_factory=list, compare=False)

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
            InvalidRequest: The seed is not a number, or a digest or a set is given for random weights.
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
            content = self._sharded(path, weights) if _is_index(path) else read_checkpoint(path, field=URI_FIELD)
            self.notes.extend(fill(module, content, field=URI_FIELD, entry=weights.entry))
        return module, seed is None

    def _sharded(self, path: Path, weights: Weights) -> dict[str, Tensor]:
        """Tensors of the files of safetensors that an index names, beside the index."""
        index = path.read_bytes()
        left = self.access.limits.weights_bytes - len(index)
        state: dict[str, Tensor] = {}
        places = shards_of(index, field=URI_FIELD)
        for name in sorted(set(places.values())):
            data = read_sibling(weights.uri, name, weights.parts, access=self.access, field=URI_FIELD, limit_bytes=left)
            left -= len(data)
            wanted = {tensor for tensor, file in places.items() if file == name}
            found = _loaded_safetensors(data, name, URI_FIELD)
            missing = sorted(wanted - found.keys())
            if missing:
                msg = f"the index places {missing[0]!r} in {name!r}, which does not hold it; download both again"
                raise ModelNotLoadable(msg, field=URI_FIELD)
            state |= {tensor: found[tensor] for tensor in wanted}
        return state


def read_checkpoint(path: Path, *, field: str) -> object:
    """Content of a file of safetensors or of `torch.save`, on the CPU. No code of the file runs.

    The content tells the format, because blobs have no file name. Of a pickle that holds more than tensors, such as the
    arguments of a training run, all other objects are inert.

    Args:
        path: The file.
        field: Path in the request, for errors.

    Raises:
        ModelNotLoadable: The file is damaged.
        UnsafeReference: The file is TorchScript, or a pickle in which no tensors have names.
    """
    try:
        return read_tensors(path, field=field)
    except UnsafeReference as unsafe:
        if looks_like_torchscript(path):
            raise
        try:
            content = read_inert(path, field=field)
        except ModelNotLoadable:
            raise unsafe from None
        if not names_tensors(content):
            raise
        return content


def read_tensors(path: Path, *, field: str) -> object:
    """Content of a file that holds only tensors and plain containers, on the CPU.

    Raises:
        ModelNotLoadable: The file is damaged.
        UnsafeReference: The file holds more than tensors and plain containers, or is TorchScript.
    """
    return read_safetensors(path, field=field) if _is_safetensors(path) else _read_torch(path, field)


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
    if weights.entry is not None:
        msg = "random weights are drawn, not read, so there is no set to choose; leave entry out"
        raise InvalidRequest(msg, field="model.weights.entry")
    return int(text)


def _is_safetensors(path: Path) -> bool:
    """Whether the file begins with the length of a JSON header and its first byte."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def read_safetensors(path: Path, *, field: str) -> dict[str, Tensor]:
    """Tensors of a file of safetensors by their names, on the CPU.

    Args:
        path: The file.
        field: Path in the request, for errors.

    Raises:
        ModelNotLoadable: The file is damaged, or a placeholder of one.
    """
    refuse_placeholder(path, field=field)
    try:
        state: dict[str, Tensor] = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        msg = f"the safetensors file is damaged: {error}"
        raise ModelNotLoadable(msg, field=field) from error
    return state


def _is_index(path: Path) -> bool:
    """Whether a file is JSON, as the index of weights in several files is."""
    if _is_safetensors(path):
        return False
    with path.open("rb") as file:
        return file.read(64).lstrip().startswith(b"{") and path.stat().st_size <= MOST_INDEX_BYTES


def _loaded_safetensors(data: bytes, name: str, field: str) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        msg = (
            f"{name!r}, which the index names, is no file of safetensors, or it is damaged ({error}); save the model "
            "with `save_pretrained` of a current transformers, which writes safetensors"
        )
        raise ModelNotLoadable(msg, field=field) from error
    return state


def _read_torch(path: Path, field: str) -> object:
    archive = is_zip(path)
    if archive and looks_like_torchscript(path):
        refuse_torchscript(field=field)
    refuse_unusual_archives(path, field=field)
    refuse_empty_claims(path, field=field)
    try:
        with warnings.catch_warnings():
            # for a newer pickle protocol, torch.load first warns and then raises
            warnings.simplefilter("ignore", UserWarning)
            # only the archive format can be memory-mapped; older files are one pickle
            content: object = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except pickle.UnpicklingError as error:
        if _looks_like_pickle(path, archive=archive):
            msg = (
                "the file is a pickle that holds more than tensors, so opening it could run code; "
                "save `model.state_dict()`, best as safetensors"
            )
            raise UnsafeReference(msg, field=field) from error
        raise _unreadable(path, "it is no pickle", field) from error
    except _DAMAGE as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        raise _unreadable(path, first_line, field) from error
    return content


def _unreadable(path: Path, reason: str, field: str) -> ModelNotLoadable:
    with path.open("rb") as file:
        start = file.read(16)
    found = next((what for beginning, what in _OTHER_FORMATS.items() if start.startswith(beginning)), None)
    names = [entry.filename for entry in entries_of(path)]
    if names and not any(name.endswith("data.pkl") for name in names):
        found = f"a zip archive with {names[0]!r} and not of PyTorch"
    if found is not None:
        msg = f"the file is {found}; save `model.state_dict()` of the model in PyTorch, best as safetensors"
    else:
        msg = f"the file is neither safetensors nor a PyTorch state dict, or it is damaged: {reason}"
    return ModelNotLoadable(msg, field=field)


def _looks_like_pickle(path: Path, *, archive: bool) -> bool:
    """Whether the file begins like a pickle; then it was refused for its content, not for damage."""
    if archive:
        return True
    with path.open("rb") as file:
        start = file.read(2)
    # files of protocol 2 and later begin with its number
    return start[:1] == b"\x80" and start[1:] in {b"\x02", b"\x03", b"\x04", b"\x05"}
