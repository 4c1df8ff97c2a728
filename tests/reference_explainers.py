"""Every explainer once more: one image at a time, in float64, on dense matrices, straight from the formulas.

A small residual network is unrolled into plain matrices. Its backward pass is written out once; the methods differ
only in what a layer does with what comes from above, as in their papers. No autograd, no zennit, no captum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

SIDE = 8
CLASSES = 4
STABILIZER = 1e-6


class ResidualNet(nn.Module):
    """What canonical form must cope with: ReLU6, a shared in-place ReLU, F.relu, `+`, BatchNorm, a functional mean."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.head = nn.Linear(8, CLASSES)  # registered first on purpose: order of definition means nothing
            self.down = nn.Conv2d(6, 8, 3, stride=2, padding=1)
            self.stem, self.stem_norm = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
            self.inner, self.inner_norm = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
            self.outer, self.outer_norm = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
            self.relu6 = nn.ReLU6(inplace=True)
            self.relu = nn.ReLU(inplace=True)
            for norm in (self.stem_norm, self.inner_norm, self.outer_norm):
                norm.running_mean.normal_(0, 0.3)
                norm.running_var.uniform_(0.05, 0.5)
                nn.init.normal_(norm.weight, 1.5, 0.5)
                nn.init.normal_(norm.bias, 0.5, 0.5)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu6(self.stem_norm(self.stem(x)))
        y = self.relu(self.inner_norm(self.inner(x)))
        x = x + self.outer_norm(self.outer(y))
        x = self.relu(x)
        x = F.relu(self.down(x))
        return self.head(x.mean([2, 3]))


@dataclass(frozen=True)
class Dense:
    """An affine layer: `weight` (out, in), `bias` (out), and where a weight exists at all."""

    weight: np.ndarray
    bias: np.ndarray
    exists: np.ndarray
    convolution: bool = True

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.weight @ x + self.bias


def unroll(conv: nn.Conv2d, norm: nn.BatchNorm2d | None, side: int) -> Dense:
    """A 3 x 3 convolution with padding 1, and the normalization behind it, as one matrix; loops over everything."""
    kernel = conv.weight.detach().double().numpy()
    bias = np.zeros(len(kernel)) if conv.bias is None else conv.bias.detach().double().numpy()
    if norm is not None:
        mean, variance, scale, shift = (
            value.detach().double().numpy() for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        )
        factor = scale / np.sqrt(variance + norm.eps)
        kernel, bias = kernel * factor[:, None, None, None], (bias - mean) * factor + shift
    stride = conv.stride[0]
    out_side = (side + 2 - 3) // stride + 1
    outputs, inputs = kernel.shape[:2]
    weight = np.zeros((outputs, out_side, out_side, inputs, side, side))
    exists = np.zeros_like(weight)
    for row in range(out_side):
        for column in range(out_side):
            for dy in range(3):
                for dx in range(3):
                    y, x = row * stride + dy - 1, column * stride + dx - 1
                    if 0 <= y < side and 0 <= x < side:
                        weight[:, row, column, :, y, x] = kernel[:, :, dy, dx]
                        exists[:, row, column, :, y, x] = 1
    shape = (outputs * out_side**2, inputs * side**2)
    return Dense(weight.reshape(shape), np.repeat(bias, out_side**2), exists.reshape(shape))


LinearRule = Callable[[Dense, np.ndarray, np.ndarray], np.ndarray]
RectifierRule = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
SumRule = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
MeanRule = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Rules:
    """What each kind of layer makes of what comes from above."""

    linear: LinearRule
    rectifier: RectifierRule
    total: SumRule
    mean: MeanRule
    first: LinearRule


class Unrolled:
    """`ResidualNet` as matrices."""

    cells: ClassVar[int] = (SIDE // 2) ** 2

    def __init__(self, net: ResidualNet) -> None:
        self.stem = unroll(net.stem, net.stem_norm, SIDE)
        self.inner = unroll(net.inner, net.inner_norm, SIDE)
        self.outer = unroll(net.outer, net.outer_norm, SIDE)
        self.down = unroll(net.down, None, SIDE)
        weight = net.head.weight.detach().double().numpy()
        self.head = Dense(weight, net.head.bias.detach().double().numpy(), np.ones_like(weight), convolution=False)

    def forward(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Every value on the way, the logits last."""
        v = {"image": image.reshape(-1)}
        v["stem_z"] = self.stem(v["image"])
        v["stem"] = np.clip(v["stem_z"], 0, 6)
        v["inner_z"] = self.inner(v["stem"])
        v["inner"] = np.maximum(v["inner_z"], 0)
        v["outer"] = self.outer(v["inner"])
        v["sum_z"] = v["stem"] + v["outer"]
        v["sum"] = np.maximum(v["sum_z"], 0)
        v["down_z"] = self.down(v["sum"])
        v["down"] = np.maximum(v["down_z"], 0)
        v["mean"] = v["down"].reshape(8, self.cells).mean(1)
        v["logits"] = self.head(v["mean"])
        return v

    def backward(self, v: dict[str, np.ndarray], target: int, rules: Rules, start: float) -> np.ndarray:
        """From the target's logit down to the image, layer by layer."""
        above = np.zeros(CLASSES)
        above[target] = start
        above = rules.linear(self.head, v["mean"], above)
        above = rules.mean(v["down"].reshape(8, self.cells), above).reshape(-1)
        above = rules.rectifier(v["down_z"], above, np.inf)
        above = rules.linear(self.down, v["sum"], above)
        above = rules.rectifier(v["sum_z"], above, np.inf)
        skip, branch = rules.total(v["stem"], v["outer"], above)
        branch = rules.linear(self.outer, v["inner"], branch)
        branch = rules.rectifier(v["inner_z"], branch, np.inf)
        branch = rules.linear(self.inner, v["stem"], branch)
        above = rules.rectifier(v["stem_z"], skip + branch, 6)
        return rules.first(self.stem, v["image"], above).reshape(3, SIDE, SIDE)

    def gradient(self, image: np.ndarray, target: int) -> np.ndarray:
        """Chain rule."""
        return self.backward(self.forward(image), target, GRADIENT, 1.0)

    def score(self, image: np.ndarray, target: int) -> float:
        """Target logit."""
        return float(self.forward(image)["logits"][target])


# --- gradients and rectifiers ----------------------------------------------------------------------


def _transpose(layer: Dense, _x: np.ndarray, above: np.ndarray) -> np.ndarray:
    return layer.weight.T @ above


def _active(z: np.ndarray, cap: float) -> np.ndarray:
    """Derivative of min(max(z, 0), cap), which is 0 at both kinks."""
    return ((z > 0) & (z < cap)).astype(float)


def _gradient_rules(rectifier: RectifierRule) -> Rules:
    return Rules(
        linear=_transpose,
        first=_transpose,
        rectifier=rectifier,
        total=lambda _left, _right, above: (above, above),
        mean=lambda features, above: np.repeat(above[:, None] / features.shape[1], features.shape[1], axis=1),
    )


GRADIENT = _gradient_rules(lambda z, above, cap: _active(z, cap) * above)
GUIDED = _gradient_rules(lambda z, above, cap: _active(z, cap) * np.maximum(above, 0))
DECONVOLUTION = _gradient_rules(lambda _z, above, _cap: np.maximum(above, 0))


def rectified(net: Unrolled, image: np.ndarray, target: int, rules: Rules) -> np.ndarray:
    """Guided backpropagation or deconvolution."""
    return net.backward(net.forward(image), target, rules, 1.0)


def integrated_gradients(
    net: Unrolled, image: np.ndarray, baseline: np.ndarray, target: int, steps: int
) -> tuple[np.ndarray, float]:
    """Gauss-Legendre along the straight line, with the completeness error."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    total = np.zeros_like(image)
    for node, weight in zip(nodes, weights, strict=True):
        alpha = (1 + node) / 2
        total += weight / 2 * net.gradient(baseline + alpha * (image - baseline), target)
    attribution = (image - baseline) * total
    change = net.score(image, target) - net.score(baseline, target)
    return attribution, abs(attribution.sum() - change) / abs(change)


def smoothgrad(
    net: Unrolled, image: np.ndarray, noises: list[np.ndarray], scale: np.ndarray, target: int
) -> np.ndarray:
    """Mean gradient over given standard normal noises, scaled channel by channel."""
    return np.mean([net.gradient(image + scale[:, None, None] * noise, target) for noise in noises], axis=0)


def noise_tunnel(maps: list[np.ndarray], aggregate: str) -> np.ndarray:
    """Mean, mean square or population variance of the maps of noisy copies, value by value."""
    result = np.zeros_like(maps[0])
    for place in np.ndindex(result.shape):
        values = [map_[place] for map_ in maps]
        mean = sum(values) / len(values)
        result[place] = {
            "smoothgrad": mean,
            "smoothgrad_squared": sum(value**2 for value in values) / len(values),
            "vargrad": sum((value - mean) ** 2 for value in values) / len(values),
        }[aggregate]
    return result


def gradient_shap(
    net: Unrolled, images: list[np.ndarray], baselines: list[np.ndarray], alphas: list[float], target: int
) -> np.ndarray:
    """Mean of (x' - b) * gradient at b + alpha (x' - b), over given samples (Erion et al. 2021, Eq. 3)."""
    total = np.zeros_like(images[0])
    for image, baseline, alpha in zip(images, baselines, alphas, strict=True):
        total += (image - baseline) * net.gradient(alpha * image + (1 - alpha) * baseline, target)
    return total / len(images)


def deep_lift(net: Unrolled, image: np.ndarray, baseline: np.ndarray, target: int) -> np.ndarray:
    """Rescale rule: a rectifier hands back change of output over change of input (Shrikumar et al. 2017, Eq. 6)."""

    def rescale(zs: np.ndarray, above: np.ndarray, cap: float) -> np.ndarray:
        below = np.zeros_like(above)
        for i, (z, reference) in enumerate(zs.T):
            if z == reference:
                slope = float(0 < z < cap)
            else:
                slope = (min(max(z, 0), cap) - min(max(reference, 0), cap)) / (z - reference)
            below[i] = slope * above[i]
        return below

    values, references = net.forward(image), net.forward(baseline)
    # the backward pass hands rectifiers what they received: here from both
    pairs = {
        name: np.stack((value, references[name])) if name.endswith("_z") else value for name, value in values.items()
    }
    return (image - baseline) * net.backward(pairs, target, _gradient_rules(rescale), 1.0)


def cross_maximum(
    x: np.ndarray, reference: np.ndarray, above: np.ndarray, kernel: int, stride: int, padding: int
) -> np.ndarray:
    """Contributions of each value of one channel to what max pooling changes, window by window."""
    side = len(x)
    contributions = np.zeros_like(x)
    for row in range(above.shape[0]):
        for column in range(above.shape[1]):
            window = [
                (y, c)
                for y in range(row * stride - padding, row * stride - padding + kernel)
                for c in range(column * stride - padding, column * stride - padding + kernel)
                if 0 <= y < side and 0 <= c < side
            ]
            place, reference_place = max(window, key=lambda at: x[at]), max(window, key=lambda at: reference[at])
            output, before = x[place], reference[reference_place]
            contributions[place] += (max(output, before) - before) * above[row, column]
            contributions[reference_place] += (output - max(output, before)) * above[row, column]
    return contributions


def grad_cam(net: Unrolled, image: np.ndarray, target: int) -> np.ndarray:
    """Of the last convolution, `down`, upsampled bilinearly between the centers of its cells."""
    v = net.forward(image)
    features = v["down_z"].reshape(8, SIDE // 2, SIDE // 2)
    above = np.repeat(net.head.weight[target][:, None] / net.cells, net.cells, axis=1).reshape(-1)
    gradient = (_active(v["down_z"], np.inf) * above).reshape(features.shape)
    cam = np.zeros(features.shape[1:])
    for feature, slope in zip(features, gradient, strict=True):
        cam += slope.mean() * feature
    return _upsample(np.maximum(cam, 0))


def _upsample(small: np.ndarray) -> np.ndarray:
    """Each output center between its four nearest input centers, clamped at the border."""
    side = len(small)
    large = np.zeros((SIDE, SIDE))
    for row in range(SIDE):
        for column in range(SIDE):
            y = min(max((row + 0.5) * side / SIDE - 0.5, 0), side - 1)
            x = min(max((column + 0.5) * side / SIDE - 0.5, 0), side - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, side - 1), min(left + 1, side - 1)
            dy, dx = y - top, x - left
            large[row, column] = (
                small[top, left] * (1 - dy) * (1 - dx)
                + small[top, right] * (1 - dy) * dx
                + small[bottom, left] * dy * (1 - dx)
                + small[bottom, right] * dy * dx
            )
    return large


# --- layer-wise relevance propagation --------------------------------------------------------------


def _divide(relevance: np.ndarray, z: np.ndarray, epsilon: float = STABILIZER) -> np.ndarray:
    return relevance / (z + epsilon * np.where(z >= 0, 1.0, -1.0))


def epsilon_rule(epsilon: float) -> LinearRule:
    """R_i = sum_j x_i w_ji / (z_j + epsilon sign z_j) R_j (Bach et al. 2015, Eq. 58)."""
    return lambda layer, x, above: x * (layer.weight.T @ _divide(above, layer(x), epsilon))


def z_plus_rule(layer: Dense, x: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Only positive contributions share (alpha 1, beta 0); the bias takes its positive part."""
    contributions = np.maximum(layer.weight * x, 0)
    share = _divide(above, contributions.sum(1) + np.maximum(layer.bias, 0))
    return contributions.T @ share


def alpha2_beta1_rule(layer: Dense, x: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Twice the positive shares minus once the negative ones (Bach et al. 2015, Eq. 60)."""
    contributions = layer.weight * x
    positive, negative = np.maximum(contributions, 0), np.minimum(contributions, 0)
    upward = positive.T @ _divide(above, positive.sum(1) + np.maximum(layer.bias, 0))
    downward = negative.T @ _divide(above, negative.sum(1) + np.minimum(layer.bias, 0))
    return 2 * upward - downward


def gamma_rule(gamma: float) -> LinearRule:
    """Contributions of the output's own sign count 1 + gamma times (Montavon et al. 2019, generalized to any sign)."""

    def rule(layer: Dense, x: np.ndarray, above: np.ndarray) -> np.ndarray:
        z = layer(x)
        contributions = layer.weight * x
        below = np.zeros_like(x)
        for part, chosen in ((np.maximum, z > 0), (np.minimum, z < 0)):
            favored = contributions + gamma * part(contributions, 0)
            denominator = favored.sum(1) + layer.bias + gamma * part(layer.bias, 0)
            below += favored.T @ (chosen * _divide(above, denominator))
        return below

    return rule


def flat_rule(layer: Dense, _x: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Every input of the receptive field gets the same."""
    return layer.exists.T @ (above / (layer.exists.sum(1) + STABILIZER))


def box_rule(low: np.ndarray, high: np.ndarray) -> LinearRule:
    """Contributions counted from the corner of the box (Montavon et al. 2017, Eq. 11)."""

    def rule(layer: Dense, x: np.ndarray, above: np.ndarray) -> np.ndarray:
        lowest, highest = np.repeat(low, SIDE**2), np.repeat(high, SIDE**2)
        contributions = layer.weight * x - np.maximum(layer.weight, 0) * lowest - np.minimum(layer.weight, 0) * highest
        return contributions.T @ _divide(above, contributions.sum(1))

    return rule


def lrp(
    net: Unrolled, image: np.ndarray, target: int, convolution: LinearRule, first: LinearRule, epsilon: float
) -> np.ndarray:
    """Relevance of the target logit, which is where it begins."""
    dense = epsilon_rule(epsilon)

    def split(left: np.ndarray, right: np.ndarray, above: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        share = _divide(above, left + right)
        return left * share, right * share

    rules = Rules(
        linear=lambda layer, x, above: (convolution if layer.convolution else dense)(layer, x, above),
        first=first,
        rectifier=lambda _z, above, _cap: above,
        total=split,
        mean=lambda features, above: features / features.shape[1] * _divide(above, features.mean(1))[:, None],
    )
    values = net.forward(image)
    return net.backward(values, target, rules, float(values["logits"][target]))
