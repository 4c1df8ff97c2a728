"""Foreign code that makes maps: its own copy of the model, its random numbers, its errors, and a trial of it."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor, nn

from auditcore.contracts.explainers.explainer import ExplainerContract
from auditcore.contracts.explainers.foreign import ForeignExplainer, LibraryExplainer
from auditcore.devices.exhaustion import is_out_of_memory
from auditcore.errors import AuditcoreError, ExplainerFailing
from auditcore.explainers.attribution import Attribution, Batch, exactly
from auditcore.models.classifier import Classifier
from auditcore.models.foreign_code import copied, raised_by_a_signal
from auditcore.models.pass_ledger import PassLedger
from auditcore.random_numbers.streams import Streams

UNDEFINED_BELOW = 1e-12
"""Length of a map below which its direction is rounding."""

SAME = 1e-3
"""Largest difference of two maps that are the same up to rounding, as a share of the largest value. Gates of rectifiers
that stand at 0 open in one order of summation and stay shut in another."""

_LONGEST_REASON = 300
"""Characters of a foreign error that a reason repeats."""

_COPIES: WeakKeyDictionary[nn.Module, nn.Module] = WeakKeyDictionary()
"""Module of a classifier -> the copy that foreign code gets."""

_TRIALS: WeakKeyDictionary[PassLedger, dict[ExplainerContract, str | None]] = WeakKeyDictionary()
"""Ledger of a model and of its altered copies -> why each explainer cannot run on it, or None."""


def foreign_copy(classifier: Classifier) -> nn.Module:
    """The model in float32 for foreign code, made once: a copy, so that hooks and changed layers cannot stay in ours.

    It is laid out as torch does by default, and its parameters take gradients, as in the script of a team. Passes
    count in the classifier's ledger. A model behind a server has nothing to copy and is given as it is.
    """
    module = classifier.exact.module
    if classifier.source is not None:
        return module
    if module not in _COPIES:
        own = copied(module, shared=(classifier.ledger,))
        for value in (*own.parameters(), *own.buffers()):
            value.data = value.data.contiguous()
        _COPIES[module] = own.requires_grad_().eval()
    return _COPIES[module]


@contextmanager
def foreign_code(classifier: Classifier, *, name: str) -> Iterator[nn.Module]:
    """The model for foreign code, whose errors become one error of ours, and whose warnings are left out.

    Args:
        classifier: The model under audit.
        name: What runs, for the message.

    Raises:
        ExplainerFailing: The code raised an error other than one of ours, of exhausted memory or of a signal.
    """
    module = foreign_copy(classifier)
    before = _condition(module)
    try:
        with warnings.catch_warnings(), torch.inference_mode(mode=False), torch.enable_grad():
            # of deprecated calls and of hooks that are set; a reader of the report could do nothing about them
            warnings.simplefilter("ignore")
            yield module
    except AuditcoreError:
        _COPIES.pop(classifier.exact.module, None)
        raise
    # foreign code may raise anything
    except Exception as error:
        # it may have left hooks behind
        _COPIES.pop(classifier.exact.module, None)
        if is_out_of_memory(error) or raised_by_a_signal(error):
            raise
        msg = f"{name} failed: {_short(error)}"
        raise ExplainerFailing(msg, field="plan.explainers") from error
    for parameter in module.parameters():
        parameter.grad = None
    if _condition(module) != before:
        # what comes next, this code included, must get the model and not what was made of it
        _COPIES.pop(classifier.exact.module, None)


def _condition(module: nn.Module) -> list[object]:
    """What differs after hooks were left behind, or values, layers or the mode were changed."""
    hooks = [(id(layer), layer.training, *(len(getattr(layer, kind)) for kind in _HOOKS)) for layer in module.modules()]
    values = [(id(value), value.data_ptr(), value._version) for value in (*module.parameters(), *module.buffers())]  # noqa: SLF001 - counts changes in place
    return [*hooks, *values]


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _short(error: BaseException) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."


@contextmanager
def drawing_from(streams: Streams, position: int, purpose: str, device: torch.device) -> Iterator[None]:
    """Let the generators of torch, NumPy and Python begin with a number of one image's stream, and restore them.

    Args:
        streams: Of the images.
        position: Which image.
        purpose: What the numbers are for.
        device: Whose generator is meant besides the CPU's.
    """
    seed = int(streams.generator(position, purpose).integers(2**32))
    before_numpy, before_python = np.random.get_state(), random.getstate()  # noqa: NPY002 - foreign code draws from it
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the same
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(before_numpy)  # noqa: NPY002 - the same
            random.setstate(before_python)


Attribute = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(model, normalized images, targets) -> maps."""


def attributed(
    batch: Batch, contract: ForeignExplainer, attribute: Attribute, *, name: str, images_a_call: int | None = None
) -> Tensor:
    """Maps of a batch by foreign code.

    What draws random numbers runs image by image, with the generators of each image's own stream, so that its maps do
    not depend on the batch.

    Args:
        batch: The images.
        contract: Whether numbers are drawn, and its kind and name, which are part of the stream.
        attribute: The foreign code.
        name: What runs, for messages.
        images_a_call: Most images in one call; a micro-batch if None.

    Returns:
        (N,C,H,W), float32, detached.
    """
    source = exactly(batch)
    inputs = source.inputs.clone(memory_format=torch.contiguous_format)
    most = 1 if contract.stochastic else min(batch.micro_batch, images_a_call or batch.micro_batch)
    maps = [batch.pixels.new_empty(0, 1, *batch.pixels.shape[2:])]
    purpose = f"{contract.kind}/{contract.label}"
    for start in range(0, len(batch), most):
        rows = slice(start, start + most)
        with foreign_code(source.classifier, name=name) as module:
            given = inputs[rows].clone(), batch.targets[rows].clone()
            if contract.stochastic:
                with drawing_from(batch.streams, start, purpose, batch.pixels.device):
                    found = attribute(module, *given)
            else:
                found = attribute(module, *given)
        maps.append(found.detach().float().clone())
    return torch.cat(maps[1:] or maps)


def trial_batch(classifier: Classifier, images: int) -> Batch:
    """Images of noise for a trial, the same in every trial; each darker than the one before, so that scales differ."""
    streams = Streams(0, tuple(f"trial/{number}" for number in range(images)))
    pixels = streams.uniform(classifier.shape, "trial", device=classifier.device)
    pixels = pixels / torch.arange(1, images + 1, device=classifier.device).view(-1, 1, 1, 1)
    targets = torch.zeros(images, dtype=torch.long, device=classifier.device)
    return Batch(classifier, pixels, targets, streams, micro_batch=images, diagnostics=False)


Oddity = Literal["not_finite", "differs", "mixes"]
"""Values that are not finite; two maps of one image that differ; maps that depend on the other images of a batch."""


def oddity(batch: Batch, attribute: Callable[[Batch], Tensor], *, draws: bool, batched: bool) -> Oddity | None:
    """What is wrong with maps of a trial, as far as it is not declared.

    Args:
        batch: Images of a trial.
        attribute: Makes their maps.
        draws: Whether two maps of one image may differ.
        batched: Whether several images may be given at once, so that their maps must not depend on each other.
    """
    first = attribute(batch)
    if not first.isfinite().all():
        return "not_finite"
    if draws:
        return None
    if not same_maps(first, attribute(batch)):
        return "differs"
    if batched and not same_maps(first, torch.cat([attribute(one) for one in _one_by_one(batch)])):
        return "mixes"
    return None


def _one_by_one(batch: Batch) -> list[Batch]:
    return [
        replace(batch, pixels=batch.pixels[[row]], targets=batch.targets[[row]], streams=batch.streams.take([row]))
        for row in range(len(batch))
    ]


def same_maps(maps: Tensor, others: Tensor) -> bool:
    """Whether two results are the same up to rounding."""
    return bool((maps - others).abs().max() <= SAME * maps.abs().max())


def trial(classifier: Classifier, contract: ExplainerContract, attempt: Callable[[], str | None]) -> str | None:
    """Why foreign code cannot run on a model, found by an attempt that is made once for it and its altered copies.

    Passes of the attempt are not counted.

    Args:
        classifier: The model.
        contract: The explainer.
        attempt: Runs it on images of `trial_batch` and returns what is wrong, or None.
    """
    known = _TRIALS.setdefault(classifier.ledger, {})
    if contract not in known:
        with classifier.ledger.paused():
            try:
                known[contract] = attempt()
            except AuditcoreError as error:
                known[contract] = error.message
    return known[contract]


def beside_own(
    batch: Batch,
    contract: LibraryExplainer,
    attribute: Callable[[Batch, Any], Attribution],
    own: Callable[[Batch, Any], Attribution] | None,
) -> Attribution:
    """Maps of a library, and how close auditcore's own maps come to them.

    Args:
        batch: The images.
        contract: The library's method; `contract.counterpart` is ours.
        attribute: The library's method.
        own: Our method; None where it does not apply to the model.
    """
    found = attribute(batch, contract)
    counterpart = contract.counterpart
    if counterpart is None or not batch.diagnostics:
        return found
    if own is None:
        cosines = torch.full((len(batch),), torch.nan, device=batch.pixels.device)
    else:
        # `replace` forgets the passes that are known, so that the cost does not depend on other explainers
        ours = own(replace(exactly(batch), diagnostics=False), counterpart).maps
        cosines = cosine(found.maps, ours)
    return Attribution(found.maps, {"cosine_to_own": cosines})


def cosine(maps: Tensor, others: Tensor) -> Tensor:
    """Cosine of two maps of each image in [-1, 1], channels summed where their numbers differ; NaN if one is zero.

    Args:
        maps: (N,C,H,W).
        others: (N,D,H,W).
    """
    if maps.shape[1] != others.shape[1]:
        maps, others = maps.sum(1, keepdim=True), others.sum(1, keepdim=True)
    left, right = maps.double().flatten(1), others.double().flatten(1)
    lengths = torch.minimum(left.norm(dim=1), right.norm(dim=1))
    value = F.cosine_similarity(left, right, dim=1, eps=0.0).clamp(-1, 1)
    return torch.where(lengths > UNDEFINED_BELOW, value, torch.nan).float()
