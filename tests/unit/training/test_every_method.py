"""What every training method owes: the same bytes again, from any step on, its price, small batches, multi-label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import pytest
import safetensors.torch
import torch
from timm.models.vision_transformer import VisionTransformer

import digits
import mixed_batches
from auditcore import (
    Adam,
    AugMix,
    CutMix,
    DeletionLoss,
    FactoryModel,
    ImageBatchReference,
    Mixup,
    PixMix,
    RecursiveMix,
    SaliencyMix,
    TokenMixup,
    TrainingPlan,
    TrainingRequest,
    Weights,
)
from auditcore.contracts.access import Limits
from auditcore.contracts.models import Scores
from auditcore.contracts.training.methods import TRAINING_METHODS, TrainingMethod
from auditcore.contracts.training.methods.method import TrainingMethodContract
from auditcore.errors import ModelNotTrainable
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from auditcore.training.labeled_images import LabeledImages, read_labeled
from auditcore.training.method import MethodSetting
from auditcore.training.registry import METHODS, method_of
from auditcore.training.training_run import TrainingRun

NOT_BY_DEFAULT: Mapping[type[TrainingMethodContract], Sequence[TrainingMethod]] = MappingProxyType(
    {
        RecursiveMix: (RecursiveMix(loss_weight=1),),
        PixMix: (PixMix(pictures=3),),
        AugMix: (AugMix(), AugMix(consistency=False)),
        DeletionLoss: (DeletionLoss(), DeletionLoss(mix=CutMix(), steps=1)),
        TokenMixup: (
            TokenMixup(horizontal_layer=0, tau=10),
            TokenMixup(direction="vertical", vertical_layer=1),
            TokenMixup(direction="both", horizontal_layer=0, vertical_layer=1, tau=10),
        ),
    }
)
"""Methods whose default is too large for a tiny model, or that have several ways to compute."""

EXAMPLES: tuple[TrainingMethod, ...] = tuple(
    example for contract in TRAINING_METHODS for example in NOT_BY_DEFAULT.get(contract, (contract(),))
)
BY_NAME = pytest.mark.parametrize(
    "method", EXAMPLES, ids=[f"{number}-{one.kind}" for number, one in enumerate(EXAMPLES)]
)
IMAGES, EPOCHS = 14, 2


def start_for(method: TrainingMethod, scores: Scores = "softmax") -> Classifier:
    """A small convolutional network, or a small transformer for methods that mix tokens."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        if isinstance(method, TokenMixup):
            module: torch.nn.Module = VisionTransformer(
                img_size=digits.SIDE, patch_size=16, embed_dim=8, depth=2, num_heads=2, num_classes=10
            )
        else:
            module = digits.build()
    return Classifier(module, preprocessing=digits.PREPROCESSING, scores=scores)


def images_for(start: Classifier) -> tuple[LabeledImages, LabeledImages]:
    encoded = [
        EncodedImage(one.index, one.name, one.data, (one.labels[0], 3) if start.scores == "sigmoid" else one.labels[0])
        for one in digits.encoded(IMAGES + 4, labeled=True)
    ]
    training, _ = read_labeled(encoded[:IMAGES], use="training", model=start, limits=Limits())
    validation, _ = read_labeled(encoded[IMAGES:], use="validation", model=start, limits=Limits())
    return training, validation


def run_of(method: TrainingMethod, *, seed: int = 0, scores: Scores = "softmax", batch_size: int = 5) -> TrainingRun:
    """14 images in three steps of 4 or 5 images."""
    request = TrainingRequest(
        model=FactoryModel(
            target="digits:build", weights=Weights(uri="random:0"), preprocessing=digits.PREPROCESSING, scores=scores
        ),
        images=ImageBatchReference(digest=f"sha256:{0:064d}"),
        plan=TrainingPlan(
            seed=seed, epochs=EPOCHS, batch_size=batch_size, optimizer=Adam(learning_rate=0.01), method=method
        ),
    )
    start = start_for(method, scores)
    return TrainingRun(request, start, *images_for(start))


def test_every_contract_has_an_implementation() -> None:
    assert set(METHODS) == set(TRAINING_METHODS)
    assert len({contract.model_fields["kind"].default for contract in TRAINING_METHODS}) == len(TRAINING_METHODS)


@BY_NAME
def test_a_training_interrupted_after_any_step_gives_the_same_bytes(method: TrainingMethod) -> None:
    whole = run_of(method)
    whole.advance()
    expected = whole.weights()
    run = run_of(method)
    before = run.weights()
    for step in range(1, run.steps + 1):
        done = run.advance(enough=lambda: True)
        assert done.step == step
        run = run_of(method)
        run.resume(done.checkpoint)
    assert done.stopped == "completed"
    assert run.weights() == expected
    assert before != expected


@BY_NAME
def test_another_seed_gives_other_bytes(method: TrainingMethod) -> None:
    weights = []
    for seed in (0, 0, 1):
        run = run_of(method, seed=seed)
        run.advance()
        weights.append(run.weights())
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


@pytest.mark.parametrize(
    "method", [RecursiveMix(), TokenMixup(horizontal_layer=0, tau=10)], ids=lambda method: method.kind
)
def test_weights_of_a_method_learn_with_the_network_and_stay_out_of_the_result(method: TrainingMethod) -> None:
    run = run_of(method)
    own = run._method.parameters()
    before = [value.detach().clone() for value in own]
    names = set(run.network.module.state_dict())
    run.advance()
    assert len(own) == 2
    assert all(not torch.equal(value, old) for value, old in zip(own, before, strict=True))
    assert set(safetensors.torch.load(run.weights())) == names


@BY_NAME
def test_an_epoch_costs_what_the_contract_says(method: TrainingMethod) -> None:
    run = run_of(method)
    run.advance()
    claimed = method.passes(run.network.start.shape).times(IMAGES * EPOCHS)
    validation = 4 * EPOCHS
    forward, backward = run.history.forward_images - validation, run.history.backward_images
    if method.explainers:
        # an explanation may be left out, such as that of an image whose prediction is wrong
        assert (forward, backward) <= (claimed.forward, claimed.backward)
    else:
        assert (forward, backward) == (claimed.forward, claimed.backward)


@BY_NAME
def test_a_batch_of_one_image_is_enough(method: TrainingMethod) -> None:
    run = run_of(method, batch_size=1)
    run.advance()
    assert all(torch.isfinite(value).all() for value in run.network.module.state_dict().values())


@BY_NAME
def test_a_multi_label_model_is_trained_or_refused(method: TrainingMethod) -> None:
    if "sigmoid" in method.scores:
        run = run_of(method, scores="sigmoid")
        run.advance()
        assert run.history.epochs[-1].training_loss > 0
    else:
        with pytest.raises(ModelNotTrainable, match="needs a model with softmax scores"):
            run_of(method, scores="sigmoid")


@pytest.mark.parametrize("method", [Mixup(), CutMix(), SaliencyMix(), RecursiveMix()], ids=lambda one: one.kind)
def test_the_loss_of_mixed_labels_is_float32_and_sums_over_whole_labels(method: TrainingMethod) -> None:
    """With logits that are all equal, a row of targets costs its sum times ln(classes)."""
    trained = mixed_batches.network()
    torch.nn.init.zeros_(trained.module[-1].weight)
    torch.nn.init.zeros_(trained.module[-1].bias)
    mixes_again = isinstance(method, RecursiveMix)
    implementation = method_of(method, MethodSetting(trained, steps_per_epoch=5, epochs=1, seed=0))
    for step in range(5):
        images = mixed_batches.batch(trained, step=step)
        shown = mixed_batches.run_step(implementation, trained, images)
        rest = 0.1 * shown.facts["pasted_share"] * shown.facts["consistency_loss"] if mixes_again else 0
        assert shown.loss - rest == pytest.approx(torch.tensor(mixed_batches.CLASSES).log().item(), rel=1e-6)
        assert implementation.step(trained, images).loss.dtype == torch.float32
