"""Canonical form: a model is rewritten, without changing its function, so that rules for layers reach every layer.

Methods that replace the gradient of a layer (guided backpropagation, deconvolution, layer-wise relevance
propagation) hook modules. They give wrong results, without an error, on operators that are not modules, modules that
are called twice, in-place activations and batch normalization: without canonical form, the relevance of a ResNet-50
sums to 65 536 times its output. See definitions, section 11.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Collection, Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import TensorMetadata
from torch.nn.utils import fusion, parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torchvision.ops import StochasticDepth, stochastic_depth

from auditcore.contracts.input_shape import InputShape
from auditcore.errors import NotApplicable
from auditcore.models.foreign_code import copied
from auditcore.models.layers import Addition, Gate, SpatialMean
from auditcore.models.tracing import ENTRY, LINEAR_LAYERS, trace

RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU)
"""Piecewise linear activations that block or reduce negative values."""

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
IDENTITIES = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, StochasticDepth)
_GATING = (nn.Sigmoid, nn.Hardsigmoid, nn.Softmax)

_RELATIVE_TOLERANCE = 1e-3
"""Largest allowed deviation, relative to the largest logit; merging batch normalization changes about 1e-6."""


def canonicalize(
    module: nn.Module, *, shape: InputShape, memory_format: torch.memory_format = torch.channels_last
) -> nn.Module:
    """Return a deep copy of `module` with the same function, in canonical form.

    Functional activations, additions, products and poolings become modules. Every module is called once, never in
    place. Dropout and similar layers are removed. Batch normalization directly after a linear layer is merged into it.
    Any other batch normalization stays a module: it has one input per output, so all relevance belongs to that input.
    Modules are registered in execution order, so that rules for the first layer find it.

    Args:
        module: A classifier of (N,C,H,W) images in evaluation mode.
        shape: Channels, height and width of its input.
        memory_format: Layout in memory of the result's kernels.

    Raises:
        NotApplicable: torch.fx cannot trace the forward, or the rewritten model does not give the same output.
    """
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    # on the CPU, which computes in full float32: with an accelerator's reduced precision, the check at the end is vague
    module = copied(module).cpu().eval().requires_grad_(requires_grad=False)
    example = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = module(example.clone())
        settle(module)
        model = trace(module, example)
        unshare(model)
        for rewrite in (
            drop_assertions,
            drop_identities,
            _name_activations,
            name_batch_norms,
            _name_poolings,
            _name_additions,
            _name_products,
            merge_batch_norms,
        ):
            rewrite(model)
        canonical = in_execution_order(model).eval().requires_grad_(requires_grad=False)
        require_same(canonical(example), expected)
    return laid_out(canonical.to(device), memory_format)


def laid_out(module: nn.Module, memory_format: torch.memory_format) -> nn.Module:
    """Convert kernels to a memory format and return the module; convolutions are fastest in channels last.

    `Module.to` would also try to convert tensors with five dimensions, such as attention masks, and fail.
    """
    for value in (*module.parameters(), *module.buffers()):
        if value.ndim == 4:  # noqa: PLR2004 - (out, in, height, width)
            value.data = value.data.contiguous(memory_format=memory_format)
    return module


def rectifiers(canonical: nn.Module) -> list[str]:
    """Return the names of the ReLU, ReLU6 and LeakyReLU layers on the signal path.

    Rectifiers that are only inside the gate of a squeeze-excitation block are not on the signal path.
    """
    graph_module = _as_graph(canonical)
    return [
        str(node.target)
        for node in signal_path(graph_module)
        if isinstance(called_module(graph_module, node), RECTIFIERS)
    ]


def signal_path(canonical: nn.Module) -> list[fx.Node]:
    """Return the nodes that carry the image's signal to the logits, in execution order, without branches of gates.

    Raises:
        TypeError: `canonical` was not made by `canonicalize`.
    """
    graph_module = _as_graph(canonical)
    alive = _alive(graph_module.graph)
    carrying: set[fx.Node] = set()
    pending = [node for node in graph_module.graph.nodes if node.op == "output"]
    while pending:
        node = pending.pop()
        # sizes computed from the image carry no signal
        if node in carrying or node not in alive or (node.op != "output" and "tensor_meta" not in node.meta):
            continue
        carrying.add(node)
        sources = node.all_input_nodes
        if isinstance(called_module(graph_module, node), Gate):
            sources = [source for source in sources if source is node.args[0]]
        pending.extend(sources)
    return [node for node in graph_module.graph.nodes if node in carrying]


def called_module(canonical: nn.Module, node: object) -> nn.Module | None:
    """Return the module that a node calls, or None if the node calls no module."""
    if isinstance(node, fx.Node) and node.op == "call_module":
        return canonical.get_submodule(str(node.target))
    return None


def _as_graph(canonical: nn.Module) -> fx.GraphModule:
    if not isinstance(canonical, fx.GraphModule):
        msg = f"expected a canonical model, got {type(canonical).__name__}"
        raise TypeError(msg)
    return canonical


def settle(module: nn.Module) -> None:
    """Replace parametrized, normalized and pruned weights by their current values and turn off in-place operation."""
    for layer in module.modules():
        for key, hook in list(layer._forward_pre_hooks.items()):  # noqa: SLF001 - as torch.nn.utils itself finds them
            # `weight_norm` and `spectral_norm` of earlier versions of PyTorch compute the weight before each pass
            if isinstance(hook, (WeightNorm, SpectralNorm)):
                hook(layer, ())
                value = getattr(layer, hook.name).detach().clone()
                del layer._forward_pre_hooks[key]  # noqa: SLF001
                delattr(layer, hook.name)
                layer.register_parameter(hook.name, nn.Parameter(value, requires_grad=False))
            elif isinstance(hook, BasePruningMethod):
                hook.remove(layer)
                del layer._forward_pre_hooks[key]  # noqa: SLF001
        if parametrize.is_parametrized(layer):
            values = {name: getattr(layer, name).detach() for name in cast("nn.ModuleDict", layer.parametrizations)}
            # remove_parametrizations would change the class, which a deep copy shares with its original
            layer.__class__ = parametrize.type_before_parametrizations(layer)
            del layer.parametrizations
            for name, value in values.items():
                layer.register_parameter(name, nn.Parameter(value, requires_grad=False))
        if hasattr(layer, "inplace"):
            setattr(layer, "inplace", False)  # noqa: B010 - the class is unknown


def unshare(model: fx.GraphModule) -> None:
    """Give every call its own module object; parameters stay shared."""
    seen: set[str] = set()
    for node in _nodes(model, "call_module"):
        path = str(node.target)
        if path in seen:
            original = model.get_submodule(path)
            shared = {id(value): value for value in (*original.parameters(), *original.buffers())}
            path = _fresh_path(model, path)
            model.add_submodule(path, copy.deepcopy(original, shared))
            node.target = path
        seen.add(path)


def drop_assertions(model: fx.GraphModule) -> None:
    """Remove shape assertions: they held while tracing, and would count as users of the values they check."""
    for node in _nodes(model, "call_function"):
        if node.target is torch._assert:  # noqa: SLF001 - the function that models call to assert while they are traced
            model.graph.erase_node(node)
    model.graph.eliminate_dead_code()


def drop_identities(model: fx.GraphModule) -> None:
    """Remove what returns its input in evaluation mode: dropout, similar layers, and conversions to the same type."""
    for node in _nodes(model):
        if _calls(node, "float", "to", "type") and _type_of(node) == _type_of(node.args[0]) is not None:
            _erase(model, node, by=node.args[0])
        elif isinstance(called_module(model, node), IDENTITIES) or (
            node.op == "call_function" and node.target in {F.dropout, F.dropout2d, stochastic_depth}
        ):
            # a dropout that is forced on would not return its input; the check at the end finds that
            _erase(model, node, by=node.args[0])
        elif _calls(node, operator.add, torch.add, "add") and 0 in node.args:
            # sum([a, b]) starts with 0 + a
            _erase(model, node, by=next(argument for argument in node.args if argument != 0))


def _name_activations(model: fx.GraphModule) -> None:
    for node in _nodes(model):
        layer = called_module(model, node)
        if type(layer) is nn.Hardtanh:
            activation: nn.Module | None = _hardtanh(layer.min_val, layer.max_val)
        elif node.op in {"call_function", "call_method"} and node.target in _ACTIVATIONS:
            activation = _ACTIVATIONS[node.target](node)
        else:
            continue
        if activation is not None:
            _replace(model, node, activation, node.args[0] if node.args else node.kwargs["input"])


def name_batch_norms(model: fx.GraphModule) -> None:
    """Replace functional batch normalization with stored statistics, as in subclassed layers, by modules."""
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    for node in _nodes(model, "call_function"):
        if node.target is not F.batch_norm:
            continue
        given = dict(zip(names, node.args, strict=False)) | node.kwargs
        mean, variance = _constant(model, given["running_mean"]), _constant(model, given["running_var"])
        if mean is None or variance is None or given.get("training"):
            continue
        dimensions = len(_shape(node) or ())
        layer_class = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}.get(dimensions)
        if layer_class is None:
            continue
        layer = layer_class(len(mean), eps=cast("float", given.get("eps", 1e-5))).to(mean)
        layer.running_mean, layer.running_var = mean, variance
        for name in ("weight", "bias"):
            value = _constant(model, given.get(name))
            if value is not None:
                getattr(layer, name).copy_(value)
        _replace(model, node, layer.eval(), given["input"])


def _name_poolings(model: fx.GraphModule) -> None:
    for node in _nodes(model):
        layer: nn.Module | None = None
        if _calls(node, F.adaptive_avg_pool2d):
            layer = nn.AdaptiveAvgPool2d(_argument(node, 1, "output_size", 1))
        elif _calls(node, F.avg_pool2d):
            kernel = _argument(node, 1, "kernel_size", None)
            layer = nn.AvgPool2d(
                kernel,
                _argument(node, 2, "stride", None) or kernel,
                _argument(node, 3, "padding", 0),
                _argument(node, 4, "ceil_mode", default=False),
                _argument(node, 5, "count_include_pad", default=True),
                _argument(node, 6, "divisor_override", None),
            )
        elif _calls(node, F.max_pool2d, torch.max_pool2d) and not _argument(node, 6, "return_indices", default=False):
            layer = nn.MaxPool2d(
                _argument(node, 1, "kernel_size", None),
                _argument(node, 2, "stride", None),
                _argument(node, 3, "padding", 0),
                _argument(node, 4, "dilation", 1),
                ceil_mode=_argument(node, 5, "ceil_mode", default=False),
            )
        elif _calls(node, torch.mean, "mean"):
            dimensions = _argument(node, 1, "dim", None)
            source = _shape(node.args[0] if node.args else None)
            if (
                source is not None
                and len(source) == 4  # noqa: PLR2004 - (N,C,H,W)
                and isinstance(dimensions, (tuple, list))
                and {dimension % 4 for dimension in dimensions} == {2, 3}
            ):
                layer = SpatialMean(keep_dimensions=bool(_argument(node, 2, "keepdim", default=False)))
        if layer is not None:
            _replace(model, node, layer, node.args[0])


def _name_additions(model: fx.GraphModule) -> None:
    for node in _nodes(model):
        if not _calls(node, operator.add, operator.iadd, torch.add, "add", "add_") or len(node.args) != 2:  # noqa: PLR2004
            continue
        left, right = node.args
        if not node.kwargs and _shape(left) is not None and _shape(left) == _shape(right):
            _replace(model, node, Addition(), left, right)


def _name_products(model: fx.GraphModule) -> None:
    alive = _alive(model.graph)
    for node in _nodes(model):
        # products and quotients of sizes are not of interest
        if node not in alive or len(node.args) != 2 or _shape(node) is None:  # noqa: PLR2004 - two factors
            continue
        left, right = node.args
        if _calls(node, operator.mul, operator.imul, torch.mul, "mul", "mul_"):
            pair = _signal_and_gate(model, alive, left, right)
            if pair is not None:
                alive.add(_replace(model, node, Gate(), *pair))
        elif _calls(node, operator.truediv, operator.itruediv, torch.div, "div", "div_") and isinstance(
            right, (int, float)
        ):
            alive.add(_replace(model, node, Gate(), left, 1 / right))


def _signal_and_gate(
    model: fx.GraphModule, alive: set[fx.Node], left: object, right: object
) -> tuple[object, object] | None:
    """Return which factor is the signal and which only scales it, or None if that is unclear."""
    for signal, gate in ((left, right), (right, left)):
        if signal in alive and gate not in alive:  # a number or a parameter, such as a layer's scale
            return signal, gate
    gating = _is_gate(model, left), _is_gate(model, right)
    if gating == (False, False):
        # one value per channel and a map: attention over channels without a sigmoid
        gating = _is_one_value_per_channel(left, right), _is_one_value_per_channel(right, left)
    return {(True, False): (right, left), (False, True): (left, right)}.get(gating)


def _is_gate(model: fx.GraphModule, node: object) -> bool:
    """Return whether a value comes directly from a bounded activation, with at most reshaping and scaling between."""
    while isinstance(node, fx.Node):
        layer = called_module(model, node)
        if isinstance(layer, _GATING) or _calls(node, F.softmax, torch.softmax, "softmax"):
            return True
        if isinstance(layer, nn.Hardtanh):
            return (layer.min_val, layer.max_val) == (0.0, 1.0) or _adds_three(node.args[0])
        if not (isinstance(layer, Gate) or (node.op == "call_method" and node.target in _RESHAPING)):
            return False
        node = node.args[0]
    return False


def _adds_three(node: object) -> bool:
    """Return whether a value is `x + 3`, as in relu6(x + 3) / 6, the expanded hard sigmoid."""
    return isinstance(node, fx.Node) and _calls(node, operator.add, torch.add, "add") and 3 in node.args  # noqa: PLR2004


def _is_one_value_per_channel(small: object, large: object) -> bool:
    few, many = _shape(small), _shape(large)
    return few is not None and many is not None and few != many and len(few) == 4 and few[2:] == (1, 1)  # noqa: PLR2004


def merge_batch_norms(model: fx.GraphModule, *, keep: Collection[fx.Node] = ()) -> None:
    """Merge batch normalization into the linear layer directly before it, if nothing else reads that layer.

    Args:
        model: The model, which is changed in place.
        keep: Calls of layers whose outputs must not change.
    """
    for node in _nodes(model, "call_module"):
        norm, source = called_module(model, node), node.args[0]
        linear = called_module(model, source)
        if (
            node in keep
            or source in keep
            or not isinstance(norm, _BATCH_NORMS)
            or not isinstance(linear, LINEAR_LAYERS)
            or len(cast("fx.Node", source).users) > 1
            or norm.running_mean is None
            or norm.running_var is None
        ):
            continue
        statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
        weight, bias = linear.weight, linear.bias
        if isinstance(linear, nn.Linear):
            if len(_shape(node) or ()) != 2:  # noqa: PLR2004 - otherwise features are not the normalized axis
                continue
            merged = fusion.fuse_linear_bn_weights(weight, bias, *statistics)
        elif isinstance(linear, _TRANSPOSED):
            if linear.groups > 1:  # output channels of different groups share weight rows
                continue
            merged = fusion.fuse_conv_bn_weights(weight, bias, *statistics, transpose=True)
        else:
            merged = fusion.fuse_conv_bn_weights(weight, bias, *statistics)
        # assigned, not written in place, because calls of one module still share its parameters
        linear.weight, linear.bias = merged
        _erase(model, node, by=source)


def in_execution_order(model: fx.GraphModule) -> fx.GraphModule:
    """Return the same graph with flat modules and tensors, registered in the order of their use."""
    model.graph.eliminate_dead_code()
    parts: dict[str, Any] = {}
    for node in model.graph.nodes:
        if node.op not in {"call_module", "get_attr"}:
            continue
        path = str(node.target)
        name = path.removeprefix(f"{ENTRY}.").replace(".", "_")
        while name in parts and node.op == "call_module":
            name += "_"
        parts[name] = operator.attrgetter(path)(model) if node.op == "get_attr" else model.get_submodule(path)
        node.target = name
    ordered = fx.GraphModule(parts, model.graph, class_name="CanonicalModel")
    ordered.graph.lint()
    return ordered


def require_same(actual: Tensor, expected: Tensor) -> None:
    """Refuse a rewritten model whose logits differ by more than rounding.

    Raises:
        NotApplicable: They differ by more.
    """
    # masked classes are -inf in both
    deviation = float((actual - expected).masked_fill(actual == expected, 0).abs().amax())
    largest = float(expected.masked_fill(~expected.isfinite(), 0).abs().amax())
    if not deviation <= _RELATIVE_TOLERANCE * largest + 1e-6:
        msg = (
            f"the model cannot be converted to canonical form: its logits would change by {deviation:.2g}; "
            "avoid operations that torch.fx cannot follow, such as in-place operations on values that are used again"
        )
        raise NotApplicable(msg)


def _nodes(model: fx.GraphModule, op: str | None = None) -> Iterator[fx.Node]:
    """Iterate over a snapshot of the nodes, because rewriting changes the graph."""
    return (node for node in list(model.graph.nodes) if op is None or node.op == op)


def _alive(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes that depend on the image."""
    alive: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or any(source in alive for source in node.all_input_nodes):
            alive.add(node)
    return alive


def _type_of(node: object) -> torch.dtype | None:
    """The type of the numbers that a node computes, if that is known."""
    meta = node.meta.get("tensor_meta") if isinstance(node, fx.Node) else None
    return getattr(meta, "dtype", None)


def _calls(node: fx.Node, *targets: object) -> bool:
    """Return whether a node calls one of these functions or methods."""
    return node.op in {"call_function", "call_method"} and node.target in targets


def _argument(node: fx.Node, position: int, name: str, default: Any) -> Any:  # noqa: ANN401 - whatever was passed
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _shape(node: object) -> tuple[int, ...] | None:
    """Return the shape of a node's tensor, or None if its value is not a tensor."""
    meta = node.meta.get("tensor_meta") if isinstance(node, fx.Node) else None
    return tuple(meta.shape) if isinstance(meta, TensorMetadata) else None


def _constant(model: fx.GraphModule, node: object) -> Tensor | None:
    """Return the parameter or buffer that a node reads, or None."""
    if isinstance(node, fx.Node) and node.op == "get_attr":
        return cast("Tensor", operator.attrgetter(str(node.target))(model))
    return None


def _fresh_path(model: fx.GraphModule, path: str) -> str:
    number = 2
    while _exists(model, f"{path}_{number}"):
        number += 1
    return f"{path}_{number}"


def _exists(model: nn.Module, path: str) -> bool:
    try:
        model.get_submodule(path)
    except AttributeError:
        return False
    return True


def _replace(model: fx.GraphModule, node: fx.Node, layer: nn.Module, *arguments: object) -> fx.Node:
    """Replace `node` by a call of `layer`."""
    path = _fresh_path(model, f"{ENTRY}.{type(layer).__name__.lower()}")
    model.add_submodule(path, layer)
    with model.graph.inserting_before(node):
        call = model.graph.call_module(path, tuple(cast("Any", arguments)))
    call.meta = dict(node.meta)
    _erase(model, node, by=call)
    return call


def _erase(model: fx.GraphModule, node: fx.Node, *, by: object) -> None:
    node.replace_all_uses_with(cast("fx.Node", by))
    model.graph.erase_node(node)


def _hardtanh(low: object, high: object) -> nn.Module:
    return nn.ReLU6() if (low, high) == (0, 6) else nn.Hardtanh(cast("float", low), cast("float", high))


def _clamp(node: fx.Node) -> nn.Module | None:
    low, high = _argument(node, 1, "min", None), _argument(node, 2, "max", None)
    if low != 0 or high not in {None, 6}:
        return None
    return nn.ReLU() if high is None else nn.ReLU6()


def _leaky_relu(node: fx.Node) -> nn.Module:
    return nn.LeakyReLU(_argument(node, 1, "negative_slope", 0.01))


_ActivationOf = Callable[[fx.Node], nn.Module | None]

_ACTIVATIONS: dict[object, _ActivationOf] = {
    **dict.fromkeys((F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"), lambda _: nn.ReLU()),
    **dict.fromkeys((torch.clamp, torch.clamp_min, "clamp", "clamp_", "clamp_min", "clamp_min_"), _clamp),
    **dict.fromkeys((F.leaky_relu, F.leaky_relu_), _leaky_relu),
    **dict.fromkeys((F.sigmoid, torch.sigmoid, "sigmoid", "sigmoid_"), lambda _: nn.Sigmoid()),
    **dict.fromkeys((F.tanh, torch.tanh, "tanh", "tanh_"), lambda _: nn.Tanh()),
    F.relu6: lambda _: nn.ReLU6(),
    F.hardtanh: lambda node: _hardtanh(_argument(node, 1, "min_val", -1.0), _argument(node, 2, "max_val", 1.0)),
    F.hardsigmoid: lambda _: nn.Hardsigmoid(),
    F.hardswish: lambda _: nn.Hardswish(),
    F.silu: lambda _: nn.SiLU(),
    F.mish: lambda _: nn.Mish(),
    F.gelu: lambda node: nn.GELU(_argument(node, 1, "approximate", "none")),
    F.elu: lambda node: nn.ELU(_argument(node, 1, "alpha", 1.0)),
    F.selu: lambda _: nn.SELU(),
}
"""Function or method name -> the equivalent module; None if the arguments have no equivalent."""

_RESHAPING = {"view", "reshape", "expand", "expand_as", "unsqueeze", "squeeze", "flatten", "transpose", "permute"}
