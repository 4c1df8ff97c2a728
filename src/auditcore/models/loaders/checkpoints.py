"""Weights in a checkpoint: which of its sets of tensors fit an architecture, and which one is loaded.

Trainers put the weights below a key such as `state_dict` or `net`, add prefixes such as `module.` or `model.` to every
name, and store averaged weights beside the raw ones. A set is loaded without being named only if it is the only one
that fits and nothing that could be a layer is left out.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from auditcore.errors import InvalidRequest, ModelNotLoadable
from auditcore.models.loaders.pickled import Inert, is_module, state_of_module

ROOT = "."
"""Name of the set at the top of a file."""

NAMED = 3
"""Number of names that an error or a note lists; a wrong architecture can miss hundreds."""

MOST_PLACES = 200_000
"""Places of a file that are looked at; the state of an optimizer has a few for each parameter."""

_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Parts of names that `torch.compile`, FSDP and activation checkpointing add, also in the middle."""

_COUNTED = frozenset({"total_ops", "total_params"})
"""Buffers that `thop.profile` adds to every layer."""

_AVERAGED = re.compile(
    r"(?:^|[^A-Za-z])(?:ema|swa|averaged?|averaging|shadow)(?![a-z])|(?:E[Mm][Aa]|S[Ww][Aa])(?![a-z])|Averag|Shadow"
)
"""Names of places that hold averaged weights, such as `state_dict_ema` or `callbacks/StochasticWeightAveraging`."""

_COUNTER = "num_batches_tracked"
"""Name of a buffer of batch normalization that evaluation does not use."""


@final
@dataclass(frozen=True)
class Candidate:
    """A set of tensors, with the names that an architecture would give them.

    Attributes:
        place: Keys that lead to the set, joined by `/`; empty for the top of the file.
        prefix: What was removed from the front of the names.
        tensors: Tensors below the prefix, by name.
        outside: Names and tensors of the same set without the prefix.
        unwrapped: Whether marks of `torch.compile` or FSDP were removed from the names.
    """

    place: str
    prefix: str
    tensors: Mapping[str, Tensor]
    outside: Mapping[str, Tensor]
    unwrapped: bool

    @property
    def entry(self) -> str:
        """How a request names it."""
        return "/".join(part for part in (self.place, self.prefix) if part) or ROOT


def fill(module: nn.Module, content: object, *, field: str, entry: str | None = None) -> tuple[str, ...]:
    """Load the weights of a checkpoint that fit exactly.

    Batch counters, which evaluation does not use, may be missing.

    Args:
        module: The architecture; its parameters and buffers are overwritten.
        content: Content of the file: tensors in mappings, lists and inert objects.
        field: Path of the weights in the request, for errors.
        entry: The set to load: the keys that lead to it, joined by `/`, and a prefix that ends in a dot. The only set
            that fits if None.

    Returns:
        What a reader of the report should know of the choice; nothing if all names of the file fit as they are.

    Raises:
        ModelNotLoadable: The content holds no tensors with names, or names, shapes or types do not fit.
        InvalidRequest: Several sets fit, or layers would be left out, and `entry` does not choose; or `entry` names
            no set. The message lists what there is.
    """
    while isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        module = module.module
    sets, unnamed = _sets_of(content)
    if not sets:
        msg = "the file holds no state dict (names to tensors); save `model.state_dict()`, best as safetensors"
        raise ModelNotLoadable(msg, field=field)
    state = _tensors(module.state_dict())
    own = {_WRAPPERS.sub("", name): name for name in state}
    values = {short: state[name] for short, name in own.items()}
    candidates = [found for place, tensors in sets.items() for found in _candidates(place, tensors, own)]
    problems = {found.entry: _problems(found, values) for found in candidates}
    fitting = [found for found in candidates if not problems[found.entry]]
    if entry is None:
        chosen = _only(fitting, candidates, problems, values, sets, unnamed, field)
    else:
        chosen = _named(entry, candidates, problems, fitting, sets, unnamed, field)
    used = {own[name]: value for name, value in chosen.tensors.items() if name in own}
    module.load_state_dict(used, strict=False)
    return _notes(chosen, values)


def names_tensors(content: object) -> bool:
    """Whether a content holds tensors with names."""
    return bool(_sets_of(content)[0])


def _sets_of(content: object) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """Every mapping from names to tensors, by its place, and the places of lists of tensors; outer places first."""
    sets: dict[str, dict[str, Tensor]] = {}
    unnamed: list[str] = []
    waiting: deque[tuple[str, object]] = deque([("", content)])
    seen: set[int] = set()
    while waiting and len(seen) < MOST_PLACES:
        place, part = waiting.popleft()
        if id(part) in seen:
            continue
        seen.add(id(part))
        inner: Iterable[tuple[object, object]] = ()
        if isinstance(part, Inert) and is_module(part):
            tensors = state_of_module(part)
        elif isinstance(part, Mapping | Inert):
            entries = part.state if isinstance(part, Inert) else part
            tensors = _tensors(entries)
            inner = entries.items()
        else:
            tensors = {}
            inner = enumerate(part) if isinstance(part, list | tuple) else ()
            if isinstance(part, list | tuple) and any(isinstance(one, Tensor) for one in part):
                unnamed.append(place)
        if tensors:
            sets[place] = tensors
        waiting.extend(
            (f"{place}/{key}".removeprefix("/"), one)
            for key, one in inner
            if isinstance(one, Mapping | Inert | list | tuple) and one
        )
    return sets, unnamed


def _tensors(entries: Mapping[object, object] | Mapping[str, object]) -> dict[str, Tensor]:
    return {name: one for name, one in entries.items() if isinstance(name, str) and isinstance(one, Tensor)}


def _candidates(place: str, tensors: Mapping[str, Tensor], own: Mapping[str, str]) -> list[Candidate]:
    """A set as it is, and below each prefix after which names of the architecture follow."""
    plain = {_WRAPPERS.sub("", name): value for name, value in tensors.items()}
    if len(plain) != len(tensors):
        # two names differ only by such a mark, so it has a meaning here
        plain = dict(tensors)
    prefixes: Counter[str] = Counter({"": 0})
    for name in plain:
        start = 0
        while start >= 0:
            if name[start:] in own:
                prefixes[name[:start]] += 1
            start = name.find(".", start) + 1 or -1
    most = max(prefixes.values())
    return [
        Candidate(
            place,
            prefix,
            {name[len(prefix) :]: value for name, value in plain.items() if name.startswith(prefix)},
            {name: value for name, value in plain.items() if not name.startswith(prefix)},
            unwrapped=plain.keys() != tensors.keys(),
        )
        # most prefixes lead to single layers with common names, such as `weight`
        for prefix, count in prefixes.items()
        if not prefix or 2 * count >= most
    ]


def _problems(found: Candidate, own: Mapping[str, Tensor]) -> str:
    """Why a set does not fit; empty if it does."""
    state = found.tensors
    shared = _shared(own)
    given = {shared[name] for name in own if name in state}
    # of tensors that layers share, safetensors stores one
    missing = [name for name in own if shared[name] not in given and not name.endswith(_COUNTER)]
    unexpected = [name for name in state if name not in own and name.rpartition(".")[2] not in _COUNTED]
    if not found.prefix:
        # a copy of all weights below a prefix is another set, not a part of this one
        copies = {name[: -len(first)] for first in list(own)[:1] for name in state if name.endswith(f".{first}")}
        whole = [copy for copy in copies if all(copy + name in state for name in own if not name.endswith(_COUNTER))]
        unexpected = [name for name in unexpected if not name.startswith(tuple(whole))]
    both = [(name, state[name], value) for name, value in own.items() if name in state]
    reshaped = [
        f"{name} is {tuple(given.shape)} instead of {tuple(value.shape)}"
        for name, given, value in both
        if given.shape != value.shape
    ]
    retyped = [
        f"{name} is {_type_of(given)} instead of {_type_of(value)}"
        for name, given, value in both
        if not name.endswith(_COUNTER)
        and (given.is_floating_point(), given.is_complex()) != (value.is_floating_point(), value.is_complex())
    ]
    # of the device `meta`, as deferred initialization leaves them, or sparse
    hollow = [name for name, given, _ in both if given.is_meta or given.layout is not torch.strided]
    differing = [
        name
        for name, value, _ in both
        if shared[name] != name and shared[name] in state and not _same_values(value, state[shared[name]])
    ]
    kinds = (
        ("missing", missing),
        ("sparse or without values", hollow),
        ("unexpected", unexpected),
        ("of another shape", reshaped),
        ("of another type, so that their scale is lost", retyped),
        ("of layers that share their values in the architecture and not in the file", differing),
    )
    return "; ".join(f"{len(names)} {what}: {_listed(names)}" for what, names in kinds if names)


def _shared(own: Mapping[str, Tensor]) -> dict[str, str]:
    """The first name of the same values, for each name: layers of an architecture may share them."""
    first: dict[object, str] = {}
    found = {}
    for name, value in own.items():
        at = value.data_ptr()
        # tensors without values have no place in memory
        found[name] = first.setdefault((at, value.shape, value.stride()), name) if at else name
    return found


def _same_values(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype or one.is_meta or other.is_meta:
        return False
    return torch.allclose(one.double(), other.double(), rtol=0, atol=0, equal_nan=True)


def _type_of(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _only(
    fitting: list[Candidate],
    candidates: list[Candidate],
    problems: Mapping[str, str],
    own: Mapping[str, Tensor],
    sets: Mapping[str, Mapping[str, Tensor]],
    unnamed: list[str],
    field: str,
) -> Candidate:
    """The set to load where the request names none."""
    if not fitting:
        raise _misfit(_nearest(candidates, own), candidates, problems, field)
    first = fitting[0]
    used = {found.place for found in fitting}
    layered = [place for place, tensors in sets.items() if any(value.ndim > 1 for value in tensors.values())]
    averaged = [place for place in (*layered, *unnamed) if place not in used and _AVERAGED.search(place)]
    if averaged or not all(_same(first, other, own) for other in fitting[1:]):
        named = f"{field.rpartition('.')[0]}.entry"
        unusable = f"; {_listed(averaged)} may hold averaged weights, and does not fit" if averaged else ""
        msg = (
            f"the file holds several sets of weights that may be meant: {_listed(found.entry for found in fitting)}"
            f"{unusable}; set `entry` to the one to audit, such as {fitting[-1].entry!r}"
        )
        raise InvalidRequest(msg, field=named)
    copies = tuple(found.prefix for found in fitting if found.place == first.place)
    layers = [
        name
        for name, value in first.outside.items()
        if value.is_floating_point() and value.ndim > 1 and not name.startswith(copies)
    ]
    if layers:
        msg = (
            f"{first.entry!r} of the file fits, and {len(layers)} weights of layers would be left out "
            f"({_listed(layers)}); if that is right, set `entry` to {first.entry!r}"
        )
        raise InvalidRequest(msg, field=f"{field.rpartition('.')[0]}.entry")
    return first


def _named(
    entry: str,
    candidates: list[Candidate],
    problems: Mapping[str, str],
    fitting: list[Candidate],
    sets: Mapping[str, Mapping[str, Tensor]],
    unnamed: list[str],
    field: str,
) -> Candidate:
    """The set that the request names: by its place and prefix, or by its place if one prefix fits there."""
    at = f"{field.rpartition('.')[0]}.entry"
    exact = [found for found in candidates if found.entry == entry]
    if exact and not problems[exact[0].entry]:
        return exact[0]
    place = "" if entry == ROOT else entry
    inside = [found for found in fitting if found.place == place]
    if len(inside) == 1:
        return inside[0]
    if len(inside) > 1:
        msg = f"{entry!r} of the file holds several sets: {_listed(found.entry for found in inside)}; name one of them"
        raise InvalidRequest(msg, field=at)
    if entry in unnamed:
        msg = (
            f"the tensors of {entry!r} have no names, so their layers are not known; copy them into the model and save "
            "`model.state_dict()`"
        )
        raise ModelNotLoadable(msg, field=at)
    if place in sets:
        there = [found for found in candidates if found.place == place]
        raise _misfit(exact[0] if exact else there[0], there, problems, field)
    names = fitting or candidates
    msg = f"the file has no {entry!r}; set `entry` to one of: {_listed((found.entry for found in names), most=20)}"
    raise InvalidRequest(msg, field=at)


def _nearest(candidates: list[Candidate], own: Mapping[str, Tensor]) -> Candidate:
    """The set that shares most names with the architecture; the first of several."""
    return max(candidates, key=lambda found: sum(name in found.tensors for name in own))


def _misfit(found: Candidate, candidates: list[Candidate], problems: Mapping[str, str], field: str) -> ModelNotLoadable:
    where = "" if found.entry == ROOT else f" in {found.entry!r}"
    others = sorted({one.place or ROOT for one in candidates} - {found.place or ROOT})
    also = f" The file also holds {_listed(others)}, which fit less." if others else ""
    msg = (
        f"the weights{where} do not fit the architecture ({problems[found.entry]}); check name, classes and args.{also}"
    ).removesuffix(".")
    return ModelNotLoadable(msg, field=field)


def _same(one: Candidate, other: Candidate, own: Mapping[str, Tensor]) -> bool:
    pairs = ((one.tensors[name], other.tensors[name]) for name in own if name in one.tensors and name in other.tensors)
    return all(torch.equal(a, b) for a, b in pairs)


def _notes(chosen: Candidate, own: Mapping[str, Tensor]) -> tuple[str, ...]:
    said = []
    if chosen.place:
        said.append(f"they were read from {chosen.place!r}")
    if chosen.prefix:
        said.append(f"the prefix {chosen.prefix!r} was removed from their names")
    if chosen.unwrapped:
        said.append("marks of torch.compile or FSDP were removed from their names")
    left = [*(name for name in chosen.tensors if name not in own), *chosen.outside]
    if left:
        said.append(f"{len(left)} tensors of the same set were left out ({_listed(left)})")
    return (f"names of the weights in the checkpoint: {', and '.join(said)}",) if said else ()


def _listed(names: Iterable[str], *, most: int = NAMED) -> str:
    found = [name or ROOT for name in names]
    return ", ".join(found[:most]) + (", ..." if len(found) > most else "")
