"""What a removed cell changes is computed by hand; the network itself says whether that is right."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.models import ResNet, resnet50
from torchvision.models.resnet import BasicBlock, Bottleneck

from benchmarks.incremental import (
    CURVES,
    STAGES,
    Curve,
    IncrementalResNet,
    LayerShare,
    Region,
    changed,
    fused,
    ideal_speedup,
    intervals,
    layer_shares,
)

SIDE = 56


def small(block: type[BasicBlock | Bottleneck]) -> ResNet:
    """Untrained, with statistics of batch normalization that are not neutral."""
    torch.manual_seed(0)
    model = ResNet(block, [2, 1, 2, 1], num_classes=5).eval()
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.1, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
            layer.bias.data.uniform_(-0.2, 0.2)
    return model.requires_grad_(requires_grad=False)


def noise(count: int) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def test_a_cell_reaches_as_far_as_kernels_reach() -> None:
    # the second cell of 16 pixels under resnet's 7 x 7 convolution and its pooling
    assert changed((16, 31), kernel=7, stride=2, padding=3, size=112) == (7, 17)
    assert changed((7, 17), kernel=3, stride=2, padding=1, size=56) == (3, 9)
    # cut at both borders
    assert changed((0, 15), kernel=3, stride=1, padding=1, size=16) == (0, 15)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
@pytest.mark.parametrize("curve", CURVES)
def test_exactly_the_positions_named_see_a_cell(block: type[BasicBlock | Bottleneck], curve: Curve) -> None:
    model = small(block)
    seen: dict[str, Tensor] = {}
    for stage in ("maxpool", "layer1", "layer2", "layer3"):
        model.get_submodule(stage).register_forward_hook(
            lambda _module, _inputs, output, stage=stage: seen.update({stage: output})
        )
    region = Region(SIDE, intervals(curve, SIDE))
    for band in (0, len(region.bands) // 2, len(region.bands) - 1):
        first, last = region.bands[band]
        image = torch.zeros(1, 3, SIDE, SIDE)
        # what sees a NaN is a NaN
        image[:, :, first : last + 1, first : last + 1] = math.nan
        model(image)
        found = region.after(model.conv1).after(model.maxpool)
        for stage in seen:
            if stage != "maxpool":
                for inner in model.get_submodule(stage):
                    for name in ("conv1", "conv2", "conv3")[: 3 if block is Bottleneck else 2]:
                        found = found.after(getattr(inner, name))
            rows = seen[stage][0, 0].isnan().any(dim=1).nonzero()
            assert (int(rows.min()), int(rows.max())) == found.bands[band]


def test_shares_add_up_to_the_published_cost_of_resnet50() -> None:
    shares = layer_shares(resnet50(weights=None), Region(224, intervals("deletion", 224)))
    # torchvision's own table: 4.09 billion
    assert sum(share.macs for share in shares) == pytest.approx(4.09e9, rel=1e-3)
    assert all(0 < share.changed_share <= share.window_share <= 1 for share in shares)
    found = [ideal_speedup(shares, reuse) for reuse in STAGES]
    assert found == pytest.approx([1.03, 1.23, 1.71, 2.56], abs=0.01)


def test_a_speedup_counts_only_what_is_reused() -> None:
    shares = [LayerShare("stem.conv1", "stem", 60, 0.5, 1.0), LayerShare("layer1.0.conv1", "layer1", 40, 0.25, 0.5)]
    assert ideal_speedup(shares, "stem") == pytest.approx(100 / 70)
    assert ideal_speedup(shares, "layer1") == pytest.approx(100 / 40)
    assert ideal_speedup(shares, "layer1", windows=True) == pytest.approx(100 / 80)


@pytest.mark.parametrize("reuse", STAGES)
@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
@torch.inference_mode()
def test_a_step_gives_what_a_whole_pass_gives(block: type[BasicBlock | Bottleneck], curve: Curve, reuse: str) -> None:
    plain, images = small(block), noise(3)
    bands = intervals(curve, SIDE)
    incremental = IncrementalResNet(fused(small(block)), images, bands, reuse)
    restore = incremental.remember()
    copies = images.clone()
    before = plain(images)
    generator = torch.Generator().manual_seed(2)
    for _ in range(4):
        row, column = (torch.randint(len(bands), (len(images),), generator=generator) for _ in range(2))
        if curve == "occlusion":
            copies = images.clone()
        for image in range(len(images)):
            (top, bottom), (left, right) = bands[row[image]], bands[column[image]]
            copies[image, :, top : bottom + 1, left : right + 1] = 0
        found, expected = incremental.remove(row, column), plain(copies)
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
        # or nothing would be shown
        assert (expected - before).abs().amax() > 1e-3
        if curve == "occlusion":
            restore(row, column)


def test_windows_that_do_not_cover_the_side_are_refused() -> None:
    with pytest.raises(ValueError, match="do not cover a side of 61 evenly"):
        intervals("occlusion", 61)
