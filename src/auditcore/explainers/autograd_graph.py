"""The operations that autograd records during a pass.

A rule for an operation works on every model that uses the operation, whether it is a layer, a function or part of a
compiled program, and needs no trace of the model. What autograd calls `GeluBackward0` is the operation `Gelu` here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

_VERSION = re.compile(r"Backward\d*$")

MOVES = frozenset(
    {
        *("Alias", "Clone", "Expand", "Permute", "ReshapeAlias", "Squeeze", "ToCopy", "Transpose", "UnsafeView"),
        *("Unsqueeze", "View"),
    }
)
"""Operations of one input that keep every value and only change shape, order or precision."""


def operation(node: Node) -> str:
    """Return the name of an operation, such as `Gelu` or `NativeLayerNorm`."""
    return _VERSION.sub("", node.name())


def inputs_of(node: Node) -> list[Node]:
    """Return the operations whose results an operation reads and that depend on the image."""
    return [source for source, _ in node.next_functions if source is not None]


def reads(node: Node, position: int) -> bool:
    """Return whether the input at a position depends on the image; parameters and constants do not."""
    return position < len(node.next_functions) and node.next_functions[position][0] is not None


def saved(node: Node, name: str) -> Any:  # noqa: ANN401 - a tensor, a number or a text
    """Return what autograd keeps of an operation for its gradient; tensors without their own graph."""
    value = getattr(node, f"_saved_{name}")
    return value.detach() if isinstance(value, Tensor) else value


def origin(node: Node | None) -> Node | None:
    """Return the operation that computed the values that a chain of moves passes on."""
    while node is not None and operation(node) in MOVES:
        node = next(iter(inputs_of(node)), None)
    return node


def operations_before(result: Tensor, follow: Callable[[Node], Sequence[Node]] = inputs_of) -> list[Node]:
    """Return the operations that lead to a tensor, each after all operations that it reads.

    Args:
        result: The tensor; it depends on a tensor that requires a gradient.
        follow: The inputs of an operation that count.
    """
    found: list[Node] = []
    seen: set[Node] = set()
    ahead = [] if result.grad_fn is None else [(result.grad_fn, False)]
    while ahead:
        node, entered = ahead.pop()
        if entered:
            found.append(node)
        elif node not in seen:
            seen.add(node)
            ahead.append((node, True))
            ahead += [(source, False) for source in follow(node) if source not in seen]
    return found


@contextmanager
def recording(*, attention_matrices: bool) -> Iterator[None]:
    """Let PyTorch record every operation of a pass by itself.

    TorchScript would record several as one, and fused attention never forms the attention matrix.

    Args:
        attention_matrices: Whether attention must form its matrix. This takes more memory.
    """
    # torch.jit does not list it, though its documentation does
    unfused = torch.jit.optimized_execution(False)  # type: ignore[attr-defined] # noqa: FBT003 - it takes no keyword
    with torch.enable_grad(), unfused:
        if attention_matrices:
            with sdpa_kernel(SDPBackend.MATH):
                yield
        else:
            yield


def structural_pass(module: nn.Module, image: Tensor) -> Tensor:
    """Return logits of a pass of which only the structure matters.

    Parameters that are all zero, such as those of a new head, get random values during the pass: a zero would hide that
    something depends on the image.

    Args:
        module: The network.
        image: (N,C,H,W) normalized images.
    """
    generator = torch.Generator().manual_seed(0)
    filled = {
        name: torch.randn(parameter.shape, generator=generator).to(parameter)
        for name, parameter in module.named_parameters()
        if not parameter.count_nonzero()
    }
    if not filled or isinstance(module, torch.jit.ScriptModule):
        logits: Tensor = module(image)
        return logits
    found: Tensor = functional_call(module, filled, (image,))
    return found
