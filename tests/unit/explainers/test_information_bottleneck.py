"""The information bottleneck against its formula; whose statistics it takes; which layers can be bottlenecks."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
import torchvision
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

import digits
import reference_explainers
import reference_perturbation as reference
from auditcore.auditing import audit
from auditcore.contracts.checks import DeletionCheck
from auditcore.contracts.explainers import Gradient, Iba
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.request import AuditRequest
from auditcore.costs.estimate import explanation_passes, passes_of, waves_of
from auditcore.errors import NotApplicable, ShapeError
from auditcore.explainers.attribution import Attribution, Batch
from auditcore.explainers.bottleneck_layers import nearest_passage, passages
from auditcore.explainers.information_bottleneck import (
    gaussian,
    information,
    measure_statistics,
    reduce_statistics,
)
from auditcore.explainers.registry import applicability, explain
from auditcore.metrics.constancy import is_constant
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams

SIDE = reference_explainers.SIDE
PREPROCESSING = Preprocessing(resize=SIDE, crop=SIDE, mean=(0.45, 0.5, 0.4), std=(0.2, 0.25, 0.3))
MEAN, STD = (torch.tensor(channel).double().view(3, 1, 1) for channel in (PREPROCESSING.mean, PREPROCESSING.std))
NET = reference_explainers.ResidualNet(seed=3)
TARGETS = torch.tensor([2, 0])


def streams(count: int, view: str = "original") -> Streams:
    return Streams(7, tuple(f"sha256:{number}" for number in range(count))).viewing([view] * count)


def statistics(classifier: Classifier, contract: Iba, images: Tensor, micro_batch: int = 32) -> tuple[float, ...]:
    batch = Batch(classifier, images, torch.zeros(len(images)).long(), streams(len(images)), micro_batch)
    halves = [number % 2 for number in range(len(images))]
    return reduce_statistics(contract, measure_statistics(batch, contract, halves).tolist())


def run(
    classifier: Classifier,
    contract: Iba,
    images: Tensor,
    measured: tuple[float, ...],
    *,
    micro_batch: int = 32,
    view: str = "original",
) -> Attribution:
    targets = classifier.logits(images).argmax(1)
    shared = {contract.shared_key: measured}
    viewed = streams(len(images), view)
    return explain(classifier, contract, images, targets, viewed, micro_batch=micro_batch, shared=shared)


# --- the formula -----------------------------------------------------------------------------------


def halves(net: reference_explainers.ResidualNet, layer: str) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """The network up to a layer, and from its output on, in float64 and without hooks."""
    net = copy.deepcopy(net).double().requires_grad_(requires_grad=False)

    def middle(x: Tensor) -> Tensor:
        y = F.relu(net.inner_norm(net.inner(x)))
        return net.down(F.relu(x + net.outer_norm(net.outer(y))))

    def end(x: Tensor) -> Tensor:
        return net.head(F.relu(x).mean([2, 3]))

    if layer == "down":
        return lambda x: middle(F.relu6(net.stem_norm(net.stem(x)))), end
    assert layer == "stem_norm"
    return lambda x: net.stem_norm(net.stem(x)), lambda x: end(middle(F.relu6(x)))


@pytest.mark.parametrize(
    ("layer", "scores", "smoothing"),
    [("stem_norm", "softmax", 1.0), ("down", "softmax", 0.6), ("down", "sigmoid", 0.0), ("down", "softmax", 3.0)],
)
def test_replica(layer: str, scores: str, smoothing: float) -> None:
    classifier = Classifier(NET, preprocessing=PREPROCESSING, scores=scores)
    pixels = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    # at so low a price that cross-entropy and noise weigh as much as the information
    contract = Iba(layer=layer, steps=4, samples=3, beta=0.01, learning_rate=0.7, smoothing=smoothing)
    below, above = halves(NET, layer)
    outputs = below((pixels.double() - MEAN) / STD)
    channels, side = outputs.shape[1], outputs.shape[2]
    # some distribution that is not that of these images, and a channel that is never active
    mean, sd = torch.linspace(-0.5, 0.5, channels).double(), torch.linspace(0.3, 1.2, channels).double()
    active = torch.ones(channels).double()
    active[1] = 0
    measured = tuple(torch.cat((mean, sd, active)).tolist())
    maps = explain(
        classifier,
        contract,
        pixels,
        TARGETS,
        streams(2, "rotate"),
        micro_batch=4,
        shared={contract.shared_key: measured},
    ).maps
    assert maps.shape == (2, 1, SIDE, SIDE)

    def loss(logits: Tensor, target: int) -> Tensor:
        return -(logits.sigmoid() if scores == "sigmoid" else logits.softmax(1))[0, target].log()

    shape = (3, channels, side, side)
    for position, target in enumerate(TARGETS.tolist()):
        noises = [
            streams(2, "rotate").generator(position, "iba", step).standard_normal(shape, dtype=np.float32)
            for step in range(4)
        ]
        bits = reference.bottleneck_bits(
            outputs[position],
            *(values[:, None, None] for values in (mean, sd, active)),
            [[torch.from_numpy(sample).double() for sample in samples] for samples in noises],
            lambda z, target=target: loss(above(z[None]), target),
            beta=0.01,
            learning_rate=0.7,
            sigma=smoothing,
        )
        expected = reference.upsample(bits, SIDE)
        assert np.ptp(expected) > 0.1 * expected.max() > 0
        np.testing.assert_allclose(maps[position, 0], expected, rtol=0, atol=2e-4 * expected.max())


@pytest.mark.parametrize("positions", [2, 3, 7, 20])
@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 2.5])
def test_smoothing_is_a_gaussian_cut_at_two_sigma(positions: int, sigma: float) -> None:
    matrix = gaussian(positions, sigma).double().numpy()
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-6)
    values = np.random.default_rng(0).random((positions, positions))
    # scipy's mirror repeats no border, like torch's reflection
    expected = gaussian_filter(values, sigma, mode="mirror", radius=round(2 * sigma))
    np.testing.assert_allclose(matrix @ values @ matrix.T, expected, atol=1e-6)


def test_information_is_the_divergence_from_the_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64) * 3
    closed = torch.rand(2, 3, 4, 4, generator=generator, dtype=torch.float64) * 0.98 + 0.01
    expected = kl_divergence(Normal((1 - closed) * outputs, closed), Normal(0.0, 1.0))
    torch.testing.assert_close(information(outputs, closed), expected)
    assert float(information(outputs, closed).min()) >= 0
    # nothing passes, nothing is told
    assert float(information(outputs, torch.ones_like(closed)).abs().max()) == 0


def test_less_information_at_a_higher_price(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:4]
    measured = statistics(digit_classifier, Iba(layer="down"), digits.digit_pixels()[0][:50])
    cheap, dear = (
        run(digit_classifier, Iba(layer="down", beta=beta), images, measured, micro_batch=64).maps.sum((1, 2, 3))
        for beta in (1.0, 100.0)
    )
    assert (cheap > 2 * dear).all()
    assert (dear > 0).all()


def test_values_that_a_float_cannot_represent_are_not_hidden() -> None:
    # the model looks at nothing else than this layer, so a nearly free mask opens until 1 - lambda underflows
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    classifier = Classifier(module, preprocessing=Preprocessing(resize=8, crop=8))
    contract = Iba(layer="0", beta=1e-30, learning_rate=10, steps=40, smoothing=0)
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    maps = run(classifier, contract, images, statistics(classifier, contract, images)).maps
    assert not maps.isfinite().all()
    values = maps.flatten(1)
    # which every check takes for a map that says nothing
    assert is_constant(values, torch.ones_like(values, dtype=torch.bool)).tolist() == [True, True]
    assert run(classifier, Iba(layer="0"), images, statistics(classifier, contract, images)).maps.isfinite().all()


# --- statistics of the layer -----------------------------------------------------------------------


def test_statistics_belong_to_all_positions_of_all_images(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:7]
    contract = Iba(layer="stem.2")
    measured = np.array(statistics(digit_classifier, contract, images, micro_batch=3)).reshape(3, 3, -1)[0]
    with torch.no_grad():
        outputs = digits.trained().stem(digit_classifier.normalize(images)).double()
    np.testing.assert_allclose(measured[0], outputs.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(measured[1], outputs.transpose(0, 1).flatten(1).std(1), rtol=1e-6)
    assert (measured[2] == 1).all()
    # two shards, whatever their micro-batches, leave the same rows
    batch = Batch(digit_classifier, images, torch.zeros(7).long(), streams(7), micro_batch=7)
    rows = measure_statistics(batch, contract, [0] * 7).tolist()
    part = Batch(digit_classifier, images[3:], torch.zeros(4).long(), streams(4), micro_batch=2)
    np.testing.assert_allclose(measure_statistics(part, contract, [0] * 4), rows[3:], rtol=1e-5, atol=1e-7)


def test_nearly_silent_channels_are_left_out_and_deviations_have_a_floor() -> None:
    # rows of two channels: half; positions; means; variances over positions; shares that are not zero
    rows = [[0.0, 100.0, 0.001, 2.0, 0.0, 0.0, 0.01, 1.0], [1.0, 300.0, 0.002, 2.0, 1e-8, 0.0, 0.01, 1.0]]
    found = reduce_statistics(Iba(), rows)
    assert found[:6] == pytest.approx((0.00175, 2.0, 0.01, 0.01, 0.0, 1.0))
    assert found[6:] == pytest.approx((0.001, 2.0, 0.01, 0.01, 0.0, 1.0, 0.002, 2.0, 0.01, 0.01, 0.0, 1.0))
    rows[1][6] = 0.011
    assert reduce_statistics(Iba(), rows)[4:6] == (1.0, 1.0)


def test_an_inactive_channel_neither_passes_nor_informs(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:2]
    contract = Iba(layer="down", steps=2)
    channels = np.array(statistics(digit_classifier, contract, images)).reshape(3, 3, -1)
    channels[:, 2] = 0
    maps = run(digit_classifier, contract, images, tuple(channels.flatten().tolist())).maps
    assert float(maps.abs().max()) == 0


def test_without_statistics_it_does_not_apply(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:1]
    with pytest.raises(NotApplicable, match="belong to a whole audit and were not measured"):
        explain(digit_classifier, Iba(), images, torch.tensor([1]), streams(1))
    # those of an entry of another name are not its own
    shared = {Iba(name="other").shared_key: (0.0,)}
    with pytest.raises(NotApplicable, match="not measured"):
        explain(digit_classifier, Iba(), images, torch.tensor([1]), streams(1), shared=shared)
    with pytest.raises(ShapeError, match="activity of 16 channels, got 72"):
        run(digit_classifier, Iba(layer="down"), images, statistics(digit_classifier, Iba(layer="stem"), images))


def test_the_plan_measures_first() -> None:
    checks = (DeletionCheck(),)
    plain = AuditPlan(explainers=(Gradient(),), checks=checks)
    assert waves_of(plain) == ("compute",)
    plan = AuditPlan(explainers=(Gradient(), Iba(), Iba(name="early", layer="stem")), checks=checks)
    assert waves_of(plan) == ("measure", "compute")
    assert passes_of(plan, wave="measure") == 1 + 2


def test_scores_of_an_audit_do_not_depend_on_its_shards(tmp_path: Path) -> None:
    request = AuditRequest(
        model=digits.reference(digits.write_weights(tmp_path)),
        images=ImageBatchReference(digest="sha256:" + "0" * 64),
        plan=AuditPlan(
            explainers=(Iba(layer="down", steps=2, samples=2), Iba(name="inside", layer="inner.0")),
            checks=(DeletionCheck(grid=4, repeats=1),),
        ),
    )
    one, two = (
        audit(request, images=digits.encoded(4), access=digits.access(tmp_path), audit_id="test", **options)
        for options in ({}, {"shard_images": 2, "micro_batch": 3})
    )
    scores = {result.metric: result for result in one.results if result.explainer == "iba"}
    again = {result.metric: result for result in two.results if result.explainer == "iba"}
    assert scores["srg"].n == 4
    for metric, result in scores.items():
        np.testing.assert_allclose(again[metric].per_image, result.per_image, rtol=1e-4, atol=1e-5)
    # the other entry is answered with its reason, and the audit goes on
    (inside,) = (result for result in one.results if (result.explainer, result.metric) == ("inside", "srg"))
    assert inside.n_not_applicable == 4
    assert "reaches the logits around it" in inside.reasons[0]


# --- what must hold --------------------------------------------------------------------------------


def test_maps_do_not_depend_on_the_batch(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:5]
    contract = Iba(layer="down", steps=3, samples=4)
    measured = statistics(digit_classifier, contract, images)
    # 7: one image with its 4 samples; 3: its samples in two passes; 12: three images at once
    whole = run(digit_classifier, contract, images, measured, micro_batch=7).maps
    assert torch.equal(run(digit_classifier, contract, images, measured, micro_batch=7).maps, whole)
    scale = float(whole.max())
    for micro_batch in (1, 3, 12, 64):
        maps = run(digit_classifier, contract, images, measured, micro_batch=micro_batch).maps
        torch.testing.assert_close(maps, whole, rtol=0, atol=1e-4 * scale)
    targets = digit_classifier.logits(images).argmax(1)
    order = [3, 0]
    shared = {contract.shared_key: measured}
    alone = explain(digit_classifier, contract, images[order], targets[order], streams(5).take(order), shared=shared)
    torch.testing.assert_close(alone.maps, whole[order], rtol=0, atol=1e-4 * scale)


def test_noise_belongs_to_image_and_view(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:1].expand(2, -1, -1, -1)
    # at a price so low that the model's loss, hence the noise, decides
    contract = Iba(layer="down", steps=3, samples=2, beta=1e-3)
    measured = statistics(digit_classifier, contract, digits.digit_pixels()[0][:20])
    maps = run(digit_classifier, contract, images, measured).maps
    assert not torch.allclose(maps[0], maps[1], rtol=1e-3)
    turned = run(digit_classifier, contract, images, measured, view="rotate/3").maps
    assert not torch.allclose(maps, turned, rtol=1e-3)


def test_nothing_is_left_behind_and_every_pass_is_counted(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:3]
    contract = Iba(layer="down", steps=4, samples=5)
    logits = digit_classifier.logits(images)
    ledger = digit_classifier.ledger
    before = ledger.forward_images, ledger.backward_images
    measured = statistics(digit_classifier, contract, images)
    assert (ledger.forward_images - before[0], ledger.backward_images - before[1]) == (3, 0)
    run(digit_classifier, contract, images, measured)
    # the measurement, the target, the layer's output, and then 4 steps of 5 samples with each of three statistics
    forward, backward = ledger.forward_images - before[0], ledger.backward_images - before[1]
    assert (forward, backward) == (3 * (1 + 1 + 1 + 3 * 20), 3 * 3 * 20)
    assert explanation_passes(contract) == pytest.approx(1 + 20 * (1 + 1.3))
    assert torch.equal(digit_classifier.logits(images), logits)
    # the one on the whole is the ledger's
    assert sum(len(layer._forward_hooks) for layer in digit_classifier.module.modules()) == 1
    assert all(parameter.grad is None for parameter in digit_classifier.module.parameters())


# --- layers ----------------------------------------------------------------------------------------


def depends_on_image(classifier: Classifier, layer: str) -> bool:
    """Whether logits differ between two images although the layer gives the same for both."""
    images = torch.rand(2, *classifier.shape, generator=torch.Generator().manual_seed(3))
    outputs: list[Tensor] = []

    def freeze(_layer: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        outputs.append(output[:1].expand_as(output).clone())
        return outputs[-1].clone()

    handle = classifier.module.get_submodule(layer).register_forward_hook(freeze)
    with torch.inference_mode():
        logits = classifier.module(classifier.normalize(images))
    handle.remove()
    # exactly: an untrained model makes little of an image, but what flows in both rows alike leaves no difference
    return not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "digits"])
def test_nothing_flows_around_a_passage(name: str, digit_classifier: Classifier) -> None:
    classifier = digit_classifier if name == "digits" else fresh(name)
    found = passages(classifier)
    assert 3 < len(found) < len(classifier.feature_layers) - 3
    runs_twice = {layer for layer in classifier.feature_layers if layer.split(".")[-1] == "relu"}
    for layer in classifier.feature_layers:
        if layer not in runs_twice:
            assert depends_on_image(classifier, layer) == (layer not in found), layer


def fresh(name: str, size: int = 32) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = torchvision.models.get_model(name, weights=None)
    return Classifier(module, preprocessing=Preprocessing(resize=size, crop=size), trained=False)


def test_the_automatic_layer_lies_at_two_thirds_of_the_convolutions(digit_classifier: Classifier) -> None:
    features = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])
    vgg16 = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))
    # 9 of 13 convolutions; the paper's features[17] is the 8th
    assert nearest_passage(Classifier(vgg16, preprocessing=Preprocessing(resize=32, crop=32))) == "0.19"
    # not a convolution inside a block: layer3.0 ends with the 13th of 20
    assert nearest_passage(fresh("resnet18", size=64)) == "layer3.0"
    # 1 and 3 of 3 are equally near; `inner.0` would be nearer, but the skip connection flows around it
    assert nearest_passage(digit_classifier) == "stem.0"
    images = digits.digit_pixels()[0][:1]
    measured = statistics(digit_classifier, Iba(), images)
    automatic, named = (
        run(digit_classifier, Iba(layer=layer, steps=2), images, measured).maps for layer in (None, "stem.0")
    )
    assert torch.equal(automatic, named)


@pytest.mark.parametrize(
    ("layer", "match"),
    [
        ("inner.0", "layer 'inner.0' .* reaches the logits around it; one that everything passes is 'stem.0'"),
        ("relu", "runs more than once"),
        ("dwn", "no layer 'dwn' .* did you mean 'down'"),
        ("head", "no layer 'head' that gives feature maps"),
    ],
)
def test_layers_that_restrict_nothing_do_not_apply(layer: str, match: str, digit_classifier: Classifier) -> None:
    with pytest.raises(NotApplicable, match=match) as caught:
        explain(digit_classifier, Iba(layer=layer), digits.digit_pixels()[0][:1], torch.tensor([1]), streams(1))
    assert applicability(digit_classifier, Iba(layer=layer)) == caught.value.message
    with pytest.raises(NotApplicable, match=match):
        statistics(digit_classifier, Iba(layer=layer), digits.digit_pixels()[0][:1])


class Layouts(nn.Module):
    """The same features in every layout, one after the other; logits are read off a nonlinear mean."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.tokens, self.beside = (nn.Identity() for _ in range(4))
        self.conv, self.head = nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.first(self.conv(x)).permute(0, 2, 3, 1))
        x = self.tokens(x.flatten(1, 2))
        x = self.beside(torch.cat((x.mean(1, keepdim=True), x), dim=1))
        return self.head(x.tanh().mean(1))


def test_layouts_make_no_difference() -> None:
    torch.manual_seed(0)
    classifier = Classifier(Layouts(), preprocessing=Preprocessing(resize=8, crop=8))
    assert classifier.layouts == {
        "conv": "channels_first",
        "first": "channels_first",
        "last": "channels_last",
        "tokens": "tokens",
        "beside": "tokens",
    }
    # with a class token, the grid does not contain all the information
    assert passages(classifier) == ("conv", "first", "last", "tokens")
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    maps = {}
    for layer in passages(classifier):
        contract = Iba(layer=layer, steps=3, samples=2, beta=0.1)
        maps[layer] = run(classifier, contract, images, statistics(classifier, contract, images), micro_batch=3).maps
        torch.testing.assert_close(maps[layer], maps["conv"], rtol=1e-3, atol=1e-4 * float(maps["conv"].max()))
    assert (maps["conv"].amax((1, 2, 3)) > 1.1 * maps["conv"].amin((1, 2, 3))).all()


def test_no_bottleneck_without_feature_maps() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
    classifier = Classifier(flat, preprocessing=Preprocessing(resize=8, crop=8))
    assert "no layer with feature maps" in str(applicability(classifier, Iba()))


def test_bits_are_those_of_a_free_channel() -> None:
    # one step at rate 0+: lambda stays sigmoid(5), so a standardized output of 1 tells a known number of bits
    module = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    nn.init.constant_(module[0].weight, 1 / 3)
    classifier = Classifier(module, preprocessing=Preprocessing(resize=8, crop=8, mean=(0, 0, 0), std=(1, 1, 1)))
    images = torch.full((1, 3, 8, 8), 0.5)
    maps = run(classifier, Iba(layer="0", steps=1, samples=1, learning_rate=1e-9), images, (0.0, 0.5, 1.0)).maps
    open_share = 1 / (1 + math.exp(-5))
    closed = 1 - open_share
    nats = -math.log(closed) + (open_share**2 + closed**2 - 1) / 2
    torch.testing.assert_close(maps, torch.full_like(maps, nats / math.log(2)))
