"""The team's own function that makes maps: loaded, tried, timed and called."""

from __future__ import annotations

import importlib
import operator
import threading
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from auditcore.contracts.explainers import CallableExplainer
from auditcore.devices.transfer import current
from auditcore.errors import ExplainerFailing
from auditcore.explainers.attribution import Attribution, Batch
from auditcore.explainers.foreign import attributed, oddity, trial, trial_batch
from auditcore.models.classifier import Classifier

TRIAL_IMAGES = 2
"""Images of a trial: as few as can show whether one changes the map of another."""


def team_function(batch: Batch, contract: CallableExplainer) -> Attribution:
    """Maps by a function of the team, in batches if it may get several images at once.

    Raises:
        ExplainerFailing: The function failed, took too long, or returned something else than maps of the images.
    """
    function = loaded(contract)

    def attribute(module: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        found = _called(function, contract, module, inputs, targets)
        return _as_maps(found, contract, inputs)

    images = None if contract.batched else 1
    return Attribution(attributed(batch, contract, attribute, name=contract.target, images_a_call=images))


def loaded(contract: CallableExplainer) -> Callable[..., object]:
    """The function; the access rules have allowed it before.

    Raises:
        ExplainerFailing: It cannot be imported or is no function.
    """
    module_name, _, attribute = contract.target.partition(":")
    try:
        with warnings.catch_warnings():
            # libraries warn of each other while they are imported
            warnings.simplefilter("ignore")
            found = operator.attrgetter(attribute)(importlib.import_module(module_name))
    # importing runs foreign code, which may raise anything
    except Exception as error:
        msg = (
            f"explainer {contract.target!r} is allowed but cannot be imported: {type(error).__name__}: {error}; "
            "install its package on the worker"
        )
        raise ExplainerFailing(msg, field="plan.explainers") from error
    if not callable(found):
        msg = f"explainer {contract.target!r} is not callable; allow and name a function"
        raise ExplainerFailing(msg, field="plan.explainers")
    function: Callable[..., object] = found
    return function


def _called(
    function: Callable[..., object], contract: CallableExplainer, module: nn.Module, inputs: Tensor, targets: Tensor
) -> object:
    """What the function returns, unless it takes longer than the contract allows.

    It runs in a thread of its own, because a thread can be waited for with a limit. One that does not end is left
    behind with its copy of the model.

    Raises:
        ExplainerFailing: It took longer.
    """
    outcome: list[object] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            # modes of gradients and the current device belong to a thread
            with torch.enable_grad(), current(inputs.device):
                outcome.append(function(module, inputs, targets, **contract.arguments))
        # foreign code may raise anything; it is raised again below
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    thread = threading.Thread(target=work, name=contract.target, daemon=True)
    thread.start()
    thread.join(contract.timeout_s)
    if thread.is_alive():
        msg = (
            f"{contract.target} took more than {contract.timeout_s:g} s for {len(inputs)} images; "
            "make it faster, or raise `timeout_s`"
        )
        raise ExplainerFailing(msg, field="plan.explainers")
    if errors:
        if isinstance(errors[0], Exception):
            raise errors[0]
        # such as SystemExit, which must not end the worker
        msg = f"{contract.target} raised {type(errors[0]).__name__}; let it return maps"
        raise ExplainerFailing(msg, field="plan.explainers") from errors[0]
    return outcome[0]


def _as_maps(found: object, contract: CallableExplainer, inputs: Tensor) -> Tensor:
    """(N,C,H,W) on the device of the images."""
    if isinstance(found, np.ndarray):
        found = torch.from_numpy(np.ascontiguousarray(found))
    if not isinstance(found, Tensor):
        msg = f"{contract.target} must return a tensor or an array of maps, got {type(found).__name__}"
        raise ExplainerFailing(msg, field="plan.explainers")
    count, channels, height, width = inputs.shape
    allowed = {(count, height, width), (count, 1, height, width), (count, channels, height, width)}
    if tuple(found.shape) not in allowed or found.is_complex():
        msg = (
            f"{contract.target} must return maps (N,H,W), (N,1,H,W) or (N,{channels},H,W) with N={count}, H={height}, "
            f"W={width}, got {tuple(found.shape)} of {found.dtype}; enlarge smaller maps to the size of the image"
        )
        raise ExplainerFailing(msg, field="plan.explainers")
    maps = found.detach().to(inputs.device, torch.float32)
    return maps[:, None] if maps.ndim == 3 else maps  # noqa: PLR2004 - (N,H,W)


def incompatibility(classifier: Classifier, contract: CallableExplainer) -> str | None:
    """Why the function cannot be audited as declared, found by a trial on images of noise."""
    return trial(classifier, contract, lambda: _attempt(classifier, contract))


def _attempt(classifier: Classifier, contract: CallableExplainer) -> str | None:
    def attribute(batch: Batch) -> Tensor:
        return team_function(batch, contract).maps

    batch = trial_batch(classifier, TRIAL_IMAGES)
    found = oddity(batch, attribute, draws=contract.draws, batched=contract.batched)
    match found:
        case None if contract.draws and not torch.equal(attribute(batch), attribute(batch)):
            return (
                f"{contract.target} gave two different maps with the same state of the generators of torch, NumPy and "
                "Python; let it draw from one of these, not from a generator of its own"
            )
        case None:
            return None
        case "not_finite":
            return f"{contract.target} returned NaN or infinite values for an image of noise; return finite maps"
        case "differs":
            return (
                f"{contract.target} gave two different maps of the same image; set `draws` to true if it draws random "
                "numbers from torch, NumPy or Python"
            )
        case "mixes":
            return (
                f"the map of an image by {contract.target} depends on the other images of the batch; set `batched` to "
                "false, so that it gets one image at a time"
            )
