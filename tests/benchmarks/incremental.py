"""Does it pay to pass only what a removed cell changes? An experiment: `python -m benchmarks.incremental --device cpu`.

Deletion removes one cell after the other, occlusion covers one window at a time. A convolution sees a cell only where
its kernel reaches it, so most of what the early layers of a residual network give is known from the step before, and
passing only the rest is exact (Krypton: Nakandala et al., SIGMOD 2019). Late layers see the cell everywhere.

Here every layer up to a stage keeps what it gave. A step gathers the windows that change, with the border that kernels
reach, passes them without padding, and writes the results back; what comes after that stage is passed as always. Images
of a batch each have their own window, of one size. Deletion goes on from the step before; occlusion restores what the
last window changed.

Found for resnet50 at 224 pixels, with reuse up to the third of four stages: a deletion step needs 2.56 times fewer
multiplications than a plain pass, 2.09 times in windows of one size; occlusion 2.30 and 1.93. On one of two shared
cores, 8 images at once in float32, a deletion step was 2.1 to 2.3 times as fast as a plain pass and an occlusion step
1.8 to 1.9 times; with reuse up to the second stage 1.9 and 1.7 times. Logits differ by 5e-7 of the largest, which is
rounding. The price: 34 MB are kept for each image, steps follow each other, so that only images and orders fill a
batch, every step must be measured, and the code must know the architecture.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock, Bottleneck

from auditcore.counts.cells import grid_of
from auditcore.models.classifier import Classifier
from auditcore.models.static_passes import recorded
from benchmarks.subjects import load
from benchmarks.timing import Precision, autocast, seconds_of

Curve = Literal["deletion", "occlusion"]
CURVES: tuple[Curve, ...] = ("deletion", "occlusion")
WINDOWS_A_SIDE = 7
"""Occlusion covers a seventh of the side, every half of a window."""

STAGES = ("stem", "layer1", "layer2", "layer3")
"""Up to where results can be reused; behind them every position sees every cell."""

GOAL = 1.5
"""How many times faster a curve must be for this to be worth its code."""

Interval = tuple[int, int]
"""First and last position that changes, both included."""


def changed(interval: Interval, *, kernel: int, stride: int, padding: int, size: int) -> Interval:
    """Which of `size` outputs of a layer see a changed input.

    Args:
        interval: Inputs that change.
        kernel: Positions that the layer reads at once.
        stride: Inputs from one output to the next.
        padding: Zeros before the first input.
        size: Outputs.
    """
    first, last = interval
    low = -((kernel - 1 - padding - first) // stride)
    return max(0, low), min(size - 1, (last + padding) // stride)


def intervals(curve: Curve, side: int) -> tuple[Interval, ...]:
    """What a step changes along one side, for each band of cells or position of a window.

    Deletion has the cells of the engine's default grid; occlusion its default windows, a seventh of the side wide and
    half a window apart.

    Raises:
        ValueError: They do not cover the side evenly.
    """
    if curve == "deletion":
        size = stride = side // grid_of(None, side, side).rows
    else:
        size = side // WINDOWS_A_SIDE
        stride = size // 2
    count = (side - size) // stride + 1
    if (count - 1) * stride + size != side:
        msg = f"{count} windows of {size} pixels, {stride} apart, do not cover a side of {side} evenly"
        raise ValueError(msg)
    return tuple((number * stride, number * stride + size - 1) for number in range(count))


@dataclass(frozen=True)
class Region:
    """What changes in a map along one side, for each band: rows and columns are alike.

    Attributes:
        side: Positions of the map.
        bands: First and last position that changes, for each band.
    """

    side: int
    bands: tuple[Interval, ...]

    @property
    def size(self) -> int:
        """Positions of a window that contains the change, for any band."""
        return max(last - first + 1 for first, last in self.bands)

    @property
    def starts(self) -> tuple[int, ...]:
        """Where the window of each band begins, so that it lies inside the map."""
        return tuple(min(first, self.side - self.size) for first, _ in self.bands)

    @property
    def changed_share(self) -> float:
        """Share of the map's positions that change, on average over all cells."""
        mean = sum(last - first + 1 for first, last in self.bands) / len(self.bands)
        return (mean / self.side) ** 2

    @property
    def window_share(self) -> float:
        """Share of the map's positions in the window."""
        return (self.size / self.side) ** 2

    def after(self, layer: nn.Module) -> Region:
        """What changes behind a layer with a square kernel."""
        kernel, stride, padding = (_only(getattr(layer, name)) for name in ("kernel_size", "stride", "padding"))
        side = (self.side + 2 * padding - kernel) // stride + 1
        bands = tuple(changed(band, kernel=kernel, stride=stride, padding=padding, size=side) for band in self.bands)
        return Region(side, bands)


def _only(value: int | Sequence[int]) -> int:
    """Both sides of a square."""
    return value if isinstance(value, int) else int(value[0])


@dataclass(frozen=True)
class LayerShare:
    """What one convolution costs, and how much of it a step changes.

    Attributes:
        name: In the model.
        stage: `stem`, `layer1` to `layer4`, or `head`.
        macs: Multiplications and additions of one image.
        changed_share: Part of them whose result changes, on average over cells.
        window_share: Part of them that windows of one size pass.
    """

    name: str
    stage: str
    macs: int
    changed_share: float
    window_share: float


def layer_shares(model: ResNet, region: Region) -> list[LayerShare]:
    """Every layer of a residual network that multiplies.

    Args:
        model: Of torchvision.
        region: What a step changes in the image.
    """
    found: list[LayerShare] = []

    def add(name: str, layer: nn.Conv2d, after: Region) -> None:
        macs = layer.weight.numel() * after.side**2
        found.append(LayerShare(name, name.split(".", maxsplit=1)[0], macs, after.changed_share, after.window_share))

    region = region.after(model.conv1)
    add("stem.conv1", model.conv1, region)
    region = region.after(model.maxpool)
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        for number, block in enumerate(model.get_submodule(stage)):
            inside = region
            for name, layer in _convolutions(block):
                inside = inside.after(layer)
                add(f"{stage}.{number}.{name}", layer, inside)
            if block.downsample is not None:
                add(f"{stage}.{number}.downsample", block.downsample[0], inside)
            region = inside
    found.append(LayerShare("head.fc", "head", model.fc.weight.numel(), 1.0, 1.0))
    return found


def _convolutions(block: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    """Convolutions of a block's main path, in order."""
    names = ("conv1", "conv2", "conv3") if isinstance(block, Bottleneck) else ("conv1", "conv2")
    return [(name, getattr(block, name)) for name in names]


def ideal_speedup(shares: Sequence[LayerShare], reuse: str, *, windows: bool = False) -> float:
    """All multiplications over those that are left with reuse up to a stage.

    Args:
        shares: Of all layers.
        reuse: The last stage of which results are reused.
        windows: Whether whole windows are passed, or only what changes in them.
    """
    reused = STAGES[: STAGES.index(reuse) + 1]
    left = sum(
        share.macs * ((share.window_share if windows else share.changed_share) if share.stage in reused else 1.0)
        for share in shares
    )
    return sum(share.macs for share in shares) / left


def fused(model: ResNet) -> ResNet:
    """Batch normalization inside the convolutions, in place: the same function with fewer steps."""
    model.conv1, model.bn1 = fuse_conv_bn_eval(model.conv1, model.bn1), nn.Identity()
    for block in model.modules():
        if isinstance(block, (BasicBlock, Bottleneck)):
            for name, layer in _convolutions(block):
                norm = name.replace("conv", "bn")
                setattr(block, name, fuse_conv_bn_eval(layer, getattr(block, norm)))
                setattr(block, norm, nn.Identity())
            if block.downsample is not None:
                block.downsample = nn.Sequential(fuse_conv_bn_eval(*block.downsample))
    return model.requires_grad_(requires_grad=False)


class Kept:
    """One map of every image of a batch, kept with its padding, positions last but channels.

    Attributes:
        rows: (images * positions, channels): one row a position, so that windows are gathered row by row.
        side: Positions of a side without padding.
        padding: Zeros around, which kernels of the next layer reach.
    """

    def __init__(self, values: Tensor, padding: int) -> None:
        """Keep a copy of (N,C,H,W)."""
        self.side, self.padding = values.shape[-1], padding
        around = functional.pad(values, (padding,) * 4).permute(0, 2, 3, 1).contiguous()
        self.images, self.padded, _, self.channels = around.shape
        self.rows = around.view(-1, self.channels)

    def values(self) -> Tensor:
        """(N,C,H,W) without padding."""
        around = self.rows.view(self.images, self.padded, self.padded, self.channels)
        inner = around[:, self.padding : self.padding + self.side, self.padding : self.padding + self.side]
        return inner.permute(0, 3, 1, 2)

    def places(self, starts: Sequence[int], size: int, *, stride: int = 1, shift: int = 0) -> Tensor:
        """Rows of a window of one image, for every band of rows and of columns: (bands, bands, size * size).

        Args:
            starts: Where the window of each band begins, without padding.
            size: Positions of a side.
            stride: From one position to the next.
            shift: Added to every start.
        """
        device = self.rows.device
        along = torch.tensor(starts, device=device)[:, None] + self.padding + shift
        along = along + torch.arange(size, device=device) * stride
        grid = along[:, None, :, None] * self.padded + along[None, :, None, :]
        return grid.flatten(2)

    def pick(self, places: Tensor) -> Tensor:
        """Windows (N,C,S,S), channels last; `places` is (N, S * S) over all images."""
        size = round(places.shape[1] ** 0.5)
        picked = self.rows.index_select(0, places.flatten())
        return picked.view(len(places), size, size, self.channels).permute(0, 3, 1, 2)

    def put(self, places: Tensor, windows: Tensor) -> None:
        """Write windows (N,C,S,S) where they belong."""
        self.rows.index_copy_(0, places.flatten(), windows.permute(0, 2, 3, 1).reshape(-1, self.channels))


class Access:
    """A window of a kept map that follows the band of each image."""

    def __init__(self, kept: Kept, starts: Sequence[int], size: int, *, stride: int = 1, shift: int = 0) -> None:
        self._kept = kept
        self._table = kept.places(starts, size, stride=stride, shift=shift)
        self._first = torch.arange(kept.images, device=kept.rows.device)[:, None] * kept.padded**2

    def __call__(self, row: Tensor, column: Tensor) -> Tensor:
        """Rows of the kept map, for the band of rows and of columns of each image."""
        return self._table[row, column] + self._first


class IncrementalResNet:
    """A residual network of torchvision that reuses what a step does not change, up to a stage.

    Attributes:
        model: With fused batch normalization, in evaluation mode.
        reuse: The last stage of which results are reused.
    """

    def __init__(self, model: ResNet, images: Tensor, bands: tuple[Interval, ...], reuse: str) -> None:
        """Pass images as always and keep what every layer up to the stage gives.

        Args:
            model: From `fused`.
            images: (N,3,S,S), normalized; zero is the fill.
            bands: What a step changes along one side.
            reuse: One of `STAGES`.
        """
        self.model, self.reuse = model, reuse
        self._kept: list[tuple[Kept, Access]] = []
        self._steps: list[Callable[[Tensor | None, Tensor, Tensor], Tensor]] = []
        region = Region(images.shape[-1], bands)
        self._image = self._keep(images, model.conv1.padding[0], region)
        x = functional.relu(model.conv1(images))
        region = self._convolution(self._image, model.conv1, region, rectified=True)
        # rectified, so that zeros around are no larger than any value of a window
        stem = self._keep(x, model.maxpool.padding, region)
        self._writes(stem)
        x = model.maxpool(x)
        region = self._pooling(stem, region)
        stages = STAGES[1 : STAGES.index(reuse) + 1]
        blocks = [block for stage in stages for block in model.get_submodule(stage)]
        self._last = self._keep(x, _padding_wanted(blocks[:1]), region)
        self._writes(self._last)
        for number, block in enumerate(blocks):
            x, region = self._block(block, x, region, _padding_wanted(blocks[number + 1 : number + 2]))
        self._rest = [stage for stage in ("layer1", "layer2", "layer3", "layer4") if stage not in stages]

    def _keep(self, values: Tensor, padding: int, region: Region) -> tuple[Kept, Access]:
        kept = Kept(values, padding)
        self._kept.append((kept, Access(kept, region.starts, region.size)))
        return self._kept[-1]

    def _writes(self, target: tuple[Kept, Access]) -> None:
        kept, access = target

        def write(window: Tensor | None, row: Tensor, column: Tensor) -> Tensor:
            assert window is not None
            kept.put(access(row, column), window)
            return window

        self._steps.append(write)

    def _convolution(self, source: tuple[Kept, Access], layer: nn.Conv2d, region: Region, *, rectified: bool) -> Region:
        """A convolution on windows, with the border that its kernel reaches; 1 x 1 kernels take the last window."""
        kernel, stride, padding = layer.kernel_size[0], layer.stride[0], layer.padding[0]
        after = region.after(layer)
        if kernel == 1 and stride == 1:

            def pointwise(window: Tensor | None, _row: Tensor, _column: Tensor) -> Tensor:
                assert window is not None
                found = functional.conv2d(window, layer.weight, layer.bias)
                return functional.relu_(found) if rectified else found

            self._steps.append(pointwise)
            return after
        kept, _ = source
        size = (after.size - 1) * stride + kernel
        access = Access(kept, [start * stride for start in after.starts], size, shift=-padding)

        def convolve(_window: Tensor | None, row: Tensor, column: Tensor) -> Tensor:
            found = functional.conv2d(kept.pick(access(row, column)), layer.weight, layer.bias, stride)
            return functional.relu_(found) if rectified else found

        self._steps.append(convolve)
        return after

    def _pooling(self, source: tuple[Kept, Access], region: Region) -> Region:
        layer = self.model.maxpool
        kept, _ = source
        after = region.after(layer)
        size = (after.size - 1) * layer.stride + layer.kernel_size
        access = Access(kept, [start * layer.stride for start in after.starts], size, shift=-layer.padding)

        def pool(_window: Tensor | None, row: Tensor, column: Tensor) -> Tensor:
            return functional.max_pool2d(kept.pick(access(row, column)), layer.kernel_size, layer.stride)

        self._steps.append(pool)
        return after

    def _block(self, block: nn.Module, x: Tensor, region: Region, padding: int) -> tuple[Tensor, Region]:
        """One residual block: its main path on windows, and what it is added to, picked where the result changes."""
        source, inside, inner, value = self._last, region, self._last, x
        layers = [layer for _, layer in _convolutions(block)]
        for number, layer in enumerate(layers):
            last = number == len(layers) - 1
            inside = self._convolution(inner, layer, inside, rectified=not last)
            if last:
                break
            value = functional.relu(layer(value))
            following = layers[number + 1]
            if following.kernel_size[0] > 1:
                inner = self._keep(value, following.padding[0], inside)
                self._writes(inner)
        kept, _ = source
        down = None if block.downsample is None else block.downsample[0]
        stride = 1 if down is None else down.stride[0]
        access = Access(kept, [start * stride for start in inside.starts], inside.size, stride=stride)

        def add(window: Tensor | None, row: Tensor, column: Tensor) -> Tensor:
            assert window is not None
            shortcut = kept.pick(access(row, column))
            if down is not None:
                shortcut = functional.conv2d(shortcut, down.weight, down.bias)
            return functional.relu_(window.add_(shortcut))

        self._steps.append(add)
        x = block(x)
        self._last = self._keep(x, padding, inside)
        self._writes(self._last)
        return x, inside

    def remove(self, row: Tensor, column: Tensor) -> Tensor:
        """Put the fill into one cell of each image, on top of what was removed before; logits of all images.

        Args:
            row: Band of rows (N,).
            column: Band of columns (N,).
        """
        kept, access = self._image
        places = access(row, column)
        kept.rows.index_fill_(0, places.flatten(), 0.0)
        window: Tensor | None = None
        for step in self._steps:
            window = step(window, row, column)
        return self._head(self._last[0].values())

    @property
    def kept_bytes(self) -> int:
        """Memory of everything that is kept, of all images."""
        return sum(kept.rows.nbytes for kept, _ in self._kept)

    def remember(self) -> Callable[[Tensor, Tensor], None]:
        """Copy everything kept; the function that is returned puts back what a step at a cell has changed."""
        before = [kept.rows.clone() for kept, _ in self._kept]

        def restore(row: Tensor, column: Tensor) -> None:
            for (kept, access), rows in zip(self._kept, before, strict=True):
                places = access(row, column).flatten()
                kept.rows.index_copy_(0, places, rows.index_select(0, places))

        return restore

    def _head(self, x: Tensor) -> Tensor:
        for stage in self._rest:
            x = self.model.get_submodule(stage)(x)
        logits: Tensor = self.model.fc(self.model.avgpool(x).flatten(1))
        return logits


def _padding_wanted(following: Sequence[nn.Module]) -> int:
    """Zeros around a map, as the first convolution of the next block wants them; none where no block follows."""
    return int(_convolutions(following[0])[0][1].padding[0]) if following else 0


@dataclass(frozen=True)
class Row:
    """What reuse up to a stage gives for a curve.

    Attributes:
        curve: Deletion or occlusion.
        reuse: The last stage of which results are reused.
        ideal: Speed-up if only multiplications whose result changes were made.
        windows: Speed-up if all multiplications of the windows were made, at the speed of a plain pass.
        measured: Seconds of a plain pass over seconds of a step.
        measured_graphs: The same, both replayed as CUDA graphs; None on a CPU.
        plain_s: Of a plain pass of the folded model.
        step_s: Of a step, with what it restores.
        deviation: Largest deviation of a probability from a plain pass of the same images.
        logit_deviation: Largest deviation of a logit, relative to the largest logit.
        moved: How far steps moved a logit, in the same unit. Where no step moves it, an exact result shows nothing.
        kept_bytes: What an image's kept maps take.
    """

    curve: Curve
    reuse: str
    ideal: float
    windows: float
    measured: float
    measured_graphs: float | None
    plain_s: float
    step_s: float
    deviation: float
    logit_deviation: float
    moved: float
    kept_bytes: int

    @property
    def pays(self) -> bool:
        """Whether the better way of launching makes a step `GOAL` times as fast as a plain pass launched alike."""
        return (self.measured if self.measured_graphs is None else self.measured_graphs) >= GOAL


def measure(
    classifier: Classifier,
    *,
    batch: int,
    steps: int,
    curves: Sequence[Curve] = CURVES,
    reuses: Sequence[str] = STAGES,
    precision: Precision = "fp32",
    say: Callable[[str], None] = lambda _line: None,
) -> list[Row]:
    """Both curves with reuse up to each stage, and plain passes of the folded model, in turns.

    Args:
        classifier: A residual network of torchvision.
        batch: Images at once, each with an order of its own.
        steps: Steps of a curve that are timed.
        curves: Which.
        reuses: Stages up to which results are reused.
        precision: Of both ways; under bf16 what is kept is bf16 too.
        say: Gets a line for each row.
    """
    module = classifier.module
    if not isinstance(module, ResNet):
        msg = f"the experiment knows torchvision's residual networks, got {type(module).__name__}"
        raise TypeError(msg)
    model = fused(copy.deepcopy(module))
    model._forward_hooks.clear()  # the ledger's
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(batch, *classifier.shape, generator=generator)
    images = classifier.normalize(pixels.to(classifier.device))
    rows: list[Row] = []
    with torch.inference_mode(), autocast(classifier.device, precision):
        for curve in curves:
            bands = intervals(curve, classifier.shape.height)
            shares = layer_shares(model, Region(classifier.shape.height, bands))
            for reuse in reuses:
                incremental = IncrementalResNet(model, images, bands, reuse)
                rows.append(_row(classifier, incremental, images, curve, steps, shares))
                say(_line(rows[-1]))
    return rows


class _Steps:
    """Steps of a curve on a batch, and plain passes of the same images.

    Attributes:
        logits: Of the last step.
    """

    def __init__(
        self,
        classifier: Classifier,
        incremental: IncrementalResNet,
        images: Tensor,
        curve: Curve,
        bands: Sequence[Interval],
    ) -> None:
        self._classifier, self._incremental, self._images, self._bands = classifier, incremental, images, bands
        self._restore = incremental.remember() if curve == "occlusion" else None
        self._row, self._column = (torch.zeros(len(images), dtype=torch.long, device=images.device) for _ in range(2))
        self._orders = torch.stack(
            [
                torch.randperm(len(bands) ** 2, generator=torch.Generator().manual_seed(number))
                for number in range(len(images))
            ]
        ).to(images.device)
        self._copies = images.clone(memory_format=torch.channels_last)
        self.logits = torch.empty(len(images), classifier.classes, device=images.device)

    def choose(self, number: int) -> None:
        """Take each image's next cell, for both ways."""
        self._row.copy_(self._orders[:, number] // len(self._bands))
        self._column.copy_(self._orders[:, number] % len(self._bands))
        if self._restore is not None:
            self._copies.copy_(self._images)
        for copied, above, left in zip(self._copies, self._row.tolist(), self._column.tolist(), strict=True):
            (top, bottom), (first, last) = self._bands[above], self._bands[left]
            copied[:, top : bottom + 1, first : last + 1] = 0

    def step(self) -> None:
        """Pass what changes; occlusion puts it back."""
        self.logits.copy_(self._incremental.remove(self._row, self._column))
        if self._restore is not None:
            self._restore(self._row, self._column)

    def plain(self) -> Tensor:
        """Logits of the same images by a plain pass."""
        found: Tensor = self._classifier.folded(self._copies)
        return found.float()


def _row(
    classifier: Classifier,
    incremental: IncrementalResNet,
    images: Tensor,
    curve: Curve,
    steps: int,
    shares: Sequence[LayerShare],
) -> Row:
    """One curve with reuse up to one stage."""
    device = images.device
    bands = intervals(curve, classifier.shape.height)
    both = _Steps(classifier, incremental, images, curve, bands)
    original = both.plain()
    plain_s, step_s, differences = [], [], []
    # the first step is a warm-up
    for number in range(min(steps + 1, len(bands) ** 2)):
        both.choose(number)
        step_s.append(seconds_of(both.step, device))
        expected = both.plain()
        plain_s.append(seconds_of(both.plain, device))
        probabilities, wanted = both.logits.softmax(1), expected.softmax(1)
        differences.append(
            torch.stack(
                [
                    (probabilities - wanted).abs().amax(),
                    (both.logits - expected).abs().amax() / expected.abs().amax(),
                    (expected - original).abs().amax() / expected.abs().amax(),
                ]
            )
        )
    deviation, logit_deviation, moved = torch.stack(differences).amax(0).tolist()
    return Row(
        curve=curve,
        reuse=incremental.reuse,
        ideal=ideal_speedup(shares, incremental.reuse),
        windows=ideal_speedup(shares, incremental.reuse, windows=True),
        measured=min(plain_s[1:]) / min(step_s[1:]),
        measured_graphs=_as_graphs(both, steps) if device.type == "cuda" else None,
        plain_s=min(plain_s[1:]),
        step_s=min(step_s[1:]),
        deviation=deviation,
        logit_deviation=logit_deviation,
        moved=moved,
        kept_bytes=incremental.kept_bytes // len(images),
    )


def _as_graphs(both: _Steps, rounds: int) -> float:
    """Seconds of a plain pass over those of a step, both replayed as CUDA graphs."""
    graphs = {"step": recorded(both.step)[0], "plain": recorded(both.plain)[0]}
    seconds = {
        name: [seconds_of(graph.replay, both.logits.device) for _ in range(rounds)] for name, graph in graphs.items()
    }
    return min(seconds["plain"]) / min(seconds["step"])


def _line(row: Row) -> str:
    graphs = "" if row.measured_graphs is None else f", as graphs {row.measured_graphs:.2f}"
    return (
        f"{row.curve}, reuse up to {row.reuse}: {row.measured:.2f} times as fast{graphs}; multiplications "
        f"{row.ideal:.2f} times fewer, {row.windows:.2f} in windows; probabilities deviate by "
        f"{row.deviation:.1e}, logits by {row.logit_deviation:.1e} of the largest, where steps moved them by "
        f"{row.moved:.1e}; {row.kept_bytes / 1e6:.1f} MB kept an image"
    )


def main() -> None:
    """Measure, print what was found, write JSON if wanted."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.incremental",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default cpu")
    parser.add_argument("--batch", type=int, help="images at once (default 8, on CUDA 64)")
    parser.add_argument("--steps", type=int, default=5, help="steps timed, of which the fastest counts (default 5)")
    parser.add_argument("--layers", action="store_true", help="print what changes in each layer, measure nothing")
    parser.add_argument("--out", type=Path, help="where to write the rows as JSON")
    arguments = parser.parse_args()
    console = Console(width=140)
    classifier = load("resnet50", arguments.device)
    if arguments.layers:
        for curve in CURVES:
            console.print(layer_table(classifier, curve))
        return
    batch = arguments.batch or (64 if arguments.device == "cuda" else 8)
    rows = measure(classifier, batch=batch, steps=arguments.steps, say=console.print)
    best = max(rows, key=lambda row: row.measured_graphs or row.measured)
    console.print(f"goal {GOAL}: {'reached' if best.pays else 'missed'}; best: {_line(best)}")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def layer_table(classifier: Classifier, curve: Curve) -> Table:
    """What a step changes in every layer."""
    table = Table(title=f"{curve}: what one step changes in resnet50")
    for column in ("layer", "million multiplications", "changed", "in the window"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    module = classifier.module
    assert isinstance(module, ResNet)
    shares = layer_shares(module, Region(classifier.shape.height, intervals(curve, classifier.shape.height)))
    for share in shares:
        table.add_row(share.name, f"{share.macs / 1e6:.0f}", f"{share.changed_share:.1%}", f"{share.window_share:.1%}")
    for reuse in STAGES:
        table.add_row(
            f"reuse up to {reuse}",
            "",
            f"{ideal_speedup(shares, reuse):.2f} x",
            f"{ideal_speedup(shares, reuse, windows=True):.2f} x",
        )
    return table


if __name__ == "__main__":
    main()
