"""The canonical model with a relevance rule in place of each layer, ready to be differentiated."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import TensorMetadata
from zennit import rules as zennit_rules
from zennit.core import Composite, Hook
from zennit.types import AvgPool, MaxPool

from auditcore.explainers import relevance_rules as rules
from auditcore.explainers.relevance_rules import Rule, Ruled
from auditcore.models.canonical import called_module, signal_path
from auditcore.models.layers import Addition, Gate, SpatialMean
from auditcore.models.tracing import LINEAR_LAYERS

MOVING_LAYERS = (nn.Flatten, nn.Unflatten, nn.ZeroPad2d, nn.ConstantPad2d, nn.ChannelShuffle, nn.PixelShuffle)
"""Layers that only move values: their gradient already passes relevance to the right place."""

MOVING_CALLS = {
    *("contiguous", "chunk", "expand", "flatten", "permute", "reshape", "split", "squeeze", "transpose", "unbind"),
    *("unflatten", "unsqueeze", "view"),
    *(torch.cat, torch.chunk, torch.concat, torch.flatten, torch.permute, torch.reshape, torch.split, torch.squeeze),
    *(torch.transpose, torch.unbind, torch.unsqueeze, torch.channel_shuffle, operator.getitem),
    *(F.pad, F.channel_shuffle),
}
"""Functions and methods that only move values."""

CHOOSING_CALLS = {F.max_pool2d, F.adaptive_max_pool2d}
"""Functions that only choose values, as max pooling layers do: all relevance goes to the value chosen."""

_NONNEGATIVE = (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Hardsigmoid, nn.Softmax, nn.Softplus)
"""Activations without negative values."""

_ZERO_AT_ZERO = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish),
    *(nn.Tanh, nn.Softsign),
)
"""Activations that give 0 for 0."""

_Nodes = set[fx.Node]


def relevance_model(
    canonical: nn.Module, composite: Composite, *, epsilon: float, gamma: float, low: Tensor, high: Tensor
) -> nn.Module:
    """A model of the same function whose input gradient is the relevance that a composite of zennit would give.

    It keeps weights prepared for the rules, and nothing of the images that went through it.

    Args:
        canonical: A product of `canonicalize`.
        composite: Which rule is for which layer. Layers whose rule has no faster form here keep zennit's.
        epsilon: Of the composite's epsilon rule; its hooks do not show it.
        gamma: Of the gamma rule.
        low: Lower bounds of the box.
        high: Upper bounds of the box.
    """
    graph_module = cast("fx.GraphModule", canonical)
    context: dict[str, Any] = {}
    hooks: dict[nn.Module, Hook] = {}
    for name, layer in canonical.named_modules():
        hook = composite.module_map(context, name, layer)
        if hook is not None:
            hooks[layer] = hook
    builder = _Builder(graph_module, hooks, epsilon=epsilon, gamma=gamma, low=low, high=high)
    return builder.model()


def nonnegative_nodes(canonical: fx.GraphModule) -> _Nodes:
    """Nodes that cannot have negative values, whatever the image."""
    found: _Nodes = set()
    for node in canonical.graph.nodes:
        layer = called_module(canonical, node)
        if isinstance(layer, _NONNEGATIVE) or (isinstance(layer, nn.Hardtanh) and layer.min_val >= 0):
            found.add(node)
        elif _keeps_sign(node, layer):
            values = (
                [value for value in node.args if isinstance(value, (int, float))] if isinstance(layer, Gate) else []
            )
            sources = [source for source in node.all_input_nodes if "tensor_meta" in source.meta]
            if sources and found.issuperset(sources) and all(value >= 0 for value in values):
                found.add(node)
    return found


def _keeps_sign(node: fx.Node, layer: nn.Module | None) -> bool:
    """Whether a node gives no negative value if it gets none."""
    if isinstance(layer, nn.ConstantPad2d):
        return layer.value >= 0
    if _calls(node, {F.pad}):
        # repeated borders or zeros; a given value may be anything
        return len(node.args) <= 3 and "value" not in node.kwargs  # noqa: PLR2004 - the fourth is the value
    if layer is not None:
        return isinstance(layer, (Addition, Gate, SpatialMean, AvgPool, MaxPool, *MOVING_LAYERS))
    return _calls(node, MOVING_CALLS | CHOOSING_CALLS)


class _Builder:
    """What is known about a canonical model, and the model that is made of it."""

    def __init__(
        self,
        canonical: fx.GraphModule,
        hooks: Mapping[nn.Module, Hook],
        *,
        epsilon: float,
        gamma: float,
        low: Tensor,
        high: Tensor,
    ) -> None:
        self.canonical = canonical
        self.hooks = hooks
        self.epsilon, self.gamma, self.low, self.high = epsilon, gamma, low, high
        self.path = signal_path(canonical)
        self.carrying = set(self.path)
        self.nonnegative = nonnegative_nodes(canonical)
        self.vanishing = self._vanishing()

    def model(self) -> nn.Module:
        """The model with rules."""
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        severed: dict[fx.Node, fx.Node] = {}
        nodes = self.canonical.graph.nodes
        paths = [str(node.target) for node in nodes if node.op in {"get_attr", "call_module"}]
        parts: dict[str, Any] = {path: operator.attrgetter(path)(self.canonical) for path in paths}

        def cut_off(source: fx.Node) -> fx.Node:
            # what only computes gates or sizes gets no relevance, so it need not be recorded
            if source in self.carrying and isinstance(source.meta.get("tensor_meta"), TensorMetadata):
                if source not in severed:
                    severed[source] = graph.call_method("detach", (copies[source],))
                return severed[source]
            return copies[source]

        for node in nodes:
            if node in copies:  # an activation that is evaluated with the layer before it
                continue
            copies[node] = graph.node_copy(node, copies.__getitem__ if node in self.carrying else cut_off)
            if node.op == "call_module" and node in self.carrying:
                activation = self._activation_behind(node)
                rule = self._rule(node, parts[str(node.target)], called_module(self.canonical, activation))
                if rule is not None:
                    parts[str(node.target)] = Ruled(rule)
                if activation is not None:
                    copies[activation] = copies[node]
        return fx.GraphModule(parts, graph, class_name="RelevanceModel").eval()

    def _rule(self, node: fx.Node, layer: nn.Module, activation: nn.Module | None) -> Rule | None:
        """The rule of a layer on the way, or None if its gradient is already right."""
        if isinstance(layer, Gate):
            return rules.GateRule(layer)
        if isinstance(layer, Addition):
            return rules.SumRule(layer, cast("nn.ReLU | None", activation))
        hook = self.hooks.get(layer)
        if isinstance(layer, SpatialMean) or (type(hook) is zennit_rules.Norm and isinstance(layer, AvgPool)):
            return rules.MeanRule(layer)
        if hook is None or type(hook) is zennit_rules.Pass:
            return None if hook is None else rules.PassRule(layer)
        fast = _FAST_RULES.get(type(hook))
        if fast is None or not _has_only_weights(layer):
            return rules.ZennitRule(layer, hook)
        return fast(self, node, layer, activation)

    def is_rectified(self, node: fx.Node, activation: nn.Module | None) -> bool:
        """Whether an output without a positive value has no relevance."""
        return isinstance(activation, (nn.ReLU, nn.ReLU6)) and all(user in self.vanishing for user in node.users)

    def _activation_behind(self, node: fx.Node) -> fx.Node | None:
        """An activation that is all that a linear layer's or an addition's output is used for."""
        layer = called_module(self.canonical, node)
        (user, *others) = node.users or (None,)
        behind = called_module(self.canonical, user)
        if user is None or behind is None or others or type(self.hooks.get(behind)) is not zennit_rules.Pass:
            return None
        if isinstance(layer, Addition):
            return user if type(behind) is nn.ReLU and user in self.vanishing else None
        fast = type(self.hooks.get(cast("nn.Module", layer))) in _FAST_RULES and _has_only_weights(layer)
        return user if fast and isinstance(layer, LINEAR_LAYERS) else None

    def _vanishing(self) -> _Nodes:
        """Nodes to which no relevance comes wherever their value is 0: rules multiply by the value."""
        found: _Nodes = set()
        for node in reversed(self.path):
            users = [user for user in node.users if user in self.carrying]
            if node.op != "output" and users and all(self._multiplies(user, node, found) for user in users):
                found.add(node)
        return found

    def _multiplies(self, user: fx.Node, node: fx.Node, vanishing: _Nodes) -> bool:
        """Whether `user` hands no relevance to zeros of `node`."""
        layer = called_module(self.canonical, user)
        if isinstance(layer, Gate):
            # the gate itself gets no relevance
            return node is not user.args[0] or user in vanishing
        if isinstance(layer, (Addition, SpatialMean, AvgPool)):
            return True
        if isinstance(layer, LINEAR_LAYERS):
            hook = self.hooks.get(layer)
            return type(hook) in _MULTIPLYING and _has_only_weights(layer)
        # zeros stay zeros
        if isinstance(layer, (*_ZERO_AT_ZERO, *MOVING_LAYERS, MaxPool)) or _calls(user, MOVING_CALLS | CHOOSING_CALLS):
            return user in vanishing
        return False


_MULTIPLYING = {zennit_rules.Epsilon, zennit_rules.ZPlus, zennit_rules.AlphaBeta, zennit_rules.Gamma}
"""Rules that hand an input its value times something."""


def _plus(builder: _Builder, node: fx.Node, layer: nn.Module, activation: nn.Module | None) -> Rule:
    if node.args[0] in builder.nonnegative:
        return rules.FavoredRule(layer, activation, gamma=None)
    if builder.is_rectified(node, activation):
        return rules.RectifiedPlusRule(layer, activation)
    return rules.AlphaBetaRule(layer, activation, alpha=1.0, nonnegative=False)


def _alpha2_beta1(builder: _Builder, node: fx.Node, layer: nn.Module, activation: nn.Module | None) -> Rule:
    return rules.AlphaBetaRule(layer, activation, alpha=2.0, nonnegative=node.args[0] in builder.nonnegative)


def _gamma(builder: _Builder, node: fx.Node, layer: nn.Module, activation: nn.Module | None) -> Rule:
    nonnegative, rectified = node.args[0] in builder.nonnegative, builder.is_rectified(node, activation)
    if nonnegative and rectified:
        return rules.FavoredRule(layer, activation, gamma=builder.gamma)
    return rules.GammaRule(layer, activation, gamma=builder.gamma, nonnegative=nonnegative, rectified=rectified)


_FAST_RULES: dict[type[Hook], Callable[[_Builder, fx.Node, nn.Module, nn.Module | None], Rule]] = {
    zennit_rules.Epsilon: lambda builder, _, layer, behind: rules.EpsilonRule(layer, behind, builder.epsilon),
    zennit_rules.ZPlus: _plus,
    zennit_rules.AlphaBeta: _alpha2_beta1,
    zennit_rules.Gamma: _gamma,
    zennit_rules.Flat: lambda _builder, _node, layer, behind: rules.FlatRule(layer, behind),
    zennit_rules.ZBox: lambda builder, _, layer, behind: rules.BoxRule(
        layer, behind, low=builder.low, high=builder.high
    ),
}
"""Zennit's rule -> our faster rule with the same result."""


def _has_only_weights(layer: object) -> bool:
    """Whether a linear layer has a weight, perhaps a bias, and nothing else that a rule would have to split."""
    return isinstance(layer, LINEAR_LAYERS) and set(dict(layer.named_parameters())) <= {"weight", "bias"}


def _calls(node: fx.Node, targets: set[Any]) -> bool:
    return node.op in {"call_function", "call_method"} and node.target in targets
