"""AttnLRP against the code of its authors, against the rules of the paper by hand, and on models of every kind."""

from __future__ import annotations

import functools
import gc
import json
import math
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812
import torchvision
import transformers
from torch import Tensor, nn

import digit_transformer
import digits
import small_transformers
from auditcore.contracts.checks import DeletionCheck
from auditcore.contracts.explainers import AttnLrp
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.speed import Speed
from auditcore.engine.shard import run_shard
from auditcore.engine.shard_task import Runtime, ShardTask
from auditcore.explainers.attn_lrp import relevance_of
from auditcore.explainers.registry import applicability, explain
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams

LXT = Path(__file__).parents[2] / "data" / "lxt-relevance.json"
STREAMS = Streams(7, ("sha256:0", "sha256:1"))


class Logits(nn.Module):
    """The logits of a model of transformers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).logits


def classifier(module: nn.Module, size: int) -> Classifier:
    return Classifier(module, preprocessing=Preprocessing(resize=size, crop=size))


def random(*shape: int, seed: int = 3) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape))


# --- the authors' code -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "model", "precision", "tolerance"),
    [
        # lxt.efficient computes in float32
        ("torchvision", small_transformers.torchvision_vit, torch.float32, 2e-6),
        ("transformers", lambda: Logits(small_transformers.transformers_vit()), torch.float32, 2e-6),
        ("explicit", small_transformers.torchvision_vit, torch.float64, 1e-12),
    ],
)
def test_lxt_agrees(found: str, model: Callable[[], nn.Module], precision: torch.dtype, tolerance: float) -> None:
    module = model()
    small_transformers.fill(module.model if isinstance(module, Logits) else module)
    module = module.to(precision).requires_grad_(requires_grad=False)
    actual, _ = relevance_of(module, small_transformers.images().to(precision), small_transformers.TARGETS)
    expected = torch.tensor(json.loads(LXT.read_text())[found], dtype=torch.float64)
    assert expected.shape == (2, 3, small_transformers.SIDE, small_transformers.SIDE)
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=tolerance * float(expected.abs().max()))


# --- the rules of the paper, number by number ------------------------------------------------------


class TwoTokens(nn.Module):
    """Attention of two tokens of two features: queries, keys and values are dense layers, the logits their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = [random(2, 2, seed=seed) for seed in range(3)]
        self.biases = [random(2, seed=10 + seed) for seed in range(3)]

    def forward(self, image: Tensor) -> Tensor:
        tokens = image[:, 0]
        query, key, value = (tokens @ w.mT + b for w, b in zip(self.weights, self.biases, strict=True))
        mixed = (query @ key.mT / math.sqrt(2)).softmax(-1) @ value
        return mixed.flatten(1)


def relevance_by_hand(module: TwoTokens, x: np.ndarray, target: int) -> np.ndarray:
    """Relevance of 2 x 2 inputs, rule by rule with loops: Eq. 13, Prop. 3.1, Eq. 15 and Eq. 8 of Achtibat et al."""
    weights, biases = ([each.numpy() for each in given] for given in (module.weights, module.biases))
    query, key, value = (x @ w.T + b for w, b in zip(weights, biases, strict=True))
    scores = query @ key.T / math.sqrt(2)
    attention = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    mixed = attention @ value
    row, feature = divmod(target, 2)
    # value path and attention path get half each
    of_value, of_attention = np.zeros((2, 2)), np.zeros((2, 2))
    for token in range(2):
        share = attention[row, token] * value[token, feature] / (2 * mixed[row, feature]) * mixed[row, feature]
        of_value[token, feature] += share
        of_attention[row, token] += share
    of_scores = np.zeros((2, 2))
    for token in range(2):
        of_scores[row, token] = scores[row, token] * (
            of_attention[row, token] - attention[row, token] * of_attention[row].sum()
        )
    of_query, of_key = np.zeros((2, 2)), np.zeros((2, 2))
    for token in range(2):
        for place in range(2):
            product = query[row, place] * key[token, place] / math.sqrt(2)
            share = product / (2 * scores[row, token]) * of_scores[row, token]
            of_query[row, place] += share
            of_key[token, place] += share
    of_input = np.zeros((2, 2))
    for relevance, output, weight in zip((of_query, of_key, of_value), (query, key, value), weights, strict=True):
        for token in range(2):
            for place in range(2):
                for source in range(2):
                    of_input[token, source] += (
                        x[token, source] * weight[place, source] / output[token, place] * relevance[token, place]
                    )
    return of_input


@pytest.mark.parametrize("target", range(4))
def test_attention_of_two_tokens_by_hand(target: int) -> None:
    module, image = TwoTokens(), random(1, 1, 2, 2, seed=5)
    actual, score = relevance_of(module, image, torch.tensor([target]))
    expected = relevance_by_hand(module, image[0, 0].numpy(), target)
    assert score.item() == pytest.approx(module(image)[0, target].item())
    np.testing.assert_allclose(actual[0, 0].numpy(), expected, rtol=1e-10)


class Conserving(nn.Module):
    """Everything that has a rule which keeps all relevance: no bias, and no softmax, whose Taylor expansion has one."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.activation = activation
        self.first, self.second = random(6, 4, seed=1), random(6, 4, seed=2)

    def forward(self, image: Tensor) -> Tensor:
        x = F.layer_norm(image[:, 0], (4,))
        left, right = x @ self.first.mT, self.activation(x @ self.second.mT)
        x = (left @ right.mT + (left * right)[:, :, :3]) / x.square().sum((1, 2), keepdim=True).add(1).sqrt()
        x = F.group_norm(x, 3) * x.square().mean(-1, keepdim=True).add(1e-3).rsqrt()
        return x.flatten(1) @ random(9, 2, seed=4)


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS = [
    *(F.gelu, functools.partial(F.gelu, approximate="tanh"), quick_gelu, F.silu, F.mish, F.hardswish, F.relu),
    *(F.relu6, F.leaky_relu, F.celu, functools.partial(F.celu, alpha=0.3)),
    functools.partial(F.hardtanh, min_val=-0.5, max_val=0.4),
]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_relevance_is_conserved(activation: Callable[[Tensor], Tensor]) -> None:
    relevance, scores = relevance_of(Conserving(activation), random(3, 1, 3, 4, seed=6), torch.tensor([0, 1, 1]))
    torch.testing.assert_close(relevance.sum((1, 2, 3)), scores, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_all_relevance_of_an_activation_goes_to_its_input(activation: Callable[[Tensor], Tensor]) -> None:
    class Elementwise(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return activation(image).sum((1, 2, 3))[:, None]

    image = random(1, 1, 4, 5)
    image[0, 0, 0, 0] = 0.0
    relevance, _ = relevance_of(Elementwise(), image, torch.tensor([0]))
    torch.testing.assert_close(relevance, activation(image), rtol=1e-12, atol=1e-15)


# --- one attention, written in many ways -----------------------------------------------------------

WIDTH, HEADS = 8, 2
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def by_operators(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])).softmax(-1) @ value


def by_einsum(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = torch.einsum("nhid,nhjd->nhij", query * query.shape[-1] ** -0.5, key)
    return torch.einsum("nhij,nhjd->nhid", F.softmax(scores, dim=-1, dtype=scores.dtype), value)


def by_batched_products(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    query, key, value = (each.flatten(0, 1) for each in (query, key, value))
    scores = torch.baddbmm(query.new_zeros(1, 1, 1), query, key.mT, alpha=query.shape[-1] ** -0.5)
    return torch.bmm(torch.softmax(scores, 2), value).unflatten(0, (-1, HEADS))


class Attending(nn.Module):
    """A class token and four patches, one block, its attention written in one of many ways."""

    def __init__(self, attend: Attend) -> None:
        super().__init__()
        self.attend = attend
        self.patches = nn.Conv2d(3, WIDTH, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.norm, self.last = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).mT
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        qkv = self.qkv(self.norm(x)).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        mixed = self.attend(qkv[0], qkv[1], qkv[2])
        x = x + F.gelu(self.out(mixed.transpose(1, 2).flatten(2)))
        return self.head(self.last(x)[:, 0])


class AttendingByLayer(Attending):
    """The same with `nn.MultiheadAttention`."""

    def __init__(self, *, weights: bool) -> None:
        super().__init__(by_operators)
        self.weights = weights

    def forward(self, image: Tensor) -> Tensor:
        layer = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, dtype=image.dtype).eval()
        layer.in_proj_weight.data, layer.in_proj_bias.data = self.qkv.weight.data, self.qkv.bias.data
        layer.out_proj.load_state_dict(self.out.state_dict())
        layer.requires_grad_(requires_grad=False)
        x = self.patches(image).flatten(2).mT
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        normed = self.norm(x)
        mixed, _ = layer(normed, normed, normed, need_weights=self.weights, average_attn_weights=False)
        return self.head(self.last(x + F.gelu(mixed))[:, 0])


def scripted() -> nn.Module:
    module = small_transformers.fill(Attending(F.scaled_dot_product_attention)).requires_grad_(requires_grad=False)
    with warnings.catch_warnings():
        # old, and what users send
        warnings.simplefilter("ignore")
        traced: nn.Module = torch.jit.trace(module.double(), random(1, 3, 8, 8))
    return traced


def exported() -> nn.Module:
    module = small_transformers.fill(Attending(F.scaled_dot_product_attention)).requires_grad_(requires_grad=False)
    return torch.export.export(module.double(), (random(1, 3, 8, 8),)).module()


@pytest.mark.parametrize(
    "build",
    [
        lambda: Attending(F.scaled_dot_product_attention),
        lambda: Attending(by_einsum),
        lambda: Attending(by_batched_products),
        lambda: AttendingByLayer(weights=True),
        lambda: AttendingByLayer(weights=False),
        scripted,
        exported,
    ],
    ids=["fused", "einsum", "baddbmm", "layer with weights", "layer without", "torchscript", "torch.export"],
)
def test_the_way_attention_is_written_does_not_matter(build: Callable[[], nn.Module]) -> None:
    image, target = random(1, 3, 8, 8), torch.tensor([1])
    plain = small_transformers.fill(Attending(by_operators)).double().requires_grad_(requires_grad=False)
    expected, score = relevance_of(plain, image, target)
    other = build()
    if isinstance(other, Attending):
        small_transformers.fill(other).double().requires_grad_(requires_grad=False)
    for _ in range(3):  # TorchScript would fuse operations from its second or third run on
        actual, same = relevance_of(other, image, target)
        torch.testing.assert_close(same, score)
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)
    gradient = torch.autograd.functional.jacobian(lambda x: plain(x)[0, 1], image)
    assert not torch.allclose(expected, image * gradient, rtol=0.1)


# --- models as they are published ------------------------------------------------------------------


def hugging_face(config: Any, model: Any, **options: Any) -> nn.Module:
    small = {"image_size": 32, "patch_size": 8, "hidden_size": 12, "num_attention_heads": 2, "intermediate_size": 24}
    return Logits(model(config(**{**small, "num_hidden_layers": 2, "num_labels": 4, **options})))


def timm_model(name: str, **options: Any) -> nn.Module:
    return timm.create_model(name, pretrained=False, num_classes=4, **options)


PUBLISHED: dict[str, tuple[int, Callable[[], nn.Module]]] = {
    "torchvision swin": (32, lambda: torchvision.models.swin_t(num_classes=4)),
    "torchvision swin 2": (32, lambda: torchvision.models.swin_v2_t(num_classes=4)),
    "timm vit": (32, lambda: timm_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2)),
    "timm vit with gates of sigmoid": (
        32,
        lambda: timm_model("vit_base_patch16_clip_quickgelu_224", img_size=32, patch_size=8, depth=1),
    ),
    "timm deit": (32, lambda: timm_model("deit_tiny_distilled_patch16_224", img_size=32, patch_size=8, depth=2)),
    "timm eva": (28, lambda: timm_model("eva02_tiny_patch14_224", img_size=28, depth=2)),
    "timm cait": (32, lambda: timm_model("cait_xxs24_224", img_size=32, patch_size=8, depth=1)),
    "timm swin": (
        64,
        lambda: timm_model("swin_tiny_patch4_window7_224", img_size=64, window_size=4, depths=(1, 1, 1, 1)),
    ),
    "transformers vit": (32, lambda: hugging_face(transformers.ViTConfig, transformers.ViTForImageClassification)),
    "transformers deit": (
        32,
        lambda: hugging_face(transformers.DeiTConfig, transformers.DeiTForImageClassificationWithTeacher),
    ),
    "transformers dinov2": (
        32,
        lambda: hugging_face(transformers.Dinov2Config, transformers.Dinov2ForImageClassification),
    ),
    "transformers beit": (32, lambda: hugging_face(transformers.BeitConfig, transformers.BeitForImageClassification)),
    "transformers swin, eager": (
        32,
        lambda: Logits(
            transformers.SwinForImageClassification(
                transformers.SwinConfig(
                    image_size=32,
                    embed_dim=8,
                    depths=[1, 1],
                    num_heads=[2, 2],
                    window_size=4,
                    num_labels=4,
                    attn_implementation="eager",
                )
            )
        ),
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models(name: str) -> None:
    size, build = PUBLISHED[name]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = classifier(build(), size)
    assert applicability(model, AttnLrp()) is None
    images, targets = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(2)), torch.tensor([1, 3])
    together = explain(model, AttnLrp(), images, targets, STREAMS)
    assert together.maps.shape == images.shape
    assert together.maps.isfinite().all()
    assert (together.maps.amax((1, 2, 3)) > 0).all()
    sums = together.maps.sum((1, 2, 3)) / model.logits(images).gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(together.diagnostics["conservation"], sums, rtol=1e-3, atol=1e-4)
    alone = explain(model, AttnLrp(), images[1:], targets[1:], STREAMS.take([1])).maps
    torch.testing.assert_close(alone, together.maps[1:], rtol=0, atol=1e-4 * float(together.maps.abs().max()))


# --- what it refuses, and what it leaves behind ----------------------------------------------------


class Sine(Attending):
    """A block with operations that have no rule."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(torch.sin(image)).tanh()


def test_an_operation_without_a_rule_is_named() -> None:
    model = classifier(small_transformers.fill(Sine(by_operators)), 8)
    assert applicability(model, AttnLrp()) == "AttnLRP has no rule for the operations Sin, Tanh"


def test_a_statistic_beside_a_signal_needs_no_rule() -> None:
    class Scaled(Attending):
        def forward(self, image: Tensor) -> Tensor:
            return super().forward(image / image.exp().mean((1, 2, 3), keepdim=True))

    model = classifier(small_transformers.fill(Scaled(by_operators)), 8)
    assert applicability(model, AttnLrp()) is None


def test_a_constant_over_a_signal_has_no_rule() -> None:
    class Inverse(Attending):
        def forward(self, image: Tensor) -> Tensor:
            return super().forward(1 / (2 + image.square()))

    reason = applicability(classifier(small_transformers.fill(Inverse(by_operators)), 8), AttnLrp())
    assert reason == "AttnLRP has no rule for the operations Pow, Reciprocal"


def test_networks_without_attention_are_told_what_to_use(digit_classifier: Classifier) -> None:
    reason = applicability(digit_classifier, AttnLrp())
    assert str(reason).startswith("the model has no attention")
    assert "lrp_epsilon_plus_flat" in str(reason)


def test_the_question_is_asked_once_and_not_counted() -> None:
    model = classifier(small_transformers.fill(Attending(by_operators)), 8)
    runs: list[int] = []
    model.module.register_forward_pre_hook(lambda _module, inputs: runs.append(len(inputs[0])))
    assert applicability(model, AttnLrp()) is None
    assert applicability(model, AttnLrp()) is None
    assert len(runs) == 2
    assert (model.ledger.forward_images, model.ledger.backward_images) == (0, 0)


def test_conservation_is_undefined_where_the_logit_is_0() -> None:
    module = small_transformers.fill(Attending(by_operators))
    module.head.weight.data[1] = 0
    module.head.bias.data[1] = 0
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    found = explain(classifier(module, 8), AttnLrp(), images, torch.tensor([1, 2]), STREAMS)
    assert found.diagnostics["conservation"].isnan().tolist() == [True, False]


def test_faster_arithmetic_does_not_change_the_map() -> None:
    model = classifier(small_transformers.fill(Attending(F.scaled_dot_product_attention)), 8)
    images, targets = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2)), torch.tensor([1, 2])
    exact = explain(model, AttnLrp(), images, targets, STREAMS).maps
    faster = explain(model.at_speed(Speed(precision="bf16")), AttnLrp(), images, targets, STREAMS).maps
    assert torch.equal(exact, faster)


class Scriptable(nn.Module):
    """Attention in code that TorchScript can read."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, WIDTH, 4, 4), nn.LayerNorm(WIDTH)
        self.dense, self.head = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU()), nn.Linear(WIDTH, 3)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        normed = self.norm(x)
        x = x + self.dense(torch.softmax(normed @ normed.transpose(1, 2), -1) @ normed)
        return self.head(x[:, 0])


def test_torchscript_is_not_fused_from_its_second_run_on() -> None:
    plain = small_transformers.fill(Scriptable()).double().requires_grad_(requires_grad=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.script(plain)
    image, target = random(1, 3, 8, 8), torch.tensor([1])
    expected, _ = relevance_of(plain, image, target)
    for _ in range(4):
        torch.testing.assert_close(relevance_of(script, image, target)[0], expected, rtol=1e-9, atol=1e-12)


class _Mark:
    """Something whose end can be seen."""


def test_a_pass_leaves_no_memory_behind() -> None:
    module = small_transformers.fill(Attending(F.scaled_dot_product_attention)).requires_grad_(requires_grad=False)
    marks: list[weakref.ref[_Mark]] = []

    def mark(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        one = _Mark()
        marks.append(weakref.ref(one))
        assert output.grad_fn is not None
        output.grad_fn.metadata["mark"] = one

    for layer in (module.patches, module.norm, module.qkv, module.out, module.head):
        layer.register_forward_hook(mark)
    relevance_of(module, random(1, 3, 8, 8).float(), torch.tensor([0]))
    gc.collect()
    assert len(marks) == 5
    assert [one() for one in marks] == [None] * 5


# --- what its sign means ---------------------------------------------------------------------------


def test_its_sign_is_evidence() -> None:
    """On a trained transformer, an order by sign is more faithful than one by size."""
    plan = AuditPlan(explainers=(AttnLrp(),), checks=(DeletionCheck(grid=8, repeats=1, rank_by="both"),))
    task = ShardTask(plan=plan, wave="compute", images=digits.encoded(24), shared={})
    found = run_shard(task, Runtime(digit_transformer.classifier(), micro_batch=32))
    gains = {
        measured.variant: np.array([value for value in measured.values if value is not None])
        for measured in found.measurements
        if (measured.explainer, measured.metric) == ("attn_lrp", "srg")
    }
    difference = gains["signed"] - gains["magnitude"]
    assert gains["signed"].mean() > 0.4
    assert difference.mean() > 3 * difference.std(ddof=1) / math.sqrt(len(difference))
