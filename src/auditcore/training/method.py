"""What a training method does with a batch: the interface of all methods, and the records they get and give."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor, nn

from auditcore.random_numbers.streams import Streams
from auditcore.training.network import Network


@final
@dataclass(frozen=True)
class TrainingBatch:
    """The images of one step, flipped and cropped, on the device of the network.

    Attributes:
        pixels: In pixel space [0,1].
        truth: Whether a class is a true one of the image.
        targets: What to learn, float32 in [0,1]: the true classes, smoothed as the plan says. Rows sum to 1 for
            `softmax`.
        streams: Random streams of the images in this step, for explainers.
        random: The generator of the method in this step.
        step: Number of the step, from 0.
        epoch: Number of the epoch, from 0.
        epochs: Number of epochs of the plan.
    """

    pixels: Float[Tensor, "image channel height width"]
    truth: Bool[Tensor, "image class"]
    targets: Float[Tensor, "image class"]
    streams: Streams
    random: np.random.Generator
    step: int
    epoch: int
    epochs: int

    def __len__(self) -> int:
        """Number of images."""
        return len(self.pixels)


class Step(NamedTuple):
    """What a method makes of a batch.

    Attributes:
        loss: What to minimize, float32, with gradients.
        facts: What it says of this step, by name, such as the share of images that it added.
    """

    loss: Float[Tensor, ""]
    facts: Mapping[str, float] = {}


class Method(ABC):
    """Turns batches into losses. Everything random comes from `batch.random` or `batch.streams`."""

    @abstractmethod
    def step(self, network: Network, batch: TrainingBatch) -> Step:
        """The loss of one batch; passes that learn go through `network.logits`.

        Raises:
            ModelNotTrainable: The method is not right on this model.
        """

    def parameters(self) -> Sequence[nn.Parameter]:
        """Weights of the method itself, which learn with those of the network and are no part of the trained model.

        Their values belong into `state`.
        """
        return ()

    def state(self) -> dict[str, Tensor]:
        """What the next step depends on besides the weights of the network, by name; goes into checkpoints."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""
        del state


@final
@dataclass(frozen=True)
class MethodSetting:
    """What a method may know before the first batch.

    Attributes:
        network: The network that will be trained.
        steps_per_epoch: Number of steps of an epoch.
        epochs: Number of epochs.
        seed: Seed of the plan, for what a method draws once.
    """

    network: Network
    steps_per_epoch: int
    epochs: int
    seed: int
