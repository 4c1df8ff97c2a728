"""Attention rollout and gradient-weighted attention, against loops over the attention that transformers returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812
import torchvision
import transformers
from pydantic import ValidationError
from torch import Tensor, nn

import digit_transformer
import digits
import small_transformers
from auditcore.contracts.checks import DeletionCheck, RandomizationCheck
from auditcore.contracts.explainers import AttentionRollout, GradientWeightedAttention
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.engine.shard import run_shard
from auditcore.engine.shard_task import Runtime, ShardTask
from auditcore.errors import NotApplicable
from auditcore.explainers.attention_probabilities import TokenGrid, token_grid
from auditcore.explainers.attention_rollout import discarded, fuse
from auditcore.explainers.registry import applicability, explain
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams

STREAMS = Streams(7, ("sha256:0", "sha256:1"))
SIDE, PATCHES = 16, 4
CONFIG: dict[str, Any] = {
    "image_size": SIDE, "patch_size": SIDE // PATCHES, "hidden_size": 12, "num_attention_heads": 3,
    "num_hidden_layers": 3, "intermediate_size": 16, "num_labels": 4,
}  # fmt: skip
BOTH: list[Any] = [AttentionRollout(), GradientWeightedAttention()]


def kind(contract: Any) -> str:
    return str(contract.kind)


class Logits(nn.Module):
    """The logits of a model of transformers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).logits


def vit(implementation: str = "eager") -> nn.Module:
    config = transformers.ViTConfig(**CONFIG, attn_implementation=implementation)
    return small_transformers.fill(transformers.ViTForImageClassification(config))


def classifier(module: nn.Module, size: int = SIDE) -> Classifier:
    return Classifier(module, preprocessing=Preprocessing(resize=size, crop=size))


def images(size: int = SIDE) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(2))


TARGETS = torch.tensor([1, 3])


def attention_by_transformers(
    model: Classifier, module: nn.Module, targets: Tensor
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(image, head, query, key) attention of each layer and the target logits' gradient by it, in float64."""
    module = module.double()
    output = module(model.normalize(images()).double().requires_grad_(), output_attentions=True)
    gradients = torch.autograd.grad(output.logits.gather(1, targets[:, None]).sum(), output.attentions)
    module.float()
    return [each.detach().numpy() for each in output.attentions], [each.numpy() for each in gradients]


def enlarged(patches: np.ndarray) -> np.ndarray:
    """(image, patch) to (image, 1, height, width)."""
    grid = torch.from_numpy(patches).unflatten(1, (1, PATCHES, PATCHES))
    return F.interpolate(grid, size=(SIDE, SIDE), mode="bilinear", align_corners=False).numpy()


def rollout_by_loops(attention: list[np.ndarray], fusion: str, discard: float) -> np.ndarray:
    """Abnar & Zuidema, image by image: the class token's row of the product of all layers."""
    rows = []
    for image in range(len(attention[0])):
        joined = np.eye(attention[0].shape[-1])
        for layer in attention:
            fused = getattr(np, fusion)(layer[image], axis=0).copy()
            order = np.argsort(fused, axis=None, kind="stable")
            for place in order[: round(discard * fused.size - 0.5 + 1e-9)]:
                fused[np.unravel_index(place, fused.shape)] = 0
            with_residual = fused + np.eye(len(fused))
            joined = np.array([row / row.sum() for row in with_residual]) @ joined
        rows.append(joined[0, 1:])
    return enlarged(np.array(rows))


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize(
    ("fusion", "discard"), [("mean", 0.0), ("max", 0.0), ("min", 0.0), ("mean", 0.3), ("max", 0.9), ("min", 0.5)]
)
def test_rollout_by_loops(fusion: Any, discard: float, implementation: str) -> None:
    model = classifier(Logits(vit(implementation)))
    attention, _ = attention_by_transformers(model, vit(), TARGETS)
    expected = rollout_by_loops(attention, fusion, discard)
    contract = AttentionRollout(head_fusion=fusion, discard_ratio=discard)
    assert applicability(model, contract) is None
    actual = explain(model, contract, images(), TARGETS, STREAMS, micro_batch=1).maps
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=1e-5 * expected.max())
    assert expected.min() >= 0
    assert expected.std() > 0.02 * expected.max()


def chefer_by_loops(attention: list[np.ndarray], gradients: list[np.ndarray]) -> np.ndarray:
    """Chefer et al., image by image: R = R + A R with A the positive part of gradient times attention."""
    rows = []
    for image in range(len(attention[0])):
        relevance = np.eye(attention[0].shape[-1])
        for layer, gradient in zip(attention, gradients, strict=True):
            weighted = np.zeros_like(relevance)
            for head in range(layer.shape[1]):
                weighted += np.maximum(gradient[image, head] * layer[image, head], 0) / layer.shape[1]
            relevance = relevance + weighted @ relevance
        rows.append(relevance[0, 1:])
    return enlarged(np.array(rows))


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("targets", [[1, 3], [0, 2]])
def test_gradient_weighted_attention_by_loops(targets: list[int], implementation: str) -> None:
    model, target = classifier(Logits(vit(implementation))), torch.tensor(targets)
    expected = chefer_by_loops(*attention_by_transformers(model, vit(), target))
    contract = GradientWeightedAttention()
    assert applicability(model, contract) is None
    actual = explain(model, contract, images(), target, STREAMS, micro_batch=1).maps
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=1e-4 * expected.max())
    assert expected.std() > 0.1 * expected.max()


def test_only_one_of_them_depends_on_the_target() -> None:
    model = classifier(Logits(vit()))
    for contract, same in zip(BOTH, (True, False), strict=True):
        first, second = (
            explain(model, contract, images(), torch.tensor(targets), STREAMS).maps for targets in ([1, 3], [0, 2])
        )
        assert torch.equal(first, second) is same


def test_uniform_attention_gives_a_uniform_map() -> None:
    module = vit()
    for name, parameter in module.named_parameters():
        if "q_proj" in name:
            parameter.data.zero_()
    maps = explain(classifier(Logits(module)), AttentionRollout(), images(), TARGETS, STREAMS).maps
    # each of three layers keeps half and spreads half over 17 tokens
    torch.testing.assert_close(maps, torch.full_like(maps, (1 - 0.5**3) / 17))


# --- fusion and discarding -------------------------------------------------------------------------


def test_heads_are_fused() -> None:
    heads = torch.tensor([[[[1.0, 4.0]], [[3.0, 2.0]]]])
    assert fuse(heads, "mean").tolist() == [[[2.0, 3.0]]]
    assert fuse(heads, "max").tolist() == [[[3.0, 4.0]]]
    assert fuse(heads, "min").tolist() == [[[1.0, 2.0]]]


@pytest.mark.parametrize(("ratio", "zeros"), [(0.0, 0), (0.004, 0), (0.01, 1), (0.29, 29), (0.57, 57), (0.999, 99)])
def test_exactly_the_share_is_discarded(ratio: float, zeros: int) -> None:
    matrices = torch.rand(3, 10, 10, generator=torch.Generator().manual_seed(1)) + 0.1
    found = discarded(matrices, ratio)
    assert (found == 0).sum((1, 2)).tolist() == [zeros] * 3
    for before, after in zip(matrices, found, strict=True):
        if zeros > 0:
            assert before[after == 0].max() <= before[after > 0].min()
    assert (discarded(torch.ones(2, 4, 4), 0.5).flatten(1) == torch.tensor([0.0] * 8 + [1.0] * 8)).all()


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"discard_ratio": 1}, "discard_ratio"),
        ({"discard_ratio": -0.1}, "discard_ratio"),
        ({"head_fusion": "sum"}, "head_fusion"),
    ],
)
def test_parameters_out_of_range_are_named(parameters: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        AttentionRollout.model_validate(parameters)


# --- where the class token and the patches are -----------------------------------------------------


def timm_model(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, pretrained=False, num_classes=4, **options)


SMALL = {"img_size": 32, "patch_size": 8, "depth": 2}


class Branches(nn.Module):
    """Attentions beside each other, of a class token and patches of 8 pixels."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.MultiheadAttention(6, 2, batch_first=True) for _ in range(count))
        self.patches, self.head = nn.Conv2d(3, 6, 8, 8), nn.Linear(6, 4)
        self.token = nn.Parameter(torch.ones(1, 1, 6))

    def forward(self, image: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(len(image), -1, -1), self.patches(image).flatten(2).mT], 1)
        return self.head((x + sum(branch(x, x, x)[0] for branch in self.branches))[:, 0])


DEIT_3 = timm_model("deit3_small_patch16_224", **SMALL)
REGISTERS = timm_model("vit_base_patch14_reg4_dinov2", **{**SMALL, "depth": 1})


@pytest.mark.parametrize(
    ("build", "shape", "grid"),
    [
        (
            lambda: torchvision.models.VisionTransformer(32, 8, 2, 2, 12, 24, num_classes=4),
            (3, 32, 32),
            (1, 4, 4, (0,)),
        ),
        (timm_model("vit_tiny_patch16_224", **SMALL), (3, 32, 32), (1, 4, 4, (0,))),
        (timm_model("vit_tiny_patch16_224", **{**SMALL, "img_size": (16, 40)}), (3, 16, 40), (1, 2, 5, (0,))),
        (
            timm_model("vit_tiny_patch16_224", **{**SMALL, "img_size": (40, 24)}, in_chans=1),
            (1, 40, 24),
            (1, 5, 3, (0,)),
        ),
        # both heads of the distilled model are read
        (timm_model("deit_tiny_distilled_patch16_224", **SMALL), (3, 32, 32), (2, 4, 4, (0, 1))),
        (REGISTERS, (3, 32, 32), (5, 4, 4, (0,))),
        (DEIT_3, (3, 32, 32), (1, 4, 4, (0,))),
        # pixels at the border that fill no patch are not read
        (lambda: Branches(1), (3, 35, 44), (1, 4, 5, (0,))),
    ],
    ids=["torchvision", "timm", "wide", "high and gray", "distilled", "registers", "deit 3", "border"],
)
def test_the_grid_of_tokens(
    build: Callable[[], nn.Module], shape: tuple[int, int, int], grid: tuple[int, int, int, tuple[int, ...]]
) -> None:
    module = build().eval().requires_grad_(requires_grad=False)
    assert token_grid(module, torch.rand(2, *shape)) == TokenGrid(*grid)


def hugging_face(config: Any, model: Any, **options: Any) -> Callable[[], nn.Module]:
    return lambda: Logits(model(config(**{**CONFIG, "image_size": 32, "patch_size": 8, **options})))


@pytest.mark.parametrize(
    ("build", "size", "reason"),
    [
        (digits.trained, 32, "the model has no attention"),
        (lambda: torchvision.models.swin_t(num_classes=4), 32, "attends within windows.*its matrices are 49 x 49"),
        (timm_model("cait_xxs24_224", img_size=32, patch_size=8, depth=1), 32, "by class tokens only.*1 x 17"),
        (
            hugging_face(transformers.Dinov2Config, transformers.Dinov2ForImageClassification),
            32,
            "reads its logits from 17 of its 17 tokens, patches among them",
        ),
        (
            hugging_face(transformers.BeitConfig, transformers.BeitForImageClassification),
            32,
            "reads its logits from 16 of its 17 tokens, patches among them",
        ),
        (
            timm_model("vit_tiny_patch16_224", **SMALL, class_token=False, global_pool="avg"),
            32,
            "no class token before a grid of patches: its 16 tokens",
        ),
        (lambda: Branches(2), 32, "attention in parallel branches"),
    ],
    ids=["convolutions", "windows", "class attention", "token and mean", "mean", "no class token", "parallel"],
)
def test_models_without_a_product_have_a_reason(build: Callable[[], nn.Module], size: int, reason: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = classifier(build(), size)
    for contract in BOTH:
        with pytest.raises(NotApplicable, match=reason):
            explain(model, contract, images(size), TARGETS, STREAMS)
        assert applicability(model, contract) is not None


def test_a_new_head_of_zeros_hides_no_class_token() -> None:
    module = vit()
    nn.init.zeros_(module.classifier.weight)
    assert applicability(classifier(Logits(module)), AttentionRollout()) is None


def test_the_question_is_not_counted_and_an_answer_is_kept() -> None:
    model = classifier(Logits(vit()))
    runs: list[int] = []
    model.module.register_forward_pre_hook(lambda _module, inputs: runs.append(len(inputs[0])))
    assert [applicability(model, contract) for contract in BOTH] == [None, None]
    assert runs == [2]
    assert (model.ledger.forward_images, model.ledger.backward_images) == (0, 0)


@pytest.mark.parametrize("contract", BOTH, ids=kind)
def test_no_image_has_no_map(contract: Any) -> None:
    model = classifier(Logits(vit()))
    assert explain(model, contract, images()[:0], TARGETS[:0], STREAMS.take([])).maps.shape == (0, 1, SIDE, SIDE)


def test_audits_with_copies_of_the_model() -> None:
    plan = AuditPlan(explainers=tuple(BOTH), checks=(RandomizationCheck(stages=2), DeletionCheck(grid=4, repeats=1)))
    task = ShardTask(plan=plan, wave="compute", images=digits.encoded(4), shared={})
    found = run_shard(task, Runtime(digit_transformer.classifier(), micro_batch=3))
    assert found.not_applicable == {}
    for contract in BOTH:
        values = {(one.check, one.metric): one.values for one in found.measurements if one.explainer == contract.kind}
        assert None not in values["randomization", "randomized_similarity"]
        assert None not in values["deletion", "srg"]
