"""Trace a module into a torch.fx graph whose leaves are layers, including subclassed convolutions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.fx.passes.shape_prop import ShapeProp

from auditcore.errors import NotApplicable

LINEAR_LAYERS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
)
"""Layers whose output is affine in their input and linear in (weight, bias)."""

ENTRY = "model"
"""Name of the traced model below the entry module; all paths begin with it."""


READ_POINTS = "read_points"
"""Name of the list of read points, one for each container whose output will be read."""


class ReadPoint(nn.Module):
    """An identity: the node of a graph at which the output of a container can be read."""

    def forward(self, output: Tensor) -> Tensor:
        """Return the same tensor."""
        return output


class _Entry(nn.Module):
    """Calls the model with only the image, so that optional arguments keep their defaults and are not traced."""

    def __init__(self, model: nn.Module, read: Sequence[str]) -> None:
        super().__init__()
        self.add_module(ENTRY, model)
        self.add_module(READ_POINTS, nn.ModuleList(ReadPoint() for _ in read))

    def forward(self, image: object) -> object:
        # an image, or its symbol while tracing
        return self.get_submodule(ENTRY)(image)


class _LayerTracer(fx.Tracer):
    """A tracer that treats the given modules as leaves, in addition to those of torch.nn."""

    def __init__(self, leaves: set[nn.Module]) -> None:
        super().__init__()
        self._leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether `m` becomes one node of the graph."""
        return m in self._leaves or super().is_leaf_module(m, module_qualified_name)


def trace(module: nn.Module, example: Tensor, *, read: Sequence[str] = ()) -> fx.GraphModule:
    """Return the graph of `module`, with the shape of every value in `node.meta["tensor_meta"]`.

    torch.fx traces through subclasses of torch.nn layers, such as convolutions with "same" padding, and rules could
    then not reach them. They are kept as leaves if they compute what their base class computes.

    Args:
        module: A model in evaluation mode.
        example: A valid input.
        read: Layers whose output will be read. The output of a container passes a `ReadPoint`, because the graph has no
            node for the container itself; see `calls_of`.

    Raises:
        NotApplicable: The forward depends on values or calls something that torch.fx cannot follow.
    """
    entry = _Entry(module, read)
    try:
        leaves = _subclassed_linear_layers(entry, example) | set(entry.get_submodule(READ_POINTS).children())
        with _read_points(entry, read):
            graph = _LayerTracer(leaves).trace(entry)
        traced = fx.GraphModule(entry, graph)
        ShapeProp(traced).propagate(example)
    # the model's own code runs on symbolic values here and may raise any exception
    except Exception as error:
        msg = f"the model's forward cannot be traced into a graph of layers by torch.fx: {error}"
        raise NotApplicable(msg) from error
    _order_arguments(traced.graph)
    traced.recompile()
    return traced


def calls_of(model: fx.GraphModule, name: str, *, read: Sequence[str]) -> list[fx.Node]:
    """Return the nodes of a graph that compute a layer's output, one per run of the layer.

    Args:
        model: Result of `trace`.
        name: Path of the layer, one of `read`.
        read: The same argument as for `trace`.
    """
    places = {f"{ENTRY}.{name}", f"{READ_POINTS}.{list(read).index(name)}"}
    return [node for node in model.graph.nodes if node.op == "call_module" and node.target in places]


@contextmanager
def _read_points(entry: nn.Module, read: Sequence[str]) -> Iterator[None]:
    """Send the outputs of containers through their read points inside the block; leaves of the graph run no hooks."""
    layers = dict(entry.named_modules(remove_duplicate=False))
    points = entry.get_submodule(READ_POINTS).children()
    handles = [
        layers[f"{ENTRY}.{name}"].register_forward_hook(lambda _layer, _inputs, output, at=at: at(output))
        for name, at in zip(read, points, strict=True)
        if f"{ENTRY}.{name}" in layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _order_arguments(graph: fx.Graph) -> None:
    """Convert inputs passed by name, `layer(input=x)`, to positional ones, where rewrites and rules expect them."""
    for node in graph.nodes:
        if node.op == "call_module" and not node.args and "input" in node.kwargs:
            node.args = (node.kwargs["input"],)
            node.kwargs = {name: value for name, value in node.kwargs.items() if name != "input"}


def _subclassed_linear_layers(entry: nn.Module, example: Tensor) -> set[nn.Module]:
    """Return the subclassed linear layers whose output is linear in weight and bias.

    A layer that standardizes its weights or ends with an activation is traced through: as a leaf, it would hide its
    actual operations from the rules.
    """
    inputs: dict[nn.Module, tuple[Tensor, ...]] = {}
    candidates = [
        layer for layer in entry.modules() if isinstance(layer, LINEAR_LAYERS) and type(layer) not in LINEAR_LAYERS
    ]
    handles = [layer.register_forward_pre_hook(inputs.__setitem__) for layer in candidates]
    try:
        entry(example)
    finally:
        for handle in handles:
            handle.remove()
    return {layer for layer, received in inputs.items() if _is_linear_in_parameters(layer, received)}


def _is_linear_in_parameters(layer: nn.Module, inputs: tuple[Tensor, ...]) -> bool:
    """Return whether -2 times the parameters give -2 times the output, which rectifiers and normalizations do not."""
    parameters = dict(layer.named_parameters(recurse=False))
    once = layer(*inputs)
    scaled = functional_call(layer, {name: -2 * value for name, value in parameters.items()}, inputs)
    tolerance = 1e-4 * float(once.abs().amax()) + 1e-12
    return bool((scaled + 2 * once).abs().amax() <= tolerance)
