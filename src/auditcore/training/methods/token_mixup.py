"""TokenMixup: horizontal, vertical, or both.

Source: Choi et al. 2022, sections 3.2 to 3.4, and the authors' code for ViT.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple, final

import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional

from auditcore.contracts.training.methods.token_mixup import TokenMixup
from auditcore.errors import ModelNotTrainable
from auditcore.training.draws import generator
from auditcore.training.method import Method, MethodSetting, Step, TrainingBatch
from auditcore.training.network import Network
from auditcore.training.pasted_boxes import labels_by_share
from auditcore.training.token_layers import attending_to_more, class_attention, entering, token_layers

_SCALE = 10
"""Of a cross-entropy that is a difficulty of 1."""


class Mixing(NamedTuple):
    """What comes from where in horizontal mixing.

    Attributes:
        partner: Position of each image's partner; its own if it is not mixed.
        taken: Whether a patch comes from the partner.
        shares: Share of the label that is the partner's, in [0,1].
    """

    partner: Int[Tensor, " image"]
    taken: Bool[Tensor, "image patch"]
    shares: Float[Tensor, " image"]


@final
class TokenMixupTraining(Method):
    """The cross-entropy of images whose tokens are mixed on the way."""

    def __init__(self, contract: TokenMixup, setting: MethodSetting) -> None:
        """Find the blocks of the transformer, and make the layer that says which images are easy.

        Raises:
            ModelNotTrainable: The model is no transformer that can be mixed, or has too few blocks or patches.
        """
        network = setting.network
        self._contract = contract
        self._layers = token_layers(network.start, network.module, contract.kind)
        self._require_layers()
        if contract.direction != "horizontal" and contract.kappa > self._layers.patches:
            msg = f"`kappa` is {contract.kappa}, and the model has {self._layers.patches} patches; lower it"
            raise ModelNotTrainable(msg, field="plan.method.kappa")
        self._score: tuple[nn.Parameter, ...] = ()
        if contract.horizontal:
            width = self._width(network)
            bound = 1 / math.sqrt(width)  # that of torch.nn.Linear
            random = generator(setting.seed, "token_mixup")
            self._score = tuple(
                nn.Parameter(torch.from_numpy(random.uniform(-bound, bound, shape)).float().to(network.device))
                for shape in ((network.classes, width), (network.classes,))
            )

    def parameters(self) -> Sequence[nn.Parameter]:
        """Of the layer that says which images are easy."""
        return self._score

    def state(self) -> dict[str, Tensor]:
        """The layer that says which images are easy."""
        return {f"score.{number}": value.detach() for number, value in enumerate(self._score)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""
        with torch.no_grad():
            for number, value in enumerate(self._score):
                value.copy_(state[f"score.{number}"])

    def step(self, network: Network, batch: TrainingBatch) -> Step:
        """The loss of the mixed batch."""
        targets, score_losses = batch.targets, batch.targets.new_zeros(len(batch))
        facts = {"mixed_images": 0.0, "mixed_patches": 0.0}
        earlier: list[Tensor] = []
        vertical_at = self._contract.vertical_at

        def mix(tokens: Tensor) -> Tensor:
            nonlocal targets, score_losses
            self._require_all_tokens(tokens)
            score_losses = network.losses(functional.linear(tokens[:, 0].detach().float(), *self._score), targets)
            easy = score_losses.detach() / _SCALE <= self._contract.tau
            block = self._layers.blocks[self._contract.horizontal_layer]
            saliency = class_attention(block, tokens)[:, self._layers.prefix :]
            mixing = horizontal_mixing(saliency, easy, self._contract.rho)
            targets = labels_by_share(targets, targets[mixing.partner], mixing.shares)
            facts["mixed_images"] = float(mixing.taken.any(dim=1).double().mean())
            facts["mixed_patches"] = float(mixing.taken.double().mean())
            prefix = self._layers.prefix
            patches = torch.where(mixing.taken[:, :, None], tokens[mixing.partner, prefix:], tokens[:, prefix:])
            return torch.cat((tokens[:, :prefix], patches), dim=1)

        def remember(block: nn.Module, tokens: Tensor) -> Tensor:
            self._require_all_tokens(tokens)
            earlier.append(most_salient_tokens(block, tokens, self._layers.prefix, self._contract.kappa))
            return tokens

        with ExitStack() as hooks:
            if self._contract.horizontal:
                hooks.enter_context(entering(self._layers.blocks[self._contract.horizontal_layer], mix))
            if vertical_at is not None:
                # after the mixing of a block, so that its tokens are the mixed ones
                for block in self._layers.blocks[:vertical_at]:
                    hooks.enter_context(entering(block, partial(remember, block)))
                hooks.enter_context(attending_to_more(self._layers.blocks[vertical_at], earlier))
            logits = network.logits(batch.pixels)
        loss = network.losses(logits, targets).mean() + self._contract.score_weight * score_losses.mean()
        return Step(loss, facts if self._contract.horizontal else {})

    def _require_layers(self) -> None:
        blocks = len(self._layers.blocks)
        horizontal_at = self._contract.horizontal_layer if self._contract.horizontal else None
        for name, layer in (("horizontal_layer", horizontal_at), ("vertical_layer", self._contract.vertical_at)):
            if layer is not None and layer >= blocks:
                msg = f"`{name}` is {layer}, and the model has {blocks} blocks; set it to at most {blocks - 1}"
                raise ModelNotTrainable(msg, field=f"plan.method.{name}")

    def _require_all_tokens(self, tokens: Tensor) -> None:
        if tokens.shape[1] != self._layers.tokens:
            msg = (
                f"method 'token_mixup' mixes tokens at the same place, and the model has {tokens.shape[1]} tokens "
                f"while it trains, {self._layers.tokens} otherwise; do not drop patches (`patch_drop_rate`)"
            )
            raise ModelNotTrainable(msg, field="model")

    def _width(self, network: Network) -> int:
        """Values of a token, found by a pass that counts nowhere."""
        start, widths = network.start, list[int]()

        def see(tokens: Tensor) -> Tensor:
            widths.append(tokens.shape[2])
            return tokens

        block = token_layers(start, start.module, self._contract.kind).blocks[0]
        with start.ledger.paused(), torch.no_grad(), entering(block, see):
            start.module(torch.zeros(2, *start.shape, device=start.device))
        return widths[0]


def most_salient_tokens(
    block: nn.Module, tokens: Float[Tensor, "image token width"], prefix: int, count: int
) -> Float[Tensor, "image chosen width"]:
    """The patches that the class token attends to most, with gradient.

    Args:
        block: Whose attention it is.
        tokens: Its input.
        prefix: Tokens before the patches.
        count: Patches of each image.
    """
    chosen = class_attention(block, tokens)[:, prefix:].topk(count, dim=1).indices + prefix
    return tokens.gather(1, chosen[:, :, None].expand(-1, -1, tokens.shape[2]))


def horizontal_mixing(saliency: Float[Tensor, "image patch"], easy: Bool[Tensor, " image"], rho: float) -> Mixing:
    """Assign partners so that the saliency that images gain is largest.

    Args:
        saliency: How much the class token attends to each patch.
        easy: Whether an image is mixed; any image can be a partner, each of one image at most.
        rho: A patch is taken where the partner's saliency is higher by more than this.

    Source: Choi et al. 2022, equations 3 to 7. Saliency that was kept and that came in decide on the label.
    """
    count = len(saliency)
    partner, taken = torch.arange(count, device=saliency.device), torch.zeros_like(saliency, dtype=torch.bool)
    rows = easy.nonzero()[:, 0]
    if len(rows):
        gain = (saliency[None] - saliency[rows, None] - rho).clamp(min=0)
        _, columns = linear_sum_assignment(gain.sum(dim=2).cpu().numpy(), maximize=True)
        partner[rows] = torch.from_numpy(columns).to(saliency.device)
        taken[rows] = gain[torch.arange(len(rows), device=gain.device), partner[rows]] > 0
    kept = (saliency * ~taken).sum(dim=1)
    came = (saliency[partner] * taken).sum(dim=1)
    total = kept + came
    # the class token may attend to no patch at all
    shares = torch.where(total > 0, came / total.clamp(min=torch.finfo(total.dtype).tiny), torch.zeros_like(total))
    return Mixing(partner, taken, shares)
