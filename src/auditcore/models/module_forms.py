"""Modules that compute the same function as a model in another way, each made when it is first needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import final

import torch
from torch import nn

from auditcore.contracts.input_shape import InputShape
from auditcore.errors import NotApplicable
from auditcore.models.canonical import canonicalize
from auditcore.models.folding import Folded, fold
from auditcore.models.foreign_code import raised_by_a_signal, said
from auditcore.models.pass_ledger import PassLedger

MOST_READABLE = 3
"""Copies folded around layers that are kept; the oldest goes first. Each holds all weights of the model."""


@final
class ModuleForms:
    """The forms of one module: folded, folded around layers, canonical. All count their passes in one ledger."""

    def __init__(
        self,
        module: nn.Module,
        *,
        shape: InputShape,
        ledger: PassLedger,
        memory_format: torch.memory_format = torch.channels_last,
        folded: nn.Module | None = None,
        canonical_of: ModuleForms | None = None,
    ) -> None:
        """Remember the module; nothing is made yet.

        Args:
            module: The network itself.
            shape: Channels, height and width of the input.
            ledger: Counts the passes of forms that are made here.
            memory_format: Layout in memory of the kernels of all forms.
            folded: Takes the place of a folded copy, so that nothing is folded; the module is folded if None.
            canonical_of: Forms of another module whose canonical form serves this one too.
        """
        self._module = module
        self._shape = shape
        self._ledger = ledger
        self._memory_format = memory_format
        self._given = folded
        self._canonical_of = canonical_of
        self._readable: dict[tuple[str, ...], Folded] = {}
        self._why_not_canonical: str | None = None

    @cached_property
    def folded(self) -> nn.Module:
        """The form with fewer operations, for passes of which only logits and input gradients are read.

        The module itself where torch.fx cannot trace it.
        """
        if self._given is not None:
            return self._given
        try:
            # what is created in inference mode could never be differentiated
            with torch.inference_mode(mode=False), _rewriting():
                module = fold(self._module, shape=self._shape, memory_format=self._memory_format).module
        except NotApplicable:
            return self._module
        self._ledger.attach(module)
        return module

    def readable(self, layers: Sequence[str]) -> Folded:
        """The form for passes that read outputs of layers too: folded around these layers where that is possible.

        Folding moves batch normalization into the output of some layers, so the layers that are read stay as they are.
        The module itself where it cannot be folded, or where another module was given as the folded one.
        """
        key = tuple(layers)
        if self._given is not None or self.folded is self._module:
            return Folded(self._module, {name: name for name in key})
        if key not in self._readable:
            try:
                with torch.inference_mode(mode=False), _rewriting():
                    found = fold(self._module, shape=self._shape, keep=key, memory_format=self._memory_format)
                self._ledger.attach(found.module)
            except NotApplicable:
                found = Folded(self._module, {name: name for name in key})
            # requests name layers, so their number is not bounded otherwise
            if len(self._readable) >= MOST_READABLE:
                self._readable.pop(next(iter(self._readable)))
            self._readable[key] = found
        return self._readable[key]

    @cached_property
    def canonical(self) -> nn.Module:
        """The form for rules that replace the gradient of single layers.

        Raises:
            NotApplicable: The model's forward cannot be traced into a graph.
        """
        if self._canonical_of is not None:
            return self._canonical_of.canonical
        # a property that raises is not cached, and a second attempt would cost as much as the first
        if self._why_not_canonical is not None:
            raise NotApplicable(self._why_not_canonical)
        try:
            with _rewriting():
                module = canonicalize(self._module, shape=self._shape, memory_format=self._memory_format)
        except NotApplicable as error:
            self._why_not_canonical = error.message
            raise
        self._ledger.attach(module)
        return module


@contextmanager
def _rewriting() -> Iterator[None]:
    """Turn every failure of rewriting a foreign model inside the block into a reason.

    Raises:
        NotApplicable: Rewriting failed.
    """
    try:
        yield
    except (NotApplicable, torch.OutOfMemoryError, MemoryError):
        raise
    # code of the model runs on symbols and on copies here, so any exception may come out of it
    except Exception as error:
        if raised_by_a_signal(error):
            raise
        msg = f"the model cannot be converted to another form: {said(error)}"
        raise NotApplicable(msg) from error
