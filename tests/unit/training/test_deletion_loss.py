"""The inter-model deletion loss: its value, its gradient, its sign, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

import explained_batches
import reference
import reference_training
import small_trainings
from auditcore import CutMix, DeletionLoss, Mixup, Plain, Random
from auditcore.contracts.models import Scores
from auditcore.errors import InvalidRequest
from auditcore.metrics.curves import inter_model_deletion
from auditcore.training.draws import generator
from auditcore.training.method import Method, Step, TrainingBatch
from auditcore.training.methods.deletion_loss import DeletionLossTraining
from auditcore.training.network import Network
from auditcore.training.registry import method_of
from auditcore.training.summed_loss import summed

ROWS = range(200, 206)
GRID = (4, 4)


class Nothing(Method):
    """A mix that learns nothing, so that only the deletions are left."""

    def step(self, network: Network, batch: TrainingBatch) -> Step:
        del batch
        return Step(torch.zeros((), device=network.device))


def deletions(contract: DeletionLoss, own: Network, one: TrainingBatch) -> Step:
    return DeletionLossTraining(contract, explained_batches.setting(own), Nothing()).step(own, one)


def contract(**fields: object) -> DeletionLoss:
    return DeletionLoss.model_validate({"grid": GRID[0], "steps": 5, "weight": 1.5} | fields)


def gradients(own: Network, loss: Tensor) -> dict[str, Tensor]:
    own.module.zero_grad()
    loss.backward()
    return {
        name: torch.zeros_like(weight) if weight.grad is None else weight.grad.clone()
        for name, weight in own.module.named_parameters()
    }


class Replica:
    """The term in float64; images without an order are left out, orders and targets stay what they were."""

    def __init__(self, own: Network, one: TrainingBatch, wanted: DeletionLoss) -> None:
        self.slow, self._weight = explained_batches.slow(own), wanted.weight
        explain = self.slow.grad_cam(explained_batches.layer(own))
        random = generator(0, "method", one.step)
        cells = GRID[0] * GRID[1]
        chances = random.random(tuple(one.truth.shape))
        self._steps = (random.choice(cells - 1, min(wanted.steps or 99, cells - 1), replace=False) + 1).tolist()
        ties = one.streams.uniform((cells,), "deletion_loss/ties").numpy()
        chance = one.streams.uniform((cells,), "deletion_loss/random_order").numpy()
        self._images, self._targets, self._orders = [], [], []
        for row, image in enumerate(one.pixels.double().numpy()):
            true = [label for label in range(10) if one.truth[row, label]]
            target = max(true, key=lambda label, row=row: chances[row, label])
            relevance = reference.cell_relevance(explain(image, target)[0], GRID)
            if max(relevance) == min(relevance):
                continue
            # the most relevant cell last
            lerf = reference.ranking(reference.resolved(relevance), ties[row].tolist())[::-1]
            self._images.append(image)
            self._targets.append(target)
            self._orders.append((lerf, np.argsort(chance[row], kind="stable").tolist()))
        self.constant_maps = 1 - len(self._images) / len(one)

    def term(self, scores: Scores) -> Tensor:
        def probability(image: np.ndarray, target: int) -> Tensor:
            logits = self.slow.scores(image)
            return logits.softmax(0)[target] if scores == "softmax" else logits[target].sigmoid()

        return self._weight * reference_training.deletion_term(
            probability, self._images, self._targets, self._orders, self._steps, GRID, explained_batches.mean_color()
        )


@pytest.mark.parametrize(("scores", "several"), [("softmax", False), ("sigmoid", True)])
@pytest.mark.parametrize("steps", [5, None])
def test_value_and_gradient_agree_with_the_replica(scores: Scores, steps: int | None, *, several: bool) -> None:
    own, one, wanted = (
        explained_batches.network(scores),
        explained_batches.batch(ROWS, several=several),
        contract(steps=steps),
    )
    replica = Replica(own, one, wanted)
    found = deletions(wanted, own, one)
    expected = replica.term(scores)
    assert abs(float(expected.detach())) > 0.005
    assert float(found.loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-5)
    assert found.facts["deletion_term"] == float(found.loss.detach())
    assert found.facts["constant_maps"] == pytest.approx(replica.constant_maps)
    assert replica.constant_maps > 0  # otherwise the test would not see how such images are left out
    expected.backward()
    for name, gradient in gradients(own, found.loss).items():
        slow = replica.slow.module.get_parameter(name).grad
        np.testing.assert_allclose(gradient.numpy(), slow.numpy(), atol=1e-5, err_msg=name)  # type: ignore[union-attr]


def test_the_gradient_is_that_of_finite_differences() -> None:
    """In float64, along one direction in the space of all weights; orders stay what they were."""
    own, one, wanted = explained_batches.network(), explained_batches.batch(ROWS), contract()
    replica = Replica(own, one, wanted)
    random = torch.Generator().manual_seed(0)
    direction = {
        name: torch.randn(weight.shape, dtype=torch.float64, generator=random)
        for name, weight in own.module.named_parameters()
    }
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            for name, weight in replica.slow.module.named_parameters():
                weight.add_(sign * 1e-6 * direction[name])
            ends.append(float(replica.term("softmax")))
            for name, weight in replica.slow.module.named_parameters():
                weight.sub_(sign * 1e-6 * direction[name])
    found = gradients(own, deletions(wanted, own, one).loss)
    slope = sum(float((found[name].double() * direction[name]).sum()) for name in found)
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-3)
    assert abs(slope) > 0.01


def test_with_every_step_it_is_minus_the_score_of_the_check() -> None:
    """The curves of the check hold both ends, where the two orders are alike, and its area is that of trapezoids."""
    own, one = explained_batches.network(), explained_batches.batch(ROWS)
    replica = Replica(own, one, contract(steps=None))
    lerf, rao = [], []
    for image, target, orders in zip(replica._images, replica._targets, replica._orders, strict=True):
        curves = [
            [
                float(
                    replica.slow.scores(
                        np.where(
                            reference.deleted_after(order, step, 32, 32, GRID),
                            explained_batches.mean_color()[:, None, None],
                            image,
                        )
                    )
                    .softmax(0)[target]
                    .detach()
                )
                for step in range(GRID[0] * GRID[1] + 1)
            ]
            for order in orders
        ]
        lerf.append(curves[0])
        rao.append([curves[1]])
    score = inter_model_deletion(torch.tensor(lerf), torch.tensor(rao)).mean()
    found = deletions(contract(steps=None, weight=2), own, one)
    assert float(found.loss.detach()) == pytest.approx(-2 * float(score), abs=1e-5)


def test_it_is_nothing_where_both_orders_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    own, one = explained_batches.network(), explained_batches.batch(ROWS)
    alike = torch.arange(16).expand(len(one), -1)
    monkeypatch.setattr(
        DeletionLossTraining,
        "_least_relevant_first",
        lambda *_: (alike, torch.zeros(len(one), dtype=torch.bool)),
    )
    monkeypatch.setattr(type(one.streams), "uniform", lambda *_, **__: alike / 16)
    found = deletions(contract(), own, one).loss
    assert float(found.detach()) == pytest.approx(0, abs=1e-7)
    assert all(float(gradient.abs().max()) < 1e-7 for gradient in gradients(own, found).values())


def test_a_step_against_the_gradient_raises_the_score() -> None:
    """The sign: what is added to the loss falls, so the least relevant cells can be deleted for longer."""
    own, one = explained_batches.network(), explained_batches.batch()
    before = Replica(own, one, contract(steps=None, weight=1))
    found = gradients(own, deletions(contract(steps=None, weight=1), own, one).loss)
    with torch.no_grad():
        for name, weight in before.slow.module.named_parameters():
            weight.sub_(0.02 * found[name].double())
    first = Replica(explained_batches.network(), one, contract(steps=None, weight=1)).term("softmax")
    assert float(before.term("softmax").detach()) < float(first.detach()) - 1e-3


def test_deleted_images_leave_batch_normalization_as_it_is() -> None:
    own = explained_batches.network()
    norm = own.module.get_submodule("norm")
    before = {name: value.clone() for name, value in norm.named_buffers()}
    deletions(contract(), own, explained_batches.batch(ROWS))
    assert all(torch.equal(value, before[name]) for name, value in norm.named_buffers())
    assert own.module.training
    assert norm.training


def test_images_without_an_order_count_only_in_the_cross_entropy() -> None:
    own, one = explained_batches.network(), explained_batches.batch(ROWS)
    with torch.no_grad():
        own.module.get_submodule("head").weight.zero_()  # type: ignore[operator]
    found = deletions(contract(), own, one)
    assert float(found.loss) == 0
    assert found.facts == {"constant_maps": 1.0, "deletion_term": 0.0}


@pytest.mark.parametrize("mix", [Plain(), Mixup(alpha=0.7), CutMix()], ids=lambda mix: mix.kind)
def test_the_mix_sees_what_it_would_see_by_itself(mix: Plain | Mixup | CutMix) -> None:
    """The same draws, and its own loss; the deletions are of the images as they are."""
    one, setting = explained_batches.batch(ROWS), explained_batches.setting(explained_batches.network())
    losses = []
    for wanted in (mix, contract(mix=mix)):
        own = explained_batches.network()
        own.module.get_submodule("drop").p = 0.0  # type: ignore[assignment]
        found = method_of(wanted, setting).step(own, replace(one, random=generator(0, "method", 0)))
        losses.append(float(found.loss.detach()) - found.facts.get("deletion_term", 0.0))
    assert losses[1] == pytest.approx(losses[0], abs=1e-6)


class Remembering(Method):
    """A mix with a memory."""

    def __init__(self) -> None:
        self.kept = torch.zeros(1)

    def step(self, network: Network, batch: TrainingBatch) -> Step:
        self.kept = self.kept + 1
        return Step(network.losses(network.logits(batch.pixels), batch.targets).mean())

    def state(self) -> dict[str, Tensor]:
        return {"kept": self.kept}

    def restore(self, state) -> None:  # noqa: ANN001 - as the base has it
        self.kept = state["kept"]


def test_the_memory_of_the_mix_goes_into_checkpoints() -> None:
    mix = Remembering()
    method = DeletionLossTraining(contract(), explained_batches.setting(explained_batches.network()), mix)
    method.restore({"kept": torch.ones(1)})
    assert method.state() == {"kept": mix.kept}
    assert float(mix.kept) == 1


def test_random_maps_have_no_score_on_average() -> None:
    """Both orders are random then; the loss has no direction."""
    own = explained_batches.network()
    terms = [
        float(deletions(contract(explainer=Random(), weight=1), own, explained_batches.batch(step=step)).loss.detach())
        for step in range(12)
    ]
    by_map = float(deletions(contract(weight=1), own, explained_batches.batch()).loss.detach())
    error = float(np.std(terms, ddof=1)) / len(terms) ** 0.5
    assert abs(float(np.mean(terms))) < 3 * error
    assert by_map < -2 * float(np.std(terms, ddof=1))


def test_a_sum_of_parts_has_the_gradient_of_their_sum() -> None:
    own, one = small_trainings.network(), explained_batches.batch(ROWS)

    def parts() -> Iterator[Tensor]:
        for row in range(3):
            yield own.evaluated(one.pixels[row : row + 2]).sigmoid().sum()
        # a part that some weights have no share in
        yield own.module.get_parameter("head.bias").square().sum()

    whole = torch.stack(list(parts())).sum()
    found = summed(own, parts())
    assert float(found.detach()) == pytest.approx(float(whole.detach()))
    expected = gradients(own, whole)
    for name, gradient in gradients(own, found * 2).items():
        np.testing.assert_allclose(gradient.numpy(), 2 * expected[name].numpy(), rtol=1e-4, atol=1e-6)


def test_a_grid_finer_than_the_image_is_refused() -> None:
    own = explained_batches.network()
    with pytest.raises(InvalidRequest, match="use at most 32 along the shorter side") as caught:
        method_of(DeletionLoss(grid=33), explained_batches.setting(own))
    assert caught.value.field == "plan.method.grid"


@pytest.mark.parametrize("fields", [{"weight": 0}, {"grid": 1}, {"steps": 0}, {"mix": {"kind": "edda"}}])
def test_fields_that_make_no_sense_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(fields))):
        DeletionLoss.model_validate(fields)


def test_no_more_steps_are_drawn_than_there_are() -> None:
    assert contract(steps=100).steps_of(contract().cells_of(32, 32)) == 15
    assert contract(steps=None).steps_of(contract().cells_of(32, 32)) == 15
    assert DeletionLoss().cells_of(32, 32) == (8, 8)
    assert DeletionLoss().cells_of(224, 224) == (14, 14)
