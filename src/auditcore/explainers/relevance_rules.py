"""Rules of layer-wise relevance propagation that run a layer only as often as the signs require.

They give what zennit's rules give. Zennit evaluates a layer again for every combination of a sign of its input with a
sign of its weights: up to five times forward and as often back. Here weights are split once, bounds known from the
graph (values behind a rectifier are not negative) drop the combinations that cannot occur, and where no digits are
lost |x| and |W| stand for two of those that can: W+ x+ + W- x- = (W x + |W| |x|) / 2, and
W- x+ + W+ x- = (W x - |W| |x|) / 2.

Names: x the input, y the output, W the weights, b the bias, + and - positive and negative parts. A bias counts as
a weight of an input of 1. The share of an input is what it contributed to an output over the sum of contributions.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from zennit.core import Hook

from auditcore.explainers.linear_maps import BlockMap, LinearMap, Weights, linear_map, takes_more_channels

STABILIZER = 1e-6
"""What zennit adds to the size of denominators by default."""

Saved = tuple[Tensor, ...]


class Rule(Hook):  # type: ignore[misc] # zennit is untyped
    """How one layer hands the relevance of its output to its inputs.

    A zennit hook that is called directly instead of being registered, so that zennit's own rules can take its place.

    Attributes:
        layer: The layer of the canonical model.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    @abstractmethod
    def evaluate(self, *inputs: Any) -> tuple[Tensor, Saved]:  # noqa: ANN401 - tensors, and numbers of gates
        """The layer's output, and what `share` will need."""

    @abstractmethod
    def share(self, saved: Saved, relevance: Tensor) -> tuple[Tensor | None, ...]:
        """Relevance of each input; it may write into what was saved besides inputs and output."""

    def backward(
        self, module: nn.Module, grad_input: Saved, grad_output: tuple[Tensor, ...]
    ) -> tuple[Tensor | None, ...]:
        """As in zennit, with the saved tensors in place of the inputs."""
        # it only lets a test see which layers a rule reaches, zennit's or ours
        super().backward(module, grad_input, grad_output)
        return self.share(grad_input, grad_output[0])


@final
class Ruled(nn.Module):
    """A layer with its usual output, whose gradient is the relevance of the rule."""

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, *inputs: Any) -> Tensor:  # noqa: ANN401 - tensors, and numbers of gates
        """The layer's output."""
        return cast("Tensor", _Relevance.apply(self.rule, *inputs))


class _Relevance(torch.autograd.Function):
    # shares divide by small differences, for which bfloat16 has not enough digits: autocast stops at the rule

    @staticmethod
    def forward(ctx: Any, rule: Rule, *inputs: Any) -> Tensor:  # noqa: ANN401 - of torch
        with torch.autocast(inputs[0].device.type, enabled=False):
            output, saved = rule.evaluate(*(value.float() if isinstance(value, Tensor) else value for value in inputs))
        ctx.rule = rule
        ctx.save_for_backward(*saved)
        return output

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - of torch
        rule: Rule = ctx.rule
        with torch.no_grad(), torch.autocast(relevance[0].device.type, enabled=False):
            shares = rule.backward(rule.layer, ctx.saved_tensors, relevance)
        return (None, *shares)


# --- linear layers ---------------------------------------------------------------------------------


class LinearRule(Rule):
    """Of a linear layer and the activation behind it, which passes relevance on unchanged.

    Attributes:
        map: The layer's connections.
        weights: Its own weights.
        outputs: Number of its outputs at a position.
        activation: What follows and is evaluated along, if anything.
    """

    def __init__(self, layer: nn.Module, activation: nn.Module | None) -> None:
        super().__init__(layer)
        self.map: LinearMap = linear_map(layer)
        self.weights = Weights(cast("Tensor", layer.weight), cast("Tensor | None", layer.bias))
        self.outputs: int = layer.out_features if isinstance(layer, nn.Linear) else cast("Any", layer).out_channels
        self.activation = activation

    def activated(self, y: Tensor, *, keep: bool) -> Tensor:
        """The output behind the activation; without `keep`, `y` may be overwritten."""
        if self.activation is None:
            return y
        if not keep and type(self.activation) is nn.ReLU:
            return y.relu_()
        if not keep and type(self.activation) is nn.ReLU6:
            return y.clamp_(0, 6)
        return cast("Tensor", self.activation(y))


class _KeepingOutput(LinearRule):
    """Saves input and output."""

    def evaluate(self, *inputs: Any) -> tuple[Tensor, Saved]:  # noqa: ANN401 - as above
        """The layer's output, and what is saved."""
        (x,) = inputs
        y = self.map.apply(x, self.weights)
        return self.activated(y, keep=True), (x, y)


class _KeepingInput(LinearRule):
    """Saves only the input."""

    def evaluate(self, *inputs: Any) -> tuple[Tensor, Saved]:  # noqa: ANN401 - as above
        """The layer's output, and what is saved."""
        (x,) = inputs
        return self.activated(self.map.apply(x, self.weights), keep=False), (x,)


@final
class EpsilonRule(_KeepingOutput):
    """R = x W^T (R / (y + epsilon sign y)): all contributions."""

    def __init__(self, layer: nn.Module, activation: nn.Module | None, epsilon: float) -> None:
        super().__init__(layer, activation)
        self.epsilon = epsilon

    def share(self, saved: Saved, relevance: Tensor) -> tuple[Tensor | None, ...]:
        """Relevance of the input."""
        x, y = saved
        return (product(self.map.transposed(x, self.weights, relevance / stabilized(y, self.epsilon)), x),)


@final
class FavoredRule(_KeepingInput):
    """R = x V^T (R / (V x + c)): the contributions with favored weights V and bias c, where no x is negative.

    With V = W+ this is z-plus; with V = W + gamma W+ it is gamma for outputs that are positive or have no relevance.
    """

    def __init__(self, layer: nn.Module, activation: nn.Module | None, gamma: float | None) -> None:
        super().__init__(layer, activation)
        favored = positive(self.weights)
        if gamma is not None:
            favored = combined(self.weights, favored, gamma)
        self.favored = stabilizing(favored, self.outputs)

    def share(self, saved: Saved, relevance: Tensor) -> tuple[Tensor | None, ...]:
        """Relevance of the input."""
        (x,) = saved
        # an output without relevance may come to anything, but 0 / 0 would spread
        total = self.map.apply(x, self.favored).clamp_(min=STABILIZER)
        torch.div(relevance, total, out=total)
        return (product(self.map.transposed(x, self.favored, total), x),)


@final
class RectifiedPlusRule(_KeepingOutput):
    """Z-plus for inputs of any sign and outputs that are positive or have no relevance.

    There (y + |W| |x|) / 2 gives the positive contributions without loss: they are the larger part.
    """

    def __init__(self, layer: nn.Module, activation: nn.Module | None) -> None:
        super().__init__(layer, activation)
        self.halved = stabilizing(scaled(absolute(self.weights), 0.5), self.outputs)
        self.up, self.down = positive(self.weights), negative(self.weights)

    def share(self, saved: Saved, relevance: Tensor) -> tuple[Tensor | None, ...]:
        """Relevance of the input."""
        x, y = saved
        size = x.abs()
        total = self.map.apply(size, self.halved).add_(y, alpha=0.5).clamp_(min=STABILIZER)
        torch.div(relevance, total, out=total)
        up = self.map.transposed(x, self.up, total)
        return (torch.where(x > 0, up, self.map.transposed(x, self.down, total)).mul_(size),)


@final
class AlphaBetaRule(_KeepingInput):
    """Alpha times the share among positive contributions minus beta times that among negative ones; alpha - beta = 1.

    Both sums are evaluated part by part. To take the output for their difference, or |x| and |W| for two of the parts,
    would spare evaluations but lose digits where one sum is small, and deep models amplify that: by up to 8e-5 and
    5e-3 of the map on EfficientNet-Lite0, in place of 6e-7. Alpha 1 is z-plus.
    """

    def __init__(self, layer: nn.Module, activation: nn.Module | None, *, alpha: float, nonnegative: bool) -> None:
        super().__init__(layer, activation)
        self.alpha = alpha
        self.nonnegative = nonnegative
        up, down = positive(self.weights), negative(self.weights)
        # the bias is an input of 1, which has no negative part
        rows = [
            (stabilizing(up, self.outputs), Weights(down.weight, None)),
            (stabilizing(down, self.outputs), Weights(up.weight, None)),
        ]
        columns = 1 if nonnegative else 2
        self.sums = BlockMap(self.map, [row[:columns] for row in (rows[:1] if alpha == 1 else rows)])

    def share(self, saved: Saved, relevance: Tensor) -> tuple[Tensor | None, ...]:
        """Relevance of the input."""
        (x,) = saved
        inputs = self.sums.stacked([x] if self.nonnegative else [x.clamp(min=0), x.clamp(max=0).neg_()])
        totals = self.sums.apply(inputs)
        for total in totals:
            # a convolution that goes by way of a transform may find less than nothing
            total.clamp_(min=STABILIZER)
        zero = relevance.new_zeros(())
        # alpha 1 has only the first sum
        for total, factor in zip(self.sums.rows(totals), (self.alpha, 1 - self.alpha), strict=False):
            # a division that also multiplies, in one pass over memory
            torch.addcdiv(zero, relevance, total, value=factor, out=total)
        shares = self.sums.transposed(inputs, totals)
        if self.nonnegative:
            return (product(shares[0], x),)
        of_positive, of_negative = shares
        return (torch.where(x > 0, of_positive, of_negative).mul_(x.abs()),)


@final
class GammaRule(_KeepingOutput):
    """Contributions of the output's own sign count 1 + gamma times.

    R = x (1 + gamma/2) W^T s + |x| (gamma/2) |W|^T (s sign y), with s = R / D and
    D = (1 + gamma/2) y + sign(y) (gamma/2) |W| |x|.
    """

    def __init__(
        self, layer: nn.Module, activation: nn.Module | None, *, gamma: float, nonnegative: bool, rectified: bool
    ) -> None:
        super().__init__(layer, activation)
        self.gamma = gamma
        self.nonnegative = nonnegative
        self.rectified = rectified
        self.size = stabilizing(scaled(absolute(self.weights), gamma / 2), self.outputs)
        self.signed = scaled(self.weights, 1 + gamma / 2)

    def share(self, saved: Saved, relevance: Tensor) -> tuple[Tensor | None, ...]:
        """Relevance of the input."""
        x, y = saved
        size = x if self.nonnegative else x.abs()
        total = self.map.apply(size, self.size)
        if self.rectified:
            total = total.add_(y, alpha=1 + self.gamma / 2).clamp_(min=STABILIZER)
            plain = unsigned = torch.div(relevance, total, out=total)
        else:
            sign = y.sign()
            total = total.add_(y.abs(), alpha=1 + self.gamma / 2)
            # an output of exactly 0 has no sign of its own to favor, and shares nothing
            plain = torch.div(relevance, total, out=total).mul_(sign)
            unsigned = sign.mul_(plain)
        of_signed, of_size = self.map.transposed(x, self.signed, plain), self.map.transposed(x, self.size, unsigned)
        if self.nonnegative:
            return (of_signed.add_(of_size).mul_(x),)
        return (of_signed.mul_(x).addcmul_(size, of_size),)


@final
class FlatRule(_KeepingInput):
    """Every input of an output's receptive field gets the same."""

    def __init__(self, layer: nn.Module, activation: nn.Module | None) -> None:
        super().__init__(layer, activation)
        weight = self.weights.weight
        # all channels in and out are alike, so one of each is enough
        self.one_channel = takes_more_channels(self.map)
        self.ones = Weights(torch.ones_like(weight[:1, :1] if self.one_channel else weight), None)
        self.counted: tuple[tuple[int, ...], Tensor] | None = None

    def share(self, saved: Saved, relevance: Tensor) -> tuple[Tensor | None, ...]:
        """Relevance of the input."""
        (x,) = saved
        relevance = relevance.sum(1, keepdim=True) if self.one_channel else relevance
        one = x[:, :1] if self.one_channel else x
        shares = self.map.transposed(one, self.ones, relevance / self._counts(x))
        return (shares.expand_as(x),)

    def _counts(self, x: Tensor) -> Tensor:
        """Number of inputs in the receptive field of each output; the same for all images of one size."""
        counted = self.counted
        if counted is None or counted[0] != x.shape[1:]:
            ones = torch.ones_like(x[:1, :1] if self.one_channel else x[:1])
            counts = self.map.apply(ones, self.ones)
            counted = tuple(x.shape[1:]), counts * (x.shape[1] if self.one_channel else 1) + STABILIZER
            self.counted = counted
        return counted[1]


@final
class BoxRule(_KeepingOutput):
    """R = (x - low) W+^T s + (x - high) W-^T s, s the relevance over the sum of that: contributions from a corner on.

    Args:
        layer: The first layer.
        activation: What follows.
        low: Lower bounds of the input, of a shape that broadcasts to it.
        high: Upper bounds.
    """

    def __init__(self, layer: nn.Module, activation: nn.Module | None, *, low: Tensor, high: Tensor) -> None:
        super().__init__(layer, activation)
        self.low, self.high = low, high
        self.up, self.down = positive(self.weights), scaled(negative(self.weights), -1)
        self.both: Weights | None = None
        if takes_more_channels(self.map):
            # so few channels leave room for as many more in the same call
            self.both = Weights(torch.cat((self.up.weight, self.down.weight), dim=1), None)
        self.cornered: tuple[tuple[int, ...], Tensor] | None = None

    def share(self, saved: Saved, relevance: Tensor) -> tuple[Tensor | None, ...]:
        """Relevance of the input."""
        x, y = saved
        shares = relevance / stabilized(y - self._corner(x), STABILIZER)
        if self.both is None:
            up, down = self.map.transposed(x, self.up, shares), self.map.transposed(x, self.down, shares)
        else:
            up, down = self.map.transposed(torch.cat((x, x), dim=1), self.both, shares).chunk(2, dim=1)
        return (up * (x - self.low) + down * (x - self.high),)

    def _corner(self, x: Tensor) -> Tensor:
        """What the corner of the box contributes to each output; the same for all images of one size."""
        cornered = self.cornered
        if cornered is None or cornered[0] != x.shape[1:]:
            low, high = (bound.to(x).expand_as(x[:1]) for bound in (self.low, self.high))
            cornered = tuple(x.shape[1:]), self.map.apply(low, self.up) + self.map.apply(high, self.down)
            self.cornered = cornered
        return cornered[1]


# --- other layers ----------------------------------------------------------------------------------


@final
class PassRule(Rule):
    """All relevance to the one input."""

    def evaluate(self, *inputs: Any) -> tuple[Tensor, Saved]:  # noqa: ANN401 - as above
        """The layer's output, and what is saved."""
        return self.layer(*inputs), ()

    def share(self, saved: Saved, relevance: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ARG002 - nothing was
        """Relevance of the input."""
        return (relevance,)


@final
class GateRule(Rule):
    """All relevance to the signal, unscaled, and none to the gate."""

    def evaluate(self, *inputs: Any) -> tuple[Tensor, Saved]:  # noqa: ANN401 - as above
        """The layer's output, and what is saved."""
        output: Tensor = self.layer(*inputs)
        return output, () if output.shape == inputs[0].shape else (inputs[0],)

    def share(self, saved: Saved, relevance: Tensor) -> tuple[Tensor | None, ...]:
        """Relevance of the input."""
        return (relevance.sum_to_size(saved[0].shape) if saved else relevance), None


@final
class MeanRule(Rule):
    """To the inputs of an average in proportion to their values."""

    def evaluate(self, *inputs: Any) -> tuple[Tensor, Saved]:  # noqa: ANN401 - as above
        """The layer's output, and what is saved."""
        return self.layer(*inputs), inputs

    def share(self, saved: Saved, relevance: Tensor) -> tuple[Tensor | None, ...]:
        """Relevance of the input."""
        (x,) = saved
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            means: Tensor = self.layer(leaf)
            (gradient,) = torch.autograd.grad(means, leaf, relevance / stabilized(means.detach(), STABILIZER))
        return (gradient * x,)


@final
class SumRule(Rule):
    """To two summands in proportion to their values.

    Args:
        layer: The addition.
        activation: What follows and is evaluated along: a ReLU behind which relevance is 0 where the value is, or None.
    """

    def __init__(self, layer: nn.Module, activation: nn.ReLU | None) -> None:
        super().__init__(layer)
        self.activation = activation

    def evaluate(self, *inputs: Any) -> tuple[Tensor, Saved]:  # noqa: ANN401 - as above
        """The layer's output, and what is saved."""
        left, right = inputs
        total: Tensor = left + right
        if self.activation is not None:
            total = total.relu_()
        return total, (left, right, total)

    def share(self, saved: Saved, relevance: Tensor) -> tuple[Tensor | None, ...]:
        """Relevance of the input."""
        left, right, total = saved
        # behind the rectifier, total is not the sum where that is negative; but no relevance arrives there
        shares = relevance / (total + STABILIZER if self.activation is not None else stabilized(total, STABILIZER))
        return left * shares, shares.mul_(right)


@final
class ZennitRule(Rule):
    """Zennit's own rule, for a layer that none of the above fits.

    Args:
        layer: The layer.
        template: The hook, which is copied for every use.
    """

    def __init__(self, layer: nn.Module, template: Hook) -> None:
        super().__init__(layer)
        self.template = template

    def evaluate(self, *inputs: Any) -> tuple[Tensor, Saved]:  # noqa: ANN401 - as above
        """The layer's output, and what is saved."""
        return self.layer(*inputs), inputs

    def share(self, saved: Saved, relevance: Tensor) -> tuple[Tensor | None, ...]:
        """Relevance of the input."""
        hook = self.template.copy()
        hook.stored_tensors["input"] = saved
        return tuple(hook.backward(self.layer, saved, (relevance,)))


# --- weights and sums ------------------------------------------------------------------------------


def positive(weights: Weights) -> Weights:
    """W+ and b+."""
    return Weights(weights.weight.clamp(min=0), None if weights.bias is None else weights.bias.clamp(min=0))


def negative(weights: Weights) -> Weights:
    """Sizes of W- and b-."""
    return positive(scaled(weights, -1))


def absolute(weights: Weights) -> Weights:
    """|W| and |b|."""
    return Weights(weights.weight.abs(), None if weights.bias is None else weights.bias.abs())


def scaled(weights: Weights, factor: float) -> Weights:
    """A multiple of both."""
    return Weights(weights.weight * factor, None if weights.bias is None else weights.bias * factor)


def combined(first: Weights, second: Weights, factor: float) -> Weights:
    """The first plus a multiple of the second."""
    bias = None if first.bias is None or second.bias is None else first.bias + factor * second.bias
    return Weights(first.weight + factor * second.weight, bias)


def stabilizing(weights: Weights, outputs: int) -> Weights:
    """The same with the stabilizer of a positive sum in its bias, which saves adding it to every sum."""
    bias = weights.weight.new_zeros(outputs) if weights.bias is None else weights.bias
    return Weights(weights.weight, bias + STABILIZER)


def stabilized(total: Tensor, epsilon: float) -> Tensor:
    """Sums moved away from 0 by epsilon; 0 itself to the positive side."""
    return total + torch.where(total < 0, -epsilon, epsilon)


def product(gradient: Tensor, x: Tensor) -> Tensor:
    """Their product, in the memory of the first unless it is a view."""
    return gradient * x if gradient._is_view() else gradient.mul_(x)  # noqa: SLF001 - torch has no public name for it
