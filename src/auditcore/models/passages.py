"""Passages: layers that everything on the way to the logits passes through, and which of them Grad-CAM reads.

A convolution inside a residual block, a branch, a shortcut or a gate contains only a part of what the logits depend on:
the rest flows around it. The output of a whole block contains everything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from auditcore.contracts.input_shape import InputShape
from auditcore.models.feature_maps import Layout, grid_reaches_logits_around, token_grid

_WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
"""Layers that count toward the depth of a network."""


@final
@dataclass(frozen=True)
class Flow:
    """A layer's place in the flow from the image to the logits.

    Attributes:
        name: Path of the layer.
        value: Number of the layer's output tensor, counted from the logits, if nothing flows around it; else None. A
            block and its last layer have the same output tensor.
        runs: How often it runs.
        shape: Shape of its output for one image.
        prefix: Number of tokens before the grid, such as a class token; these carry a part of the flow.
        computes: Whether it computes something at each position: it has weights or is an activation. Others, such as
            pooling, dropout and a change of layout, pass on what an earlier layer computed.
    """

    name: str
    value: int | None
    runs: int
    shape: tuple[int, ...]
    prefix: int
    computes: bool


@dataclass
class _Run:
    """How often a layer runs, and the autograd nodes of the input and output of its last run."""

    count: int = 0
    given: tuple[tuple[int, ...], Any] | None = None
    node: Any = None
    shape: tuple[int, ...] = ()
    computes: bool = False


def flow_through(
    module: nn.Module, layouts: Mapping[str, Layout], *, shape: InputShape, device: torch.device
) -> tuple[Flow, ...]:
    """Return the flow through each feature layer, in the order of their last runs.

    This uses the autograd graph of one pass: nothing flows around a layer if every path from the logits to the image
    passes its node. For a layer that runs more than once, something may flow around each of its runs.

    Args:
        module: The network.
        layouts: Its feature layers.
        shape: Channels, height and width of the input.
        device: Device of the network.
    """
    runs = {name: _Run() for name in layouts}

    def begin(name: str, inputs: tuple[object, ...]) -> None:
        # recorded before the layer runs, because an activation may work in place
        given = inputs[0] if inputs else None
        runs[name].given = (tuple(given.shape), given.grad_fn) if isinstance(given, Tensor) else None

    def end(name: str, layer: nn.Module, output: Tensor) -> None:
        run = runs[name]
        run.count += 1
        run.node, run.shape = output.grad_fn, tuple(output.shape)
        run.computes = _computes(layer, run)

    handles = []
    for name in runs:
        layer = module.get_submodule(name)
        handles += [
            layer.register_forward_pre_hook(lambda _layer, inputs, name=name: begin(name, inputs)),
            layer.register_forward_hook(lambda layer, _inputs, output, name=name: end(name, layer, output)),
        ]
    try:
        with torch.enable_grad():
            image = torch.zeros(1, *shape, device=device).requires_grad_().clone()
            # `forward` itself, without hooks: the ledger of passes must not count this pass
            logits = module.forward(image)
    finally:
        for handle in handles:
            handle.remove()
    numbers = {node: number for number, node in enumerate(_cut_nodes(logits.grad_fn, image.grad_fn))}
    return tuple(
        Flow(
            name=name,
            value=numbers.get(run.node) if run.count == 1 else None,
            runs=run.count,
            shape=run.shape,
            prefix=_prefix(run, layouts[name], shape),
            computes=run.computes,
        )
        for name, run in runs.items()
    )


def last_map(
    module: nn.Module,
    layouts: Mapping[str, Layout],
    flows: Sequence[Flow],
    reaching: Collection[str],
    *,
    shape: InputShape,
) -> str | None:
    """Return the last feature map that nothing flows around on the way to the logits; None if there is none.

    Of several layers with the same output tensor, it is the outermost: a block, not its last layer. If logits are read
    from a class token, the last block still reads positions at its input; that token grid is returned, without the
    class token. The patch embedding, or the common stem of several separate networks, is never returned: it says little
    about the decision.

    Args:
        module: The network.
        layouts: Its feature layers.
        flows: Result of `flow_through`.
        reaching: Layers whose positions the logits depend on.
        shape: Channels, height and width of the input.
    """
    chosen = _outermost_of_last([flow for flow in flows if flow.computes and flow.name in reaching])
    if chosen is None:
        return None
    place = flows.index(chosen) + 1
    weighted = [isinstance(module.get_submodule(flow.name), _WEIGHTED) for flow in flows]
    if sum(weighted[:place]) <= 1 < sum(weighted):
        return None
    if chosen.prefix == 0:
        return chosen.name
    later = flows[place:]
    entrance = next(
        (
            flow.name
            for flow in later
            if (flow.runs, flow.shape) == (1, chosen.shape) and flow.value != chosen.value and flow.name in reaching
        ),
        None,
    )
    if entrance is None or grid_reaches_logits_around(
        module, entrance, start=chosen.name, layouts=layouts, shape=shape
    ):
        return chosen.name
    return entrance


def _prefix(run: _Run, layout: Layout, shape: InputShape) -> int:
    """Tokens before the grid of a layer's last output."""
    found = token_grid(run.shape[1], shape) if layout == "tokens" and run.count else None
    return 0 if found is None else found.prefix


def _outermost_of_last(flows: Sequence[Flow]) -> Flow | None:
    """Return the flow nearest to the logits; of several, the first one with the shortest path."""
    last = min((flow.value for flow in flows if flow.value is not None), default=None)
    same = [flow for flow in flows if flow.value is not None and flow.value == last]
    return min(same, key=lambda flow: flow.name.count("."), default=None)


def _computes(layer: nn.Module, run: _Run) -> bool:
    if next(layer.parameters(), None) is not None:
        return True
    if run.given is None or "pool" in type(layer).__name__.lower():
        return False
    shape, node = run.given
    # dropout and identities return the same tensor
    return shape == run.shape and node is not run.node


def _cut_nodes(start: Any, goal: Any) -> list[Any]:  # noqa: ANN401 - nodes of autograd have no public type
    """Return the nodes that every path from one node of a graph to another passes, in the order of the paths."""
    order = _topological(start, goal)
    place = {node: number for number, node in enumerate(order)}
    furthest = 0
    cuts = []
    for number, node in enumerate(order):
        # no edge that begins before this node ends after it
        if furthest <= number:
            cuts.append(node)
        furthest = max([furthest, *(place[following] for following in _following(node) if following in place)])
    return cuts


def _topological(start: Any, goal: Any) -> list[Any]:  # noqa: ANN401
    """Return the nodes on any path from one node to another, in topological order."""
    leads: dict[Any, bool] = {goal: True}
    finished = [goal]
    ahead: list[tuple[Any, bool]] = [(start, False)] if start is not None and goal is not None else []
    while ahead:
        node, entered = ahead.pop()
        if entered:
            leads[node] = any(leads[following] for following in _following(node))
            if leads[node]:
                finished.append(node)
        elif node not in leads:
            leads[node] = False
            ahead.append((node, True))
            ahead += [(following, False) for following in _following(node) if following not in leads]
    return finished[::-1] if leads.get(start) else []


def _following(node: Any) -> Iterable[Any]:  # noqa: ANN401
    return [following for following, _ in node.next_functions if following is not None]
