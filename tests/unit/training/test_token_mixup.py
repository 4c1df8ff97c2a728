"""TokenMixup on small transformers: assignment against a search of all of them, attention against a replica."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from timm.models.vision_transformer import VisionTransformer as TimmTransformer
from torch import Tensor, nn
from torchvision.models import VisionTransformer

import reference_mixing
from auditcore import TokenMixup
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.errors import ModelNotTrainable
from auditcore.training.method import MethodSetting
from auditcore.training.methods.token_mixup import TokenMixupTraining, horizontal_mixing
from auditcore.training.network import Network
from auditcore.training.token_layers import attending_to_more, class_attention, entering, token_layers
from mixed_batches import CLASSES, batch, network, run_step

SIDE = 16
SQUARE = Preprocessing(resize=SIDE, crop=SIDE, mean=(0.4, 0.5, 0.6), std=(0.3, 0.2, 0.25))


def timm_vit(**more: object) -> nn.Module:
    return TimmTransformer(
        img_size=SIDE, patch_size=4, embed_dim=12, depth=3, num_heads=2, mlp_ratio=2, num_classes=CLASSES, **more
    )


def torchvision_vit(**more: object) -> nn.Module:
    return VisionTransformer(SIDE, 4, 3, 2, 12, 24, num_classes=CLASSES, **more)


def small(build: Callable[[], nn.Module]) -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        module = build()
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.3)
    return network(module=module, preprocessing=SQUARE)


@pytest.fixture(scope="module", params=[timm_vit, torchvision_vit])
def trained(request: pytest.FixtureRequest) -> Network:
    return small(request.param)


def method_for(trained: Network, **fields: object) -> TokenMixupTraining:
    contract = TokenMixup.model_validate({"horizontal_layer": 1, "vertical_layer": 2, "tau": 10, **fields})
    return TokenMixupTraining(contract, MethodSetting(trained, steps_per_epoch=2, epochs=2, seed=0))


def projections(block: nn.Module, normalized: Tensor) -> list[np.ndarray]:
    """Queries, keys and values (N,heads,T,D) in float64, from the block's own weights."""
    attention = getattr(block, "attn", None) or block.self_attention
    weight, bias = (
        (attention.qkv.weight, attention.qkv.bias)
        if hasattr(attention, "qkv")
        else (attention.in_proj_weight, attention.in_proj_bias)
    )
    values = normalized.detach().double().numpy() @ weight.detach().double().numpy().T + bias.detach().double().numpy()
    return [part.reshape(*part.shape[:2], 2, 6).transpose(0, 2, 1, 3) for part in np.split(values, 3, axis=2)]


def norm_of(block: nn.Module) -> nn.Module:
    return block.norm1 if hasattr(block, "norm1") else block.ln_1


def attended(block: nn.Module, tokens: Tensor, more: Tensor | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Result of a block's attention, projected, and its matrix as mean over heads; the slow way."""
    norm = norm_of(block)
    queries, keys, values = projections(block, norm(tokens))
    if more is not None:
        _, more_keys, more_values = projections(block, norm(more))
        keys, values = np.concatenate((keys, more_keys), axis=2), np.concatenate((values, more_values), axis=2)
    matrix = np.zeros((*queries.shape[:3], keys.shape[2]))
    for index in np.ndindex(queries.shape[:3]):
        image, head, _ = index
        matrix[index] = reference_mixing.softmax(keys[image, head] @ queries[index] / math.sqrt(6))
    result = (matrix @ values).transpose(0, 2, 1, 3).reshape(*tokens.shape)
    attention = getattr(block, "attn", None) or block.self_attention
    out = attention.proj if hasattr(attention, "proj") else attention.out_proj
    return result @ out.weight.detach().double().numpy().T + out.bias.detach().double().numpy(), matrix.mean(axis=1)


def tokens_entering(trained: Network, block: int, pixels: Tensor) -> Tensor:
    layers = token_layers(trained.start, trained.module, "token_mixup")
    found: list[Tensor] = []

    def see(tokens: Tensor) -> Tensor:
        found.append(tokens.detach())
        return tokens

    with entering(layers.blocks[block], see):
        trained.logits(pixels)
    return found[0]


def test_attention_of_the_class_token_is_the_replicas(trained: Network) -> None:
    layers = token_layers(trained.start, trained.module, "token_mixup")
    tokens = tokens_entering(trained, 1, batch(trained, 3).pixels)
    _, matrix = attended(layers.blocks[1], tokens)
    assert (layers.prefix, layers.patches) == (1, 16)
    assert np.allclose(class_attention(layers.blocks[1], tokens), matrix[:, 0], atol=1e-5)
    assert all(part.training for part in trained.module.modules())


def test_more_tokens_are_attended_to_as_in_the_replica(trained: Network) -> None:
    block = token_layers(trained.start, trained.module, "token_mixup").blocks[2]
    tokens = tokens_entering(trained, 2, batch(trained, 3).pixels)
    more = tokens_entering(trained, 1, batch(trained, 3).pixels)[:, 2:7]
    attention = getattr(block, "attn", None) or block.self_attention
    results: list[Tensor] = []
    with attending_to_more(block, [more[:, :2], more[:, 2:]]):
        # after the hooks of `attending_to_more`
        handle = attention.register_forward_hook(
            lambda _module, _inputs, output: results.append(output[0] if isinstance(output, tuple) else output)
        )
        block(tokens)
        handle.remove()
    expected, _ = attended(block, tokens, more)
    assert np.allclose(results[0].detach(), expected, atol=1e-4)


@settings(max_examples=40)
@given(
    arrays(np.float64, (4, 5), elements=st.floats(0, 1)),
    st.lists(st.booleans(), min_size=4, max_size=4),
    st.sampled_from([0.0, 0.05, 0.5]),
)
def test_the_assignment_gains_as_much_as_any(values: np.ndarray, easy: list[bool], rho: float) -> None:
    saliency = torch.from_numpy(values)
    mixing = horizontal_mixing(saliency, torch.tensor(easy), rho)
    partners, _, _ = reference_mixing.horizontal_mixing(values, easy, rho)

    def gain(found: dict[int, int]) -> float:
        return sum(float(np.maximum(values[b] - values[a] - rho, 0).sum()) for a, b in found.items())

    found = {row: int(mixing.partner[row]) for row in partners}
    assert gain(found) == pytest.approx(gain(partners), abs=1e-9)
    assert len(set(found.values())) == len(found)
    for row in range(4):
        taken = values[mixing.partner[row]] - values[row] - rho > 0
        assert mixing.taken[row].tolist() == (taken.tolist() if easy[row] else [False] * 5)
    assert bool(((mixing.shares >= 0) & (mixing.shares <= 1)).all())


def test_a_horizontal_step_is_the_replicas(trained: Network) -> None:
    images = batch(trained, 5)
    before, after = (tokens_entering(trained, layer, images.pixels) for layer in (1, 2))
    weight, bias = (value.detach().double().numpy() for value in method_for(trained).parameters())
    scores = before[:, 0].double().numpy() @ weight.T + bias
    targets = images.targets.double().numpy()
    losses = [
        reference_mixing.cross_entropy(one[None], wanted[None]) for one, wanted in zip(scores, targets, strict=True)
    ]
    tau = sum(sorted(losses)[2:4]) / 20
    easy = [loss / 10 <= tau for loss in losses]
    assert sum(easy) == 3
    method = method_for(trained, rho=0.002, score_weight=0.5, tau=tau)
    mixed: list[Tensor] = []
    layers = token_layers(trained.start, trained.module, "token_mixup")

    def see(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        mixed.append(inputs[0].detach())

    handle = norm_of(layers.blocks[1]).register_forward_pre_hook(see)
    shown = run_step(method, trained, images)
    handle.remove()

    saliency = attended(layers.blocks[1], before)[1][:, 0, 1:]
    partners, taken, shares = reference_mixing.horizontal_mixing(saliency, easy, 0.002)
    expected, labels = before.double().numpy().copy(), targets.copy()
    for row, partner in partners.items():
        for patch, comes in enumerate(taken[row]):
            if comes:
                expected[row, patch + 1] = before[partner, patch + 1]
        labels[row] = reference_mixing.shared(targets[row], targets[partner], shares[row])
    # the first call reads attention, the second is the pass itself
    assert np.allclose(mixed[-1], expected, atol=1e-5)
    assert not torch.equal(tokens_entering(trained, 2, images.pixels), mixed[-1])
    assert torch.equal(tokens_entering(trained, 2, images.pixels), after)
    loss = reference_mixing.cross_entropy(shown.logits.double().numpy(), labels) + 0.5 * np.mean(losses)
    assert shown.loss == pytest.approx(loss, rel=1e-4)
    assert shown.facts["mixed_images"] == pytest.approx(sum(any(row) for row in taken.values()) / 5)


def test_a_vertical_step_reads_the_most_salient_tokens_of_earlier_layers(trained: Network) -> None:
    method = method_for(trained, direction="vertical", kappa=2)
    images = batch(trained, 4)
    layers = token_layers(trained.start, trained.module, "token_mixup")
    earlier = []
    for number in (0, 1):
        tokens = tokens_entering(trained, number, images.pixels)
        saliency = attended(layers.blocks[number], tokens)[1][:, 0, 1:]
        best = np.argsort(-saliency, axis=1)[:, :2] + 1
        earlier.append(torch.stack([tokens[row, best[row].tolist()] for row in range(4)]))
    shown = run_step(method, trained, images)
    with attending_to_more(layers.blocks[2], earlier):
        expected = trained.logits(images.pixels)
    assert torch.allclose(shown.logits, expected, atol=1e-5)
    assert not torch.allclose(shown.logits, trained.logits(images.pixels), atol=1e-4)
    assert shown.loss == pytest.approx(
        reference_mixing.cross_entropy(shown.logits.double().numpy(), images.targets.double().numpy()), rel=1e-5
    )
    assert method.parameters() == ()


def test_both_directions_at_once_learn(trained: Network) -> None:
    method = method_for(trained, direction="both")
    trained.module.zero_grad()
    step = method.step(trained, batch(trained))
    step.loss.backward()
    assert step.facts["mixed_images"] > 0
    assert all(value.grad is not None for value in method.parameters())
    # nothing stays registered
    assert torch.equal(trained.logits(batch(trained).pixels), trained.logits(batch(trained).pixels))


def test_hard_images_stay_as_they_are(trained: Network) -> None:
    shown = run_step(method_for(trained, tau=1e-6), trained, batch(trained))
    assert shown.facts == {"mixed_images": 0.0, "mixed_patches": 0.0}
    assert torch.equal(shown.logits, trained.logits(batch(trained).pixels).detach())


@pytest.mark.parametrize(
    ("build", "fields", "field", "message"),
    [
        (lambda: timm_vit(class_token=False, global_pool="avg"), {}, "plan.method.kind", "attention of a class token"),
        (timm_vit, {"horizontal_layer": 3}, "plan.method.horizontal_layer", "set it to at most 2"),
        (timm_vit, {"direction": "vertical", "vertical_layer": 3}, "plan.method.vertical_layer", "at most 2"),
        (timm_vit, {"direction": "vertical", "kappa": 17}, "plan.method.kappa", "16 patches"),
    ],
)
def test_transformers_that_cannot_be_mixed_are_refused(
    build: Callable[[], nn.Module], fields: dict[str, object], field: str, message: str
) -> None:
    with pytest.raises(ModelNotTrainable, match=message) as refusal:
        method_for(small(build), **fields)
    assert refusal.value.field == field


def test_other_models_are_refused() -> None:
    with pytest.raises(ModelNotTrainable, match="no VisionTransformer of timm or torchvision"):
        method_for(network())


def test_dropped_patches_are_refused() -> None:
    dropping = small(lambda: timm_vit(patch_drop_rate=0.5))
    with pytest.raises(ModelNotTrainable, match="do not drop patches"):
        method_for(dropping).step(dropping, batch(dropping))


def test_one_layer_cannot_mix_in_both_directions() -> None:
    assert TokenMixup(direction="both").vertical_at == 4
    assert TokenMixup(direction="vertical").vertical_at == 3
    with pytest.raises(ValidationError, match="set `vertical_layer` to a later one"):
        TokenMixup(direction="both", horizontal_layer=4)
