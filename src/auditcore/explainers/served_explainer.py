"""Maps from a server: asked for, tried, and only while the same explainer answers."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from auditcore.contracts.explainers import ServedExplainer
from auditcore.errors import ModelChanged
from auditcore.explainers.attribution import Attribution, Batch
from auditcore.explainers.explanation_client import FIELD, ExplanationClient
from auditcore.explainers.foreign import oddity, same_maps, trial, trial_batch
from auditcore.models.classifier import Classifier
from auditcore.models.pass_ledger import PassLedger
from auditcore.sources.servers.tensors import RawTensor

_CLIENTS: WeakKeyDictionary[PassLedger, dict[ServedExplainer, ExplanationClient]] = WeakKeyDictionary()
"""Ledger of a model -> the connection of each explainer, which ends with the model."""

_PROBES: WeakKeyDictionary[PassLedger, dict[ServedExplainer, Tensor]] = WeakKeyDictionary()
"""Ledger of a model -> the map of the probe image when the worker began."""


def served_maps(batch: Batch, contract: ServedExplainer) -> Attribution:
    """Maps of a server, in requests of `limits.images_per_request`; no pass of the model is made here.

    Raises:
        ModelChanged: Another explainer answers than when this worker began.
        ExplainerFailing: The server answers no maps of these images.
        InputError: The server cannot be reached, keeps failing, or no request is left.
    """
    # diagnostics are read of the originals only, once for each group of images
    if batch.diagnostics and not contract.draws:
        _refuse_other(batch.classifier, contract)
    return Attribution(_asked(batch, contract))


def _asked(batch: Batch, contract: ServedExplainer) -> Tensor:
    if not len(batch):
        return batch.pixels[:, :1]
    values = batch.inputs if contract.values == "normalized" else batch.pixels
    parts = values.detach().contiguous().cpu().split(contract.images_a_request)
    targets = [part.tolist() for part in batch.targets.cpu().split(contract.images_a_request)]
    answers = _client(batch.classifier, contract).explain([_raw(part) for part in parts], targets)
    maps = torch.cat([_tensor(answer) for answer in answers]).to(batch.pixels.device)
    return maps[:, None] if maps.ndim == 3 else maps  # noqa: PLR2004 - (N,H,W)


def _client(classifier: Classifier, contract: ServedExplainer) -> ExplanationClient:
    clients = _CLIENTS.setdefault(classifier.ledger, {})
    if contract not in clients:
        clients[contract] = ExplanationClient(contract)
    return clients[contract]


def _refuse_other(classifier: Classifier, contract: ServedExplainer) -> None:
    probes = _PROBES.setdefault(classifier.ledger, {})
    now = _asked(trial_batch(classifier, 1), contract)
    first = probes.setdefault(contract, now)
    if not same_maps(first, now):
        msg = (
            f"the maps of {contract.model} at {contract.url} have changed since the audit began; submit the audit "
            "again once the explainer no longer changes, or set `draws` if it draws random numbers"
        )
        raise ModelChanged(msg, field=FIELD)


def incompatibility(classifier: Classifier, contract: ServedExplainer) -> str | None:
    """Why the server cannot be audited as declared, found by a trial on images of noise."""
    return trial(classifier, contract, lambda: _attempt(classifier, contract))


def _attempt(classifier: Classifier, contract: ServedExplainer) -> str | None:
    found = oddity(
        trial_batch(classifier, 2),
        lambda batch: _asked(batch, contract),
        draws=contract.draws,
        batched=contract.images_a_request > 1,
    )
    name = f"{contract.model} at {contract.url}"
    match found:
        case None:
            return None
        case "not_finite":
            return f"{name} answers NaN or infinite values for an image of noise"
        case "differs":
            return f"{name} answers two different maps of one image; set `draws` to true if it draws random numbers"
        case "mixes":
            return (
                f"the map of an image by {name} depends on the other images of a request; set "
                "`limits.images_per_request` to 1"
            )


def _raw(values: Tensor) -> RawTensor:
    array = values.to(torch.float32).numpy().astype("<f4", copy=False)
    return RawTensor(tuple(array.shape), array.tobytes())


def _tensor(raw: RawTensor) -> Tensor:
    return torch.from_numpy(np.frombuffer(raw.data, dtype="<f4").reshape(raw.shape).astype(np.float32))
