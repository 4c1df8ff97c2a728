"""From a module to a torch.fx graph whose leaves are layers, also when a convolution is subclassed."""

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
"""Name under which the traced model hangs below the entry module; all paths begin with it."""


READ_POINTS = "read_points"
"""Name under which steps hang that hand on what a container gives, one for each container that will be read."""


class ReadPoint(nn.Module):
    """Hands on what it is given: the step of a graph at which the output of a container can be read."""

    def forward(self, output: Tensor) -> Tensor:
        """The same tensor."""
        return output


class _Entry(nn.Module):
    """Calls the model with the image alone, so that optional arguments keep their defaults instead of being traced."""

    def __init__(self, model: nn.Module, read: Sequence[str]) -> None:
        super().__init__()
        self.add_module(ENTRY, model)
        self.add_module(READ_POINTS, nn.ModuleList(ReadPoint() for _ in read))

    def forward(self, image: object) -> object:
        # an image, or its symbol while tracing
        return self.get_submodule(ENTRY)(image)


class _LayerTracer(fx.Tracer):
    """Keeps the given modules whole, besides everything of torch.nn."""

    def __init__(self, leaves: set[nn.Module]) -> None:
        super().__init__()
        self._leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether `m` becomes one node of the graph."""
        return m in self._leaves or super().is_leaf_module(m, module_qualified_name)


def trace(module: nn.Module, example: Tensor, *, read: Sequence[str] = ()) -> fx.GraphModule:
    """The graph of `module`, with the shape of every value in `node.meta["tensor_meta"]`.

    torch.fx traces through subclasses of torch.nn layers, such as convolutions with "same" padding; no rule
    would then reach them. They are kept as leaves where they compute what their class promises.

    Args:
        module: A model in evaluation mode.
        example: An input it accepts.
        read: Layers whose output will be read. What a container among them gives passes a `ReadPoint`, since the graph
            has no step for the container itself; see `calls_of`.

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
    # foreign code runs on symbolic values here, so any exception may come out of it
    except Exception as error:
        msg = f"the model's forward cannot be traced into a graph of layers by torch.fx: {error}"
        raise NotApplicable(msg) from error
    _order_arguments(traced.graph)
    traced.recompile()
    return traced


def calls_of(model: fx.GraphModule, name: str, *, read: Sequence[str]) -> list[fx.Node]:
    """Steps of a graph that give what a layer of the traced model gives, one for each time that it runs.

    Args:
        model: What `trace` returned.
        name: Path of the layer, one of `read`.
        read: As given to `trace`.
    """
    places = {f"{ENTRY}.{name}", f"{READ_POINTS}.{list(read).index(name)}"}
    return [node for node in model.graph.nodes if node.op == "call_module" and node.target in places]


@contextmanager
def _read_points(entry: nn.Module, read: Sequence[str]) -> Iterator[None]:
    """Inside the block, what containers give passes their read points; leaves of the graph run no hooks there."""
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
    """Give inputs that layers are given by name, `layer(input=x)`, by position: rewrites and rules look there."""
    for node in graph.nodes:
        if node.op == "call_module" and not node.args and "input" in node.kwargs:
            node.args = (node.kwargs["input"],)
            node.kwargs = {name: value for name, value in node.kwargs.items() if name != "input"}


def _subclassed_linear_layers(entry: nn.Module, example: Tensor) -> set[nn.Module]:
    """Subclasses of linear layers whose output is linear in weight and bias.

    One that standardizes its weights or ends with an activation is left to be traced through: as a leaf it would
    hide from the rules what it really does.
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
    """Whether -2 times the parameters give -2 times the output, which no rectifier and no normalization survives."""
    parameters = dict(layer.named_parameters(recurse=False))
    once = layer(*inputs)
    scaled = functional_call(layer, {name: -2 * value for name, value in parameters.items()}, inputs)
    tolerance = 1e-4 * float(once.abs().amax()) + 1e-12
    return bool((scaled + 2 * once).abs().amax() <= tolerance)
