"""The steps of one training, which may go on in another process from any checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import safetensors.torch
import torch
from torch import Tensor
from torch.optim import Optimizer

from auditcore.contracts.access import Limits
from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.contract import Sha256
from auditcore.contracts.training.plan import TrainingPlan
from auditcore.contracts.training.report import Epoch, Stopped
from auditcore.contracts.training.request import TrainingRequest
from auditcore.errors import BudgetTooSmall, CheckpointInvalid
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams
from auditcore.training.basic_augmentation import augment
from auditcore.training.checkpoints import History, read_checkpoint, write_checkpoint
from auditcore.training.draws import generator
from auditcore.training.evaluation import measure_explanations, one_hot, validate
from auditcore.training.labeled_images import LabeledImages
from auditcore.training.method import Method, MethodSetting, TrainingBatch
from auditcore.training.network import Network
from auditcore.training.optimization import build_optimizer, learning_rate, set_learning_rate
from auditcore.training.registry import method_of

STEPS_BEFORE_ESTIMATE = 3
"""Steps after which the time of an epoch is estimated; the first one is slower than the others."""


@final
@dataclass(frozen=True)
class Advance:
    """How far a training has come.

    Attributes:
        checkpoint: From which it goes on, or from which its result is read.
        step: Number of steps that are done.
        stopped: Why it has ended; None if there is more to do.
    """

    checkpoint: bytes
    step: int
    stopped: Stopped | None


@final
class TrainingRun:
    """One training: from a checkpoint to the next one, in any process, with the same weights in the end.

    The same plan, data and starting weights give the same bytes on a CPU with the same number of threads, however
    often the training was interrupted.

    Attributes:
        steps_per_epoch: Number of steps of an epoch.
        steps: Number of steps of all epochs.
    """

    def __init__(
        self,
        request: TrainingRequest,
        start: Classifier,
        training: LabeledImages,
        validation: LabeledImages,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a training; nothing is computed yet.

        Args:
            request: What to do.
            start: The model to start from, on its device; it stays as it is.
            training: Images to train on.
            validation: Images to measure on.
            limits: Sizes that are checked before a file is decoded.
            clock: Seconds, monotonic.

        Raises:
            ModelNotTrainable: The model cannot be trained, or not with this method.
        """
        self._request = request
        self._plan: TrainingPlan = request.plan
        self._training, self._validation = training, validation
        self._limits, self._clock = limits or Limits(), clock
        self._start = start
        self.steps_per_epoch = math.ceil(len(training) / self._plan.batch_size)
        self.steps = self.steps_per_epoch * self._plan.epochs
        self._network = Network(start, bf16=self._plan.precision == "bf16")
        self._method: Method = method_of(
            self._plan.method,
            MethodSetting(self._network, self.steps_per_epoch, self._plan.epochs, self._plan.seed),
        )
        self._optimizer: Optimizer = build_optimizer(
            self._network.module, self._plan.optimizer, self._method.parameters()
        )
        self._history = History(training=self.digest)

    @property
    def digest(self) -> Sha256:
        """Digest of everything that decides the weights: plan, data and starting weights."""
        plan = self._plan.model_dump(mode="json")
        return digest_of([plan, self._start.digest, self._training.digest, self._validation.digest])

    @property
    def history(self) -> History:
        """What has happened so far."""
        return self._history

    @property
    def network(self) -> Network:
        """The network with its weights of this moment."""
        return self._network

    def resume(self, checkpoint: bytes) -> None:
        """Go on from a checkpoint of this training.

        Raises:
            CheckpointInvalid: It is damaged, or of another training.
        """
        history, parts = read_checkpoint(checkpoint, training=self.digest)
        try:
            self._network.module.load_state_dict(parts.get("weights", {}))
            _restore_optimizer(self._optimizer, parts.get("optimizer", {}))
        except (RuntimeError, KeyError, ValueError) as error:
            msg = "the checkpoint does not fit the model; start the training anew"
            raise CheckpointInvalid(msg, field="checkpoint") from error
        self._method.restore(parts.get("method", {}))
        self._network.changed()
        self._history = history

    def advance(
        self,
        *,
        progress: Callable[[float], None] = lambda _share: None,
        enough: Callable[[], bool] = lambda: False,
    ) -> Advance:
        """Train until the end, or until it is enough for now.

        Args:
            progress: Called after each step with the share done, in [0,1]; may raise AuditCancelled.
            enough: Asked after each step. Once it says so, the checkpoint of this step is returned.

        Raises:
            TrainingDiverged: The loss is NaN or infinite.
            BudgetTooSmall: The budget does not suffice for one epoch.
            ModelNotTrainable: The method is not right on this model.
        """
        seconds_before = self._history.seconds
        ledger = self._start.ledger
        forward, backward = ledger.forward_images, ledger.backward_images
        before = self._history
        started = self._clock()
        stopped = self._stopped()
        while stopped is None:
            self._one_step()
            self._history = self._history.model_copy(
                update={
                    "seconds": seconds_before + self._clock() - started,
                    "forward_images": before.forward_images + ledger.forward_images - forward,
                    "backward_images": before.backward_images + ledger.backward_images - backward,
                }
            )
            self._require_budget()
            progress(self._history.step / self.steps)
            stopped = self._stopped()
            if enough():
                break
        return Advance(self._checkpoint(), self._history.step, stopped)

    def weights(self) -> bytes:
        """The weights of this moment, as a file of safetensors with the names of the architecture."""
        state = self._network.module.state_dict()
        return safetensors.torch.save(
            {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
        )

    def _one_step(self) -> None:
        step, began = self._history.step, self._clock()
        epoch, number = divmod(step, self.steps_per_epoch)
        batch = self._batch(epoch, number)
        rate = learning_rate(self._plan, step, steps_per_epoch=self.steps_per_epoch)
        set_learning_rate(self._optimizer, rate)
        with _drawing(self._plan.seed, step):
            self._optimizer.zero_grad(set_to_none=True)
            loss, facts = self._method.step(self._network, batch)
            self._network.require_finite(loss.detach(), step=step)
            loss.backward()
            self._optimizer.step()
        self._network.changed()
        done = self._history
        self._history = done.model_copy(
            update={
                "step": step + 1,
                "losses": done.losses + float(loss.detach()),
                "facts": {name: done.facts.get(name, 0.0) + value for name, value in facts.items()},
                "epoch_seconds": done.epoch_seconds + self._clock() - began,
            }
        )
        if number + 1 == self.steps_per_epoch:
            self._end_epoch(epoch, rate)

    def _end_epoch(self, epoch: int, rate: float) -> None:
        began = self._clock()
        done = self._history
        validation = validate(self._network, self._validation)
        # the last step may have ruined weights whose loss before it was still a number
        self._network.require_finite(torch.tensor(validation.loss), step=done.step - 1)
        audit = self._plan.epoch_audit
        last = epoch + 1 == self._plan.epochs
        measurements = (
            measure_explanations(self._network, self._validation, audit, self._request.model, self._limits)
            if audit is not None and (last or (epoch + 1) % audit.every == 0)
            else ()
        )
        record = Epoch(
            epoch=epoch + 1,
            learning_rate=rate,
            training_loss=done.losses / self.steps_per_epoch,
            validation_loss=validation.loss,
            validation_score=validation.score,
            method={name: total / self.steps_per_epoch for name, total in done.facts.items()},
            measurements=measurements,
            seconds=done.epoch_seconds + self._clock() - began,
        )
        self._history = done.model_copy(
            update={"epochs": (*done.epochs, record), "losses": 0.0, "facts": {}, "epoch_seconds": 0.0}
        )

    def _batch(self, epoch: int, number: int) -> TrainingBatch:
        """The images of one step: of a new order in every epoch, in batches that differ by at most one image."""
        seed, step = self._plan.seed, self._history.step
        order = generator(seed, "order", epoch).permutation(len(self._training))
        count = len(order)
        rows = order[number * count // self.steps_per_epoch : (number + 1) * count // self.steps_per_epoch].tolist()
        device = self._network.device
        pixels = augment(
            self._training.pixels(rows).to(device), self._plan.basic, generator(seed, "basic_augmentation", step)
        )
        truth = self._training.truth[rows].to(device)
        digests = tuple(self._training.digests[row] for row in rows)
        return TrainingBatch(
            pixels=pixels,
            truth=truth,
            targets=smoothed(one_hot(truth), self._plan.label_smoothing, multi_label=self._network.scores == "sigmoid"),
            streams=Streams(seed, digests, views=(f"step {step}",) * len(rows)),
            random=generator(seed, "method", step),
            step=step,
            epoch=epoch,
            epochs=self._plan.epochs,
        )

    def _stopped(self) -> Stopped | None:
        history = self._history
        if history.step >= self.steps:
            return "completed"
        budget = self._request.budget_seconds
        if budget is None or not history.epochs or history.step % self.steps_per_epoch:
            return None
        return "budget" if history.seconds + history.seconds / len(history.epochs) > budget else None

    def _require_budget(self) -> None:
        """Stop early where the first epoch will not fit into the budget, in however many parts it is done."""
        budget, history = self._request.budget_seconds, self._history
        if budget is None or history.epochs or history.step < min(STEPS_BEFORE_ESTIMATE, self.steps_per_epoch):
            return
        expected = history.seconds / history.step * self.steps_per_epoch
        if expected > budget:
            msg = (
                f"one epoch takes about {expected:.3g} s here, and the budget is {budget:g} s; raise `budget_seconds`, "
                "or train on fewer or smaller images"
            )
            raise BudgetTooSmall(msg, field="budget_seconds")

    def _checkpoint(self) -> bytes:
        return write_checkpoint(
            self._history,
            {
                "weights": self._network.module.state_dict(),
                "optimizer": _optimizer_state(self._optimizer),
                "method": self._method.state(),
            },
        )


def smoothed(targets: Tensor, smoothing: float, *, multi_label: bool) -> Tensor:
    """Labels of which a share is spread evenly over all classes, or over present and absent.

    Args:
        targets: (N,K) in [0,1].
        smoothing: Share that is spread, in [0,1).
        multi_label: Whether classes are independent of each other.

    Source: Szegedy et al. 2016, section 7: (1 - e) * y + e / K; for independent classes K is 2.
    """
    parts = 2 if multi_label else targets.shape[1]
    return (1 - smoothing) * targets + smoothing / parts


@contextmanager
def _drawing(seed: int, step: int) -> Iterator[None]:
    """Seed what a network itself draws in a step, such as dropout, and leave torch's own generators as they were."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices), torch.inference_mode(mode=False), torch.enable_grad():
        torch.manual_seed(int(generator(seed, "network", step).integers(2**63)))
        yield


def _optimizer_state(optimizer: Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {
        f"{number}/{name}": value
        for number, values in state.items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }


def _restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition("/")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
