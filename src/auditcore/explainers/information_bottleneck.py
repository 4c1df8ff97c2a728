"""Per-sample information bottleneck: how many bits of a layer each position needs.

Noise replaces as much of a layer's output as possible while the model still predicts the target. What cannot be
replaced is the information that the decision needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from auditcore.contracts.explainers import Iba
from auditcore.devices.transfer import numbers_on, to_device
from auditcore.errors import NotApplicable, ShapeError
from auditcore.explainers.attribution import Attribution, Batch, exactly
from auditcore.explainers.bottleneck_layers import nearest_passage, passages
from auditcore.models.classifier import Classifier
from auditcore.models.feature_maps import Layout, as_maps
from auditcore.models.loaders.suggestions import near

INITIAL_ALPHA = 5.0
"""The mask begins at sigmoid(5) = 0.993: nearly everything passes."""

LOWEST_SD = 0.01
"""The authors' `min_std`: the least standard deviation of a channel, so that standardizing does not explode."""

ACTIVE_ABOVE = 0.01
"""The authors' `active_neurons_threshold`: what is zero more often is left out, neither passing nor informing."""


LEAST_SPREAD = 1e-6
"""A map that varies by less than this share of its size holds rounding, not information."""


NO_PASSAGE = "no layer with feature maps of more than one position carries everything that reaches the logits"


@dataclass(frozen=True)
class LayerStatistics:
    """How the output of a layer is distributed, for each channel, or for each neuron: a channel at one position.

    Attributes:
        mean: Mean.
        sd: Standard deviation, at least `LOWEST_SD`.
        active: 1 for what is not nearly always zero, else 0.
    """

    mean: Float[Tensor, "1 channel row column"]
    sd: Float[Tensor, "1 channel row column"]
    active: Float[Tensor, "1 channel row column"]


def incompatibility(classifier: Classifier, contract: Iba) -> str | None:
    """Why no layer can be a bottleneck: everything passes through none, or not through the named one."""
    if contract.layer is None:
        if nearest_passage(classifier) is None:
            return NO_PASSAGE
        return None
    if contract.layer in passages(classifier):
        return None
    if contract.layer not in classifier.feature_layers:
        hint = near(contract.layer, classifier.feature_layers)
        return f"the model has no layer {contract.layer!r} that gives feature maps of more than one position{hint}"
    other = nearest_passage(classifier)
    hint = f"; one that everything passes is {other!r}" if other is not None else ""
    return f"layer {contract.layer!r} runs more than once, or information reaches the logits around it{hint}"


def measure_statistics(batch: Batch, contract: Iba, halves: Sequence[int]) -> Float[Tensor, "row value"]:
    """What images contribute to the distribution of the layer's output.

    Args:
        batch: Images of the audit.
        contract: Names the layer, and whether statistics belong to channels or neurons.
        halves: 0 or 1 for each image: the half of the audit's images it belongs to.

    Returns:
        Rows in float64: the half; the number of values behind each mean; then for each channel or neuron the mean, the
        variance, and the share of values that are not zero. Of channels one row for each image, over its positions; of
        neurons one row for each half of a micro-batch, over its images.
    """
    batch = exactly(batch)
    layer = _layer(batch.classifier, contract)
    half = numbers_on(list(halves), batch.pixels.device, torch.float64)
    rows: list[Tensor] = []
    start = 0
    for part in batch.parts():
        features = _features(part, layer).double().flatten(2)
        own = half[start : start + len(part)]
        start += len(part)
        if contract.statistics == "channel":
            rows.append(_rows_of(own[:, None], features.movedim(2, 0)))
        else:
            rows += [
                _rows_of(own[own == which][:1, None], features[own == which].flatten(1)[:, None])
                for which in (0, 1)
                if which in halves[start - len(part) : start]
            ]
    return torch.cat(rows)


def _rows_of(half: Float[Tensor, "row 1"], values: Float[Tensor, "value row unit"]) -> Float[Tensor, "row entry"]:
    """The rows of `measure_statistics` of some values behind each mean."""
    count = torch.full_like(half, len(values))
    shares = (values != 0).double().mean(0)
    return torch.cat((half, count, values.mean(0), values.var(0, correction=0), shares), dim=1)


def merge_statistics(contract: Iba, rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """One row for each half where rows belong to neurons, of which there are many; those of channels stay as they are.

    Args:
        contract: Says to what they belong.
        rows: What `measure_statistics` found.

    Source: Chan et al. 1979, for more than two parts at once.
    """
    if contract.statistics == "channel":
        return [list(row) for row in rows]
    table = np.array(rows, dtype=np.float64)
    return [_merged(table[table[:, 0] == half]).tolist() for half in (0, 1) if (table[:, 0] == half).any()]


def _merged(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Several rows as one, with the half of the first."""
    counts, rest = table[:, 1:2], table[:, 2:].reshape(len(table), 3, -1)
    means, variances, shares = rest[:, 0], rest[:, 1], rest[:, 2]
    total = counts.sum()
    mean = (counts * means).sum(0) / total
    # spread within rows and between them; the difference of squares would cancel
    variance = (counts * (variances + (means - mean) ** 2)).sum(0) / total
    return np.concatenate(([table[0, 0], total], mean, variance, (counts * shares).sum(0) / total))


def reduce_statistics(_contract: Iba, rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Mean, standard deviation and activity of every channel or neuron, over all images and over either half of them.

    Args:
        rows: What `measure_statistics` found, in index order, merged or not.

    Returns:
        Three times, for all images, half 0 and half 1: means, then standard deviations (at least `LOWEST_SD`), then 1
        for each that is active. NaN for a half without images, and for neurons of a single image.
    """
    table = np.array(rows, dtype=np.float64)
    parts = [table, *(table[table[:, 0] == half] for half in (0, 1))]
    return tuple(np.concatenate([_reduced(part) for part in parts]).tolist())


def _reduced(table: NDArray[np.float64]) -> NDArray[np.float64]:
    count = table[:, 1].sum()
    if count < 2:  # noqa: PLR2004 - one value has no standard deviation
        return np.full(table.shape[1] - 2, np.nan)
    mean, variance, share = _merged(table)[2:].reshape(3, -1)
    sd = np.maximum(np.sqrt(variance * count / (count - 1)), LOWEST_SD)
    return np.concatenate((mean, sd, share > ACTIVE_ABOVE))


def why_no_map(contract: Iba, shared: Sequence[float] | None) -> str | None:
    """Why no image has a map although the method runs: the audit has too few images for statistics of neurons."""
    if shared is None or not shared or not math.isnan(shared[0]):
        return None
    return f"statistics of a {contract.statistics} need at least two images; set `statistics` to channel"


def iba(batch: Batch, contract: Iba) -> Attribution:
    """Information that passes the bottleneck, in bits for each position, upsampled to the image.

    For every image a mask alpha of the layer's shape is optimized (Adam, from 5): lambda = G_sigma(sigmoid(alpha)),
    z = lambda r + (1 - lambda) e with r the layer's output and e noise of the layer's mean and standard deviation;
    loss = cross-entropy of the target, mean over noise samples, + beta * mean KL(p(z|r) || q(z)). Images share
    passes but no gradient. For multi-label models the cross-entropy is -log of the target's sigmoid.

    The map is read after the last step. The authors read it before: their 10 steps are 9 here. Their layer statistics
    belong to neurons, single positions of a channel, estimated on 10 000 images; an audit has fewer, so here they
    belong to channels, over all positions of all its images, unless `statistics` says neuron. Their factor of layer
    positions / image pixels is left out.

    Returns:
        Maps (N,1,H,W): sum over channels of KL / ln 2, never negative. Not finite where the mask went so far that a
        float cannot tell it from 1, as with many large steps: the image is not applicable then. Where it is read,
        `statistics_agreement`: the correlation of two more maps of each image, with the statistics of either half of
        the audit's images and the same noise.

    Raises:
        NotApplicable: There is no such layer, or its statistics were not measured.

    Source: Schulz et al. 2020, Section 3 and the authors' code; layer: `bottleneck_layers.nearest_passage` if null.
    """
    batch = exactly(batch)
    layer = _layer(batch.classifier, contract)
    shared = batch.shared.get(contract.shared_key)
    if shared is None:
        msg = (
            "the statistics of the layer belong to a whole audit and were not measured; run the explainer in an "
            "audit, or pass `shared` with what `reduce_statistics` makes of `measure_statistics`"
        )
        raise NotApplicable(msg)
    images_at_once = max(1, batch.micro_batch // contract.samples)
    maps: list[Tensor] = []
    agreements: list[Tensor] = []
    for part in replace(batch, micro_batch=images_at_once).parts():
        features = _features(part, layer)
        whole, *halves = _statistics(contract, shared, features)
        maps.append(_map(part, contract, layer, features, whole, batch.micro_batch))
        if batch.diagnostics and halves:
            one, other = (_map(part, contract, layer, features, half, batch.micro_batch) for half in halves)
            agreements.append(_correlation(one, other))
    if not batch.diagnostics:
        return Attribution(torch.cat(maps) if maps else batch.pixels[:, :1])
    undefined = torch.full((len(batch),), torch.nan, device=batch.pixels.device)
    diagnostics = {"statistics_agreement": torch.cat(agreements) if agreements else undefined}
    return Attribution(torch.cat(maps) if maps else batch.pixels[:, :1], diagnostics)


def _map(
    part: Batch,
    contract: Iba,
    layer: str,
    features: Float[Tensor, "image channel h w"],
    statistics: LayerStatistics,
    micro_batch: int,
) -> Float[Tensor, "image 1 height width"]:
    return _upsampled(_information(part, contract, layer, features, statistics, micro_batch), part)


def _correlation(
    one: Float[Tensor, "image 1 height width"], other: Float[Tensor, "image 1 height width"]
) -> Float[Tensor, " image"]:
    """Pearson correlation over pixels, in float64; NaN where a map is constant or not finite."""
    flat = [values.double().flatten(1) for values in (one, other)]
    centered = [values - values.mean(1, keepdim=True) for values in flat]
    spreads = [values.norm(dim=1) for values in centered]
    sizes = [values.norm(dim=1) for values in flat]
    says = torch.stack([spread > LEAST_SPREAD * size for spread, size in zip(spreads, sizes, strict=True)]).all(0)
    found = (centered[0] * centered[1]).sum(1) / (spreads[0] * spreads[1])
    return torch.where(says, found, torch.nan).clamp(-1, 1).float()


def information(
    standardized: Float[Tensor, "image channel h w"], closed: Float[Tensor, "image channel h w"]
) -> Float[Tensor, "image channel h w"]:
    """KL divergence of N(lambda r, (1 - lambda)^2) from N(0, 1), in nats: what the mask lets through.

    Args:
        standardized: Layer outputs r, standardized.
        closed: 1 - lambda, in (0,1].

    Source: Schulz et al. 2020, Appendix C.
    """
    mean, variance = (1 - closed) * standardized, closed**2
    return -0.5 * (1 + variance.log() - mean**2 - variance)


def gaussian(positions: int, sigma: float) -> Float[Tensor, "position position"]:
    """Gaussian smoothing along one side as a matrix whose rows sum to 1, reflected at the border.

    The kernel ends at two sigma, rounded, as the authors'; no smoothing below sigma 0.25.
    """
    reach = round(2 * sigma)
    matrix = torch.zeros(positions, positions, dtype=torch.float64)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2)) if reach else torch.ones(1, dtype=torch.float64)
    period = max(1, 2 * (positions - 1))
    for offset, weight in zip(range(-reach, reach + 1), kernel / kernel.sum(), strict=True):
        for row in range(positions):
            # the border itself is not repeated; a kernel wider than the layer is reflected again
            folded = (row + offset) % period
            matrix[row, min(folded, period - folded)] += weight
    return matrix.float()


def _information(
    part: Batch,
    contract: Iba,
    layer: str,
    features: Float[Tensor, "image channel h w"],
    statistics: LayerStatistics,
    micro_batch: int,
) -> Float[Tensor, "image channel h w"]:
    """Optimized information of some images in nats; at most `micro_batch` noisy copies pass at once."""
    standardized = (features - statistics.mean) / statistics.sd
    rows, columns = (
        to_device(gaussian(side, contract.smoothing), features.device).to(features.dtype) for side in features.shape[2:]
    )

    def closed(alpha: Tensor) -> Tensor:
        # 1 - G(sigmoid(alpha)) without cancellation: the mask comes so near to 1 that a float32 difference is noise
        return rows @ torch.sigmoid(-alpha) @ columns.T

    alpha = torch.full_like(features, INITIAL_ALPHA).requires_grad_()
    optimizer = torch.optim.Adam([alpha], lr=contract.learning_rate)
    shape = (contract.samples, *features.shape[1:])
    samples_at_once = max(1, micro_batch // len(part))
    for step in range(contract.steps):
        noise = part.streams.normal(shape, "iba", step, device=features.device).to(features.dtype)
        optimizer.zero_grad()
        with torch.enable_grad():
            for some in noise.split(samples_at_once, dim=1):
                mask = closed(alpha)[:, None]
                z = (1 - mask) * standardized[:, None] + mask * some
                z = (z * statistics.sd + statistics.mean) * statistics.active
                logits = _forward_with(part, layer, z)
                (_cross_entropy(part, logits) / contract.samples).backward()
            passing = information(standardized, closed(alpha)) * statistics.active
            # a sum over images, so that the gradient of each does not depend on the others
            (contract.beta * passing.mean((1, 2, 3)).sum()).backward()
        optimizer.step()
    with torch.no_grad():
        return information(standardized, closed(alpha)) * statistics.active


def _cross_entropy(part: Batch, logits: Float[Tensor, "copy class"]) -> Float[Tensor, ""]:
    """Summed over copies, which come image by image."""
    targets = part.targets.repeat_interleave(len(logits) // len(part))
    if part.classifier.scores == "softmax":
        return F.cross_entropy(logits, targets, reduction="sum")
    return -F.logsigmoid(logits.gather(1, targets[:, None])).sum()


def _upsampled(nats: Float[Tensor, "image channel h w"], part: Batch) -> Float[Tensor, "image 1 height width"]:
    bits = nats.sum(1, keepdim=True) / math.log(2)
    return F.interpolate(bits, size=tuple(part.pixels.shape[2:]), mode="bilinear", align_corners=False)


def _statistics(
    contract: Iba, shared: tuple[float, ...], features: Float[Tensor, "image channel h w"]
) -> list[LayerStatistics]:
    """Those of all images, and of either half where both have some; alike for all positions, or one for each."""
    channels, rows, columns = features.shape[1:]
    shape = (channels, 1, 1) if contract.statistics == "channel" else (channels, rows, columns)
    size = 3 * math.prod(shape)
    if len(shared) not in {size, 3 * size}:
        units = f"{channels} channels" + (
            "" if contract.statistics == "channel" else f" at {rows} x {columns} positions"
        )
        raise ShapeError(expected=f"mean, standard deviation and activity of {units}", actual=len(shared))
    empty = any(math.isnan(shared[start]) for start in range(size, len(shared), size))
    values = numbers_on(shared[:size] if empty else shared, features.device)
    return [LayerStatistics(*found) for found in values.view(-1, 3, 1, *shape)]


def layer_name(classifier: Classifier, contract: Iba) -> str | None:
    """Path of the layer that a contract means; None if the model has no suitable one."""
    return contract.layer if contract.layer is not None else nearest_passage(classifier)


def _layer(classifier: Classifier, contract: Iba) -> str:
    reason = incompatibility(classifier, contract)
    name = layer_name(classifier, contract)
    if reason is not None or name is None:
        raise NotApplicable(reason or NO_PASSAGE)
    return name


def _features(part: Batch, layer: str) -> Float[Tensor, "image channel h w"]:
    """Output of a layer for one micro-batch."""
    outputs: list[Tensor] = []

    def keep(output: Tensor) -> Tensor:
        outputs.append(output)
        # an in-place activation may follow, so it gets a copy
        return output.clone()

    with torch.no_grad(), _replacing(part.classifier.module.get_submodule(layer), keep):
        part.classifier.module(part.inputs)
    return as_maps(outputs[0], part.classifier.layouts[layer], part.classifier.shape)


def _forward_with(part: Batch, layer: str, z: Float[Tensor, "image sample channel h w"]) -> Float[Tensor, "copy class"]:
    """Logits when the layer gives `z`; the graph begins there."""
    inputs = part.inputs.repeat_interleave(z.shape[1], dim=0)
    output = _from_maps(z.flatten(0, 1), part.classifier.layouts[layer])
    with _replacing(part.classifier.module.get_submodule(layer), lambda _output: output):
        logits: Tensor = part.classifier.module(inputs)
    return logits


def _from_maps(maps: Float[Tensor, "copy channel h w"], layout: Layout) -> Float[Tensor, "copy ..."]:
    """Maps in the layout of a layer; a bottleneck layer has no tokens before the grid."""
    match layout:
        case "channels_first":
            return maps
        case "channels_last":
            return maps.permute(0, 2, 3, 1)
        case "tokens":
            return maps.flatten(2).mT


@contextmanager
def _replacing(layer: nn.Module, replacement: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside the block, other modules see what `replacement` makes of the layer's output."""
    handle = layer.register_forward_hook(lambda _layer, _inputs, output: replacement(output))
    try:
        yield
    finally:
        handle.remove()
