"""The inter-model deletion loss: cross-entropy, and the deletion score of the model's own maps.

Source: Won et al. 2025, section 5.1, equation 12. The score is that of the check `deletion`, of which one random order
and some numbers of deleted cells are drawn in each step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from auditcore.contracts.training.methods.deletion_loss import DeletionLoss
from auditcore.errors import InvalidRequest
from auditcore.images.cells import cell_index
from auditcore.metrics.cells import cell_relevance, deletion_step
from auditcore.metrics.constancy import is_constant
from auditcore.metrics.ranking import rank_descending
from auditcore.metrics.reduction import ranking_relevance
from auditcore.metrics.rounded_relevance import resolved_relevance
from auditcore.training.method import Method, MethodSetting, Step, TrainingBatch
from auditcore.training.network import Network
from auditcore.training.summed_loss import summed


@final
class DeletionLossTraining(Method):
    """The loss of a mix, plus weight * mean over steps of (p_RaO - p_LeRF)."""

    def __init__(self, contract: DeletionLoss, setting: MethodSetting, mix: Method) -> None:
        """Refuse what does not fit the network.

        Raises:
            ModelNotTrainable: The explainer is not right on this model.
            InvalidRequest: The grid has more cells along a side than the image has pixels.
        """
        self._contract, self._mix = contract, mix
        setting.network.require_explainable(contract.explainer)
        height, width = setting.network.start.shape.height, setting.network.start.shape.width
        self._grid = contract.cells_of(height, width)
        if self._grid.rows > height or self._grid.columns > width:
            msg = (
                f"a grid of {self._grid.rows} x {self._grid.columns} cells does not fit images of {height} x {width} "
                f"pixels; use at most {min(height, width)} along the shorter side"
            )
            raise InvalidRequest(msg, field="plan.method.grid")

    def step(self, network: Network, batch: TrainingBatch) -> Step:
        """The loss of the mix and of the deletions.

        Beside the facts of the mix: `deletion_term`, what the deletions add to the loss, which is 0 where no map gives
        an order; `constant_maps`, the share of such images.

        Raises:
            ModelNotTrainable: The explainer is not right on this model.
            TrainingDiverged: Logits of the model are NaN or infinite.
        """
        learned = self._mix.step(network, batch)
        targets = _drawn_classes(batch)
        inner = self._grid.cells - 1
        drawn = batch.random.choice(inner, self._contract.steps_of(self._grid), replace=False) + 1
        lerf, constant = self._least_relevant_first(network, batch, targets)
        rao = batch.streams.uniform((self._grid.cells,), "deletion_loss/random_order").argsort(dim=1).to(lerf.device)
        facts = {**learned.facts, "constant_maps": float(constant.double().mean()), "deletion_term": 0.0}
        if bool(constant.all()):
            return Step(learned.loss, facts)
        height, width = batch.pixels.shape[2:]
        cells = cell_index(height, width, self._grid, lerf.device)
        some = ~constant
        # both orders are alike where nothing or everything is deleted; the mean is over steps 1 to G
        factor = self._contract.weight * inner / self._grid.cells / (len(drawn) * int(some.sum()))
        term = summed(
            network,
            (
                sign * factor * probabilities.sum()
                for order, sign in ((rao, 1), (lerf, -1))
                for probabilities in _after_deletions(
                    network,
                    batch.pixels[some],
                    targets[some],
                    deletion_step(order[some], cells),
                    sorted(drawn.tolist()),
                )
            ),
        )
        facts["deletion_term"] = float(term.detach())
        return Step(learned.loss + term, facts)

    def state(self) -> dict[str, Tensor]:
        """What the mix remembers."""
        return self._mix.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what the mix remembers."""
        self._mix.restore(state)

    def _least_relevant_first(
        self, network: Network, batch: TrainingBatch, targets: Int[Tensor, " image"]
    ) -> tuple[Int[Tensor, "image cell"], Bool[Tensor, " image"]]:
        """Cells from least to most relevant, and which images have a map that gives no order."""
        maps = network.maps(self._contract.explainer, batch.pixels, targets, batch.streams)
        relevance = cell_relevance(ranking_relevance(maps, self._contract.order, self._contract.reduce), self._grid)
        constant = is_constant(relevance, torch.ones_like(relevance, dtype=torch.bool))
        ties = batch.streams.uniform((self._grid.cells,), "deletion_loss/ties", device=relevance.device)
        return rank_descending(resolved_relevance(relevance), ties).flip(1), constant


def _drawn_classes(batch: TrainingBatch) -> Int[Tensor, " image"]:
    """A true class of each image, drawn at random where it has several."""
    drawn = torch.from_numpy(batch.random.random(tuple(batch.truth.shape))).to(batch.truth.device)
    return drawn.masked_fill(~batch.truth, -1).argmax(dim=1)


def _after_deletions(
    network: Network,
    pixels: Float[Tensor, "image channel height width"],
    targets: Int[Tensor, " image"],
    step_of_pixel: Int[Tensor, "image height width"],
    steps: list[int],
) -> Iterator[Float[Tensor, " image"]]:
    """Target probabilities after so many deletions, one answer for each number of them, with gradients."""
    for step in steps:
        deleted = torch.where((step_of_pixel <= step)[:, None], network.start.mean, pixels)
        logits = network.evaluated(deleted)
        yield network.start.probabilities(logits).gather(1, targets[:, None])[:, 0]
