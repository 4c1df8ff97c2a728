"""Predictions from a server: in batches, several at once, and only while the same model answers."""

from __future__ import annotations

import math
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.contracts.capabilities import ModelCapabilities
from auditcore.contracts.contract import Sha256
from auditcore.contracts.probe import ProbeAnswers
from auditcore.contracts.server_models import RequestLimits
from auditcore.errors import ModelChanged, ModelOutputInvalid, RequestBudgetExceeded
from auditcore.sources.servers.client import Client, Description
from auditcore.sources.servers.tensors import RawTensor

PROBES = 2
"""Number of probe images: a gray one, and one of fixed noise."""

STEADY = 1e-4
"""Largest change of a probability between two answers to the same image that is ignored; float32 and batching on a
server cause such changes. Audits over servers agree with local ones within 1e-3."""

UNSTEADY = 1e-2
"""A model with at least this change is refused: its metrics would be noise."""

SPARE_REQUESTS = 1.25
"""Factor by which a shard may exceed its expected requests, for retries and for work that depends on the images."""

FLOAT_BYTES = 4


@final
class ServedSource:
    """A `Source` (see `models/black_box.py`) behind a server.

    Attributes:
        description: The server's description when the model was loaded.
        probe: The server's answers to the probe images at that time.
    """

    def __init__(
        self, client: Client, limits: RequestLimits, *, pinned: Sha256 | None = None, classes: int | None = None
    ) -> None:
        """Ask the server for its description, and send the probe images twice.

        Args:
            client: The model.
            limits: How many requests, how large and how many at once.
            pinned: Digest of the description when the audit was submitted.
            classes: Number of classes that the request gives.

        Raises:
            ModelChanged: The server describes another model than the pinned one.
            ModelOutputInvalid: The number of classes differs, or the same image gets different answers.
            InputError: The server does not answer.
        """
        self._client = client
        self._limits = limits
        self.description = client.describe()
        self._pinned = pinned or self.description.pin
        self._refuse_other(self.description)
        self._shape = self.description.preprocessing.shape
        self._classes = classes or self.description.classes
        self._field = "model.classes" if classes is not None else "model"
        first = self._passed(self._probe_images())
        self._classes = first.shape[1]
        at_first, again = self._answers(first, 0.0), self._answers(self._passed(self._probe_images()), 0.0)
        unsteadiness = again.moved_from(at_first)
        self.probe = at_first.model_copy(update={"unsteadiness": unsteadiness})
        if not unsteadiness < UNSTEADY:
            msg = (
                f"the server's answers to the same image differ: a probability changed by {unsteadiness:.3g}; "
                "switch off dropout and random augmentation on the server"
            )
            raise ModelOutputInvalid(msg, field="model")

    @property
    def digest(self) -> Sha256:
        """Digest of the weights if the server tells it, otherwise of its description."""
        return self.description.digest

    @property
    def capabilities(self) -> ModelCapabilities:
        """What the model lets an audit see."""
        return self.description.capabilities

    @property
    def images_per_pass(self) -> int:
        """Images of as many full requests as may run at once."""
        return self._batch * self._limits.concurrency

    @property
    def _batch(self) -> int:
        most = self._client.images_per_request(math.prod(self._shape) * FLOAT_BYTES)
        return max(1, min(self._limits.images_per_request, most))

    def predict(self, inputs: Float[Tensor, "image channel height width"]) -> Float[Tensor, "image class"]:
        """Return the outputs as the server declares them, in order; requests have equal size.

        Raises:
            ModelOutputInvalid: The shape of an answer is wrong.
            InputError: The server fails, or the budget of requests is used up.
        """
        return self._passed(inputs)

    def begin(self, images: int) -> None:
        """Refuse a model that has changed, and a shard that needs more requests than the budget allows.

        Args:
            images: Estimated number of images that the shard will send.

        Raises:
            ModelChanged: The server serves a different model.
            RequestBudgetExceeded: The shard needs more requests than the whole audit may make.
        """
        self._confirm()
        budget = self._limits.requests
        needed = math.ceil(images / self._batch)
        if budget is not None and needed > budget:
            msg = (
                f"a shard needs about {needed} requests of {self._batch} images, but the whole audit may make only "
                f"{budget}; raise `limits.requests` or `limits.images_per_request`, or reduce the plan"
            )
            raise RequestBudgetExceeded(msg, field="model.limits.requests")
        spared = math.ceil(SPARE_REQUESTS * needed) + self._limits.attempts
        self._client.allow(None if budget is None else min(budget, spared))

    def end(self) -> tuple[str, ...]:
        """Notes for the readers of the report.

        Raises:
            ModelChanged: Another model answers now, so that the values of this shard belong to two models.
        """
        self._client.allow(None)
        self._confirm()
        notes = [f"predictions came from {self.description.server}, {self._batch} images per request"]
        if self.probe.unsteadiness > STEADY:
            notes.append(
                f"the server's answers to the same image differ slightly: a probability changed by "
                f"{self.probe.unsteadiness:.2g}, so differences of scores below that have no meaning"
            )
        return tuple(notes)

    def _confirm(self) -> None:
        """Check description and answers again, because servers may exchange a model without telling."""
        self._refuse_other(self._client.describe())
        now = self._answers(self._passed(self._probe_images()), self.probe.unsteadiness)
        if now.is_of_another_model(self.probe):
            msg = (
                f"the server's answers have changed since the audit began: a probability of the probe changed by "
                f"{now.moved_from(self.probe):.3g}; submit the audit again once the model no longer changes"
            )
            raise ModelChanged(msg, field="model.version")

    def _refuse_other(self, description: Description) -> None:
        if description.pin != self._pinned:
            version = "" if description.version is None else f", version {description.version}"
            msg = (
                f"the server now serves a different model{version} ({description.pin}); the audit began with "
                f"{self._pinned}; submit it again"
            )
            raise ModelChanged(msg, field="model.sha256" if self.description is description else "model.version")

    def _answers(self, outputs: Tensor, unsteadiness: float) -> ProbeAnswers:
        return ProbeAnswers(
            probabilities=tuple(self._probabilities(outputs).flatten().tolist()), unsteadiness=unsteadiness
        )

    def _probabilities(self, outputs: Tensor) -> Tensor:
        if self.description.outputs == "probabilities":
            return outputs
        if self.description.outputs == "log_probabilities":
            return outputs.exp()
        return outputs.softmax(dim=1) if self.description.scores == "softmax" else outputs.sigmoid()

    def _probe_images(self) -> Float[Tensor, "2 channel height width"]:
        """Fixed images: a gray one, and one of noise, which no model confuses with gray."""
        noise = np.random.Generator(np.random.Philox(key=0)).random(self._shape, dtype=np.float32)
        pixels = torch.stack([torch.full_like(torch.from_numpy(noise), 0.5), torch.from_numpy(noise)])
        mean, std = (
            torch.tensor(value).view(1, -1, 1, 1)
            for value in (self.description.preprocessing.mean, self.description.preprocessing.std)
        )
        return (pixels - mean) / std

    def _passed(self, inputs: Tensor) -> Tensor:
        batches = [_raw(part) for part in inputs.split(self._batch)]
        answers = [_tensor(answer) for answer in self._client.predict(batches)]
        for batch, answer in zip(batches, answers, strict=True):
            self._refuse_misshapen(batch, answer)
        return torch.cat(answers)

    def _refuse_misshapen(self, batch: RawTensor, answer: Tensor) -> None:
        if answer.ndim != 2 or len(answer) != len(batch):  # noqa: PLR2004 - (N, classes)
            msg = (
                f"the server must return one row of class scores per image; for {len(batch)} images it returned shape "
                f"{tuple(answer.shape)}"
            )
            raise ModelOutputInvalid(msg, field="model")
        if self._classes is not None and answer.shape[1] != self._classes:
            msg = f"the server returns {answer.shape[1]} classes, not {self._classes}; check `classes` and the model"
            raise ModelOutputInvalid(msg, field=self._field)
        if not answer.isfinite().all():
            msg = "the server returned NaN or infinite scores; check the model and `preprocessing`"
            raise ModelOutputInvalid(msg, field="model")


def _raw(tensor: Tensor) -> RawTensor:
    values = tensor.contiguous().to(torch.float32).numpy().astype("<f4", copy=False)
    return RawTensor(tuple(values.shape), values.tobytes())


def _tensor(raw: RawTensor) -> Tensor:
    return torch.from_numpy(np.frombuffer(raw.data, dtype="<f4").reshape(raw.shape).astype(np.float32))
