"""The first look at a model: whether it is a classifier, how it wants to be called, and what its layers give."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor, nn

from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.models import Scores
from auditcore.contracts.outputs import Outputs, Select
from auditcore.devices.exhaustion import EXHAUSTED, is_out_of_memory
from auditcore.errors import InputError, MemoryExhausted, ModelOutputInvalid, NonFiniteWeights
from auditcore.models.adapted import Adapted, Habits, find_entry, selected
from auditcore.models.black_box import BlackBox
from auditcore.models.canonical import laid_out
from auditcore.models.feature_maps import Layout, layers_run
from auditcore.models.foreign_code import raised_by_a_signal, said
from auditcore.models.logits import refuse_probabilities, require_declared, to_logits
from auditcore.models.sanity import invalid_output, is_invalid

Quiet = Callable[[], AbstractContextManager[Any]]
"""`torch.inference_mode`, or `torch.no_grad` for models that keep tensors of one pass for later ones."""

IMAGES = 3
"""Images of the probe. They pass two at once, three at once, and one by itself."""

NEGLIGIBLE = 1e-6
"""A difference of logits that moves no probability by more; logits near 0 consist of rounding."""

SAME = 1e-3
"""Largest difference between two answers to the same image that counts as rounding, as a share of the largest logit.
Other kernels for other batch sizes cause less than 1e-5 on a CPU; dropout and batch statistics cause more than 1e-2."""

ROUNDING = 1e-2
"""Share of that which other kernels for the same image can cause on a CPU, as when a program optimizes itself."""

_KEEPING = (
    *("View", "UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "Select", "Slice", "Clone", "Alias", "Expand"),
    *("Permute", "TBackward", "Transpose", "ToCopy", "Clamp", "NanToNum"),
)
"""Beginnings of the names of autograd nodes that only move, round or limit values."""


@final
@dataclass(frozen=True)
class Probe:
    """What a few passes have shown of a model.

    Attributes:
        module: Normalized images to logits: the model itself, or a view of it.
        habits: How the model wants to be called; None for a black box.
        classes: Number of classes.
        layouts: Layers that give feature maps of more than one position, with how they lay them out, in the order in
            which they last ran.
        memory_format: Layout in memory in which its images and kernels are.
        no_gradients: Why it has no gradients by its input; None if it has.
        keeps_tensors: Whether it keeps tensors of a pass in inference mode, so that it is spoiled for gradients.
        one_color: Whether an image of one color gives logits.
        notes: What a reader of the report should know.
    """

    module: nn.Module
    habits: Habits | None
    classes: int
    layouts: Mapping[str, Layout]
    memory_format: torch.memory_format = torch.channels_last
    no_gradients: str | None = None
    keeps_tensors: bool = False
    one_color: bool = True
    notes: tuple[str, ...] = ()


def probe_black_box(module: BlackBox, inputs: Tensor) -> Probe:
    """Pass two images through a model that gives only predictions, and again if it cannot change meanwhile.

    The answers of a server are compared again and again during an audit.

    Args:
        module: The model.
        inputs: Normalized images of the probe.

    Raises:
        ModelOutputInvalid: The output is not an (N,classes) tensor of class scores, or the answers to the same image
            differ.
        InputError: A server fails.
    """
    logits = _ran(module, inputs[:2])
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 2 or logits.shape[1] < 2:  # noqa: PLR2004
        raise _misshapen(logits, images=2)
    if is_invalid(logits):
        raise invalid_output()
    if module.source.probe is None:
        for why, images in (("the same image twice", 2), ("an image in another batch", 3), ("an image by itself", 1)):
            again = _ran(module, inputs[:images])[:2]
            _require_same(again, logits[: len(again)], why=why, module=module, buffers={})
    habits = Habits(module.outputs, module.scores, module.columns)
    return Probe(module, None, logits.shape[1], {}, notes=_notes_on_outputs(habits, logits))


def probe(
    module: nn.Module,
    inputs: Tensor,
    *,
    shape: InputShape,
    outputs: Outputs,
    scores: Scores,
    select: Select | None,
    quiet: Quiet,
) -> Probe:
    """Pass a few images through a model, alone and in company, and one of them backward.

    Args:
        module: The model, in evaluation mode; its kernels are left in the memory format that is reported.
        inputs: `IMAGES` normalized images with texture.
        shape: Channels, height and width of its input.
        outputs: What the model is declared to return.
        scores: How logits become probabilities.
        select: Entry of what it returns that holds the class scores, if declared.
        quiet: Context of passes without gradients.

    Raises:
        MemoryExhausted: Memory ran out for a single image.
        ModelOutputInvalid: It is not a classifier of such images, its answers to the same image differ, or its outputs
            are not what they are declared to be; the message says which and how to change that.
    """
    buffers = {name: value.clone() for name, value in module.named_buffers()}
    habits, expected = _found_habits(module, inputs, outputs=outputs, scores=scores, select=select)
    if is_invalid(expected):
        raise invalid_output(on="textured probe images")
    view = module if habits.plain else Adapted(module, habits)
    view, habits, alone = _with_single_images(module, view, habits, inputs)
    repeated = _ran(view, inputs[:1])
    if repeated.data_ptr() == alone.data_ptr():
        msg = (
            "the model returns the same memory in every pass, so that a pass overwrites the answer of the one before; "
            "return a tensor of its own, such as with .clone()"
        )
        raise ModelOutputInvalid(msg, field="model")
    memory_format, layouts, again = _in_channels_last(view, inputs[:2], expected, shape)
    _require_same(again, expected, why="the same image twice", module=module, buffers=buffers)
    if habits.batches != "single":
        view, habits, three = _with_odd_batches(module, view, habits, inputs)
        if three is not None:
            _require_same(three[:2], expected, why="an image in another batch", module=module, buffers=buffers)
    _require_same(alone, expected[:1], why="an image by itself and in a batch", module=module, buffers=buffers)
    gray = _ran_or_none(view, torch.zeros_like(inputs[:1]), quiet)
    no_gradients, keeps_tensors, node = _backward(view, inputs[:1].contiguous(memory_format=memory_format))
    notes = _notes(habits, expected, gray)
    noise = _difference(repeated, alone)
    if inputs.device.type == "cpu" and noise > _tolerance(alone) * ROUNDING:
        said_of_noise = (
            f"the same image twice gives logits that differ by {noise:.2g}, so no number can be repeated exactly; the "
            "model may add noise or draw random numbers"
        )
        notes = (*notes, said_of_noise)
    if outputs == "logits" and node is not None:
        binary = habits.columns == 1
        refuse_probabilities(_last_operation(node, binary=binary), scores, binary=binary)
    return Probe(
        module=view,
        habits=habits,
        classes=expected.shape[1],
        layouts=layouts,
        memory_format=memory_format,
        no_gradients=no_gradients,
        keeps_tensors=keeps_tensors,
        one_color=gray is not None and not is_invalid(gray),
        notes=notes,
    )


def refuse_non_finite_weights(module: nn.Module) -> None:
    """Check all parameters and buffers.

    Raises:
        NonFiniteWeights: One holds NaN or infinite values; -inf is allowed in buffers.
    """
    buffers = dict(module.named_buffers())
    for name, value in module.state_dict().items():
        # buffers may mask attention or classes with -inf
        allowed = value.isfinite() | (value == float("-inf")) if name in buffers else value.isfinite()
        if value.is_floating_point() and not allowed.all():
            msg = f"weight {name!r} holds NaN or infinite values; export the model again"
            raise NonFiniteWeights(msg, field="model.weights")


def _found_habits(
    module: nn.Module, inputs: Tensor, *, outputs: Outputs, scores: Scores, select: Select | None
) -> tuple[Habits, Tensor]:
    """Return how a model wants to be called, except for single images, and its logits of two images."""
    first_error: InputError | None = None
    for images, tracked in ((2, False), (1, False), (2, True)):
        if tracked and not _wants_gradients(first_error):
            break
        given = inputs[:images].clone()
        try:
            returned = _ran(module, given.requires_grad_(tracked))
            entry = find_entry(returned, select)
            rows = _rows(selected(returned, entry), images).detach()
        except InputError as error:
            # some models take only one image at once; for all others, the error of two images says more
            first_error = first_error or error
            continue
        require_declared(rows, outputs=outputs, scores=scores)
        habits = Habits(
            outputs=outputs,
            scores=scores,
            columns=rows.shape[1],
            select=entry,
            copies_input=not torch.equal(given, inputs[:images]),
            batches="any" if images > 1 else "single",
            reshapes=rows.shape != selected(returned, entry).shape,
            tracks_gradients=tracked,
            converts=rows.dtype != torch.float32,
        )
        if images > 1:
            return habits, to_logits(rows.float(), outputs=outputs, scores=scores, columns=habits.columns)
        return habits, _ran(Adapted(module, habits), inputs[:2])
    assert first_error is not None  # noqa: S101 - both attempts failed
    raise first_error


def _ran(module: nn.Module, inputs: Tensor) -> Any:  # noqa: ANN401 - whatever a foreign model returns
    """What a model returns for images; gradients are tracked only if the images require them."""
    try:
        with torch.set_grad_enabled(inputs.requires_grad), warnings.catch_warnings():
            # a model that warns, such as of old functions of PyTorch, runs
            warnings.simplefilter("ignore")
            return module(inputs)
    except InputError:  # a server that fails, or that answers something else than it declared
        raise
    # the model is foreign code, so any exception may come out of it, also the one that ends a script
    except (Exception, SystemExit) as error:
        if raised_by_a_signal(error):
            raise
        if is_out_of_memory(error):
            raise MemoryExhausted(EXHAUSTED, field="model") from error
        advice, field = _advice(error)
        msg = f"the model cannot process an input of shape {tuple(inputs.shape)} ({said(error)}); {advice}"
        raise ModelOutputInvalid(msg, field=field) from error


def _advice(error: BaseException) -> tuple[str, str]:
    """How to fix a pass that failed, and the field of the request that it is about."""
    text = str(error)
    if isinstance(error, TypeError) and ("positional argument" in text or "keyword-only argument" in text):
        return "wrap the model so that its forward takes one tensor of images (N, C, H, W) and nothing else", "model"
    if "NVIDIA driver" in text or "not compiled with CUDA" in text:
        return "its code asks for a GPU, and there is none here; use the device of the input, `x.device`", "model"
    return (
        "check size and channels of `preprocessing`; if the model takes anything but one float32 tensor (N, C, H, W), "
        "normalized as `preprocessing` says, wrap it so that it does"
    ), "model.preprocessing"


def _wants_gradients(error: InputError | None) -> bool:
    """Whether a model failed because it asks for gradients of its feature maps where none are tracked."""
    text = str(error.__cause__) if error is not None else ""
    return "require" in text and "grad" in text


def _ran_within_memory(module: nn.Module, inputs: Tensor) -> Any | None:  # noqa: ANN401 - whatever a foreign model returns
    """The same; None if there is no memory for so many images, since an audit passes fewer at once."""
    try:
        return _ran(module, inputs)
    except MemoryExhausted:
        return None


def _rows(returned: Tensor, images: int) -> Tensor:
    """Return one row of columns per image: further axes of length one are removed."""
    if not returned.is_floating_point() or returned.numel() == 0:
        raise _misshapen(returned, images=images)
    if images == 1 and returned.ndim < 2:  # noqa: PLR2004 - a model that only takes one image returns (1, columns)
        raise _misshapen(returned, images=images)
    if returned.ndim == 0 or len(returned) != images or any(length != 1 for length in returned.shape[2:]):
        raise _misshapen(returned, images=images)
    return returned.reshape(images, -1)


def _misshapen(returned: object, *, images: int) -> ModelOutputInvalid:
    what = f"shape {tuple(returned.shape)}" if isinstance(returned, Tensor) else f"a {type(returned).__name__}"
    kind = f" of {returned.dtype}" if isinstance(returned, Tensor) and not returned.is_floating_point() else ""
    msg = f"the model must return (N, classes) class scores; for {images} images it returned {what}{kind}"
    return ModelOutputInvalid(msg, field="model")


def _with_single_images(
    module: nn.Module, view: nn.Module, habits: Habits, inputs: Tensor
) -> tuple[nn.Module, Habits, Tensor]:
    """Return the view that also takes one image, its habits, and its logits of one image."""
    if habits.batches == "any":
        try:
            given = inputs[:1].clone().requires_grad_(habits.tracks_gradients)
            alone = selected(_ran(module, given), habits.select)
            fits = isinstance(alone, Tensor) and alone.numel() == habits.columns
            lost = fits and alone.shape != (1, habits.columns)
        except (InputError, KeyError, IndexError, AttributeError, TypeError):
            fits, lost = False, False
        if not fits:
            habits = replace(habits, batches="several")
        elif lost:
            habits = replace(habits, reshapes=True)
        if not fits or lost:
            view = Adapted(module, habits)
    return view, habits, _ran(view, inputs[:1])


def _with_odd_batches(
    module: nn.Module, view: nn.Module, habits: Habits, inputs: Tensor
) -> tuple[nn.Module, Habits, Tensor | None]:
    """Return the view that also takes three images, its habits, and its logits of three, if there is memory for them.

    Raises:
        ModelOutputInvalid: The model takes two images, and neither three nor four.
    """
    try:
        return view, habits, _ran_within_memory(view, inputs[:IMAGES])
    except ModelOutputInvalid as error:
        habits = replace(habits, batches="even")
        view = Adapted(module, habits)
        try:
            return view, habits, _ran_within_memory(view, inputs[:IMAGES])
        except ModelOutputInvalid:
            cause = said(error.__cause__) if error.__cause__ is not None else error.message
            msg = (
                f"the model takes two images at once, but neither three nor four ({cause}); export or write it for "
                "batches of any size, such as with x.shape[0] in place of a number"
            )
            raise ModelOutputInvalid(msg, field="model") from error


def _in_channels_last(
    view: nn.Module, inputs: Tensor, expected: Tensor, shape: InputShape
) -> tuple[torch.memory_format, Mapping[str, Layout], Tensor]:
    """Return the fastest memory format in which a model gives the same logits, its layers, and the logits."""
    for memory_format in (torch.channels_last, torch.contiguous_format):
        laid_out(view, memory_format)
        try:
            with layers_run(view, shape, images=len(inputs)) as ran:
                logits = _ran(view, inputs.contiguous(memory_format=memory_format))
        except (ModelOutputInvalid, MemoryExhausted):
            if memory_format is torch.contiguous_format:
                raise
            continue
        if memory_format is torch.contiguous_format or _difference(logits, expected) <= _tolerance(expected):
            break
    return memory_format, {name: layout for name, layout in ran.items() if layout is not None}, logits


def _difference(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        return float("inf")
    # masked classes are -inf in both
    return float((found - expected).masked_fill(found == expected, 0).abs().amax())


def _tolerance(expected: Tensor) -> float:
    finite = expected.masked_fill(~expected.isfinite(), 0)
    rounding = SAME if expected.device.type == "cpu" else 10 * SAME  # accelerators multiply with fewer digits
    return rounding * float(finite.abs().amax()) + NEGLIGIBLE


def _require_same(
    found: Tensor, expected: Tensor, *, why: str, module: nn.Module, buffers: Mapping[str, Tensor]
) -> None:
    """Refuse a model whose answers to one image differ.

    Raises:
        ModelOutputInvalid: They differ; the message names the likely cause.
    """
    worst = _difference(found, expected)
    if worst <= _tolerance(expected):
        return
    changed = [
        name for name, value in module.named_buffers() if name in buffers and not torch.equal(value, buffers[name])
    ]
    layers = list(module.named_modules())
    by_batch = [
        name
        for name, layer in layers
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is None  # noqa: SLF001
    ]
    if changed:
        cause = f"its buffer {changed[0]!r} changes in every pass; a forward must not change state in evaluation"
    elif by_batch:
        cause = f"layer {by_batch[0]!r} has no running statistics (track_running_stats=False) and uses those of a batch"
    elif isinstance(module, BlackBox):
        cause = "it was exported in training mode, or mixes its images; export it after `model.eval()`"
    elif why == "the same image twice":
        cause = (
            "dropout or augmentation is random in evaluation, such as F.dropout(x) without training=self.training; "
            "switch it off"
        )
    else:
        cause = "it uses statistics of the batch, or mixes its images; compute each image by itself"
    msg = (
        f"the model is not deterministic: for {why}, a logit differs by {worst:.2g}, so no score could be "
        f"repeated. Likely cause: {cause}"
    )
    raise ModelOutputInvalid(msg, field="model")


def _ran_or_none(view: nn.Module, inputs: Tensor, quiet: Quiet) -> Tensor | None:
    try:
        with quiet():
            logits: Tensor = view(inputs)
    # foreign code; what it cannot do with this image is reported, not an error
    except Exception as error:
        if raised_by_a_signal(error):
            raise
        return None
    return logits


def _backward(view: nn.Module, image: Tensor) -> tuple[str | None, bool, Any]:
    """Pass one image forward and backward.

    Returns:
        Why there are no gradients, if so; whether the model keeps tensors of inference mode; and the autograd node of
        what the model returned, if there is one.
    """
    node: Any = None
    leaf = image.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    try:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logits = view(leaf)
            node = logits.grad_fn
            start = torch.zeros_like(logits).scatter_(1, logits.detach().argmax(dim=1, keepdim=True), 1.0)
            torch.autograd.grad(logits, leaf, start)
    # the model is foreign code, and so are its functions of autograd
    except Exception as error:
        if raised_by_a_signal(error):
            raise
        return said(error), "nference tensor" in str(error), node
    return None, False, node


def _last_operation(node: Any, *, binary: bool) -> str:  # noqa: ANN401 - autograd has no types
    """Name of the last operation that computes values, in lower case; empty if there is none.

    Args:
        node: Autograd node of the logits.
        binary: Whether the model returns one column, of which two logits were made.
    """
    passed = (*_KEEPING, "Cat", "Neg", "Div") if binary else _KEEPING
    while node is not None and node.name().startswith(passed):
        node = node.next_functions[0][0] if node.next_functions else None
    return "" if node is None else node.name().removesuffix("Backward0").lower()


def _notes_on_outputs(habits: Habits, logits: Tensor) -> tuple[str, ...]:
    notes = []
    if habits.columns == 1:
        notes.append(
            "the model returns one value, read as a binary classifier: class 1 is the positive class, class 0 the other"
        )
    # of one column z, the logits are (-z, z), or half of it for softmax
    returned = logits[:, 1:] * (1 if habits.scores == "sigmoid" else 2) if habits.columns == 1 else logits
    alone = habits.columns == 1 or habits.scores == "sigmoid"
    if habits.outputs == "logits" and alone and returned.min() >= 0 and returned.max() <= 1:
        notes.append(
            "the outputs are declared as logits, and all of those tried are between 0 and 1; if they are "
            "probabilities, set `outputs` to `probabilities`"
        )
    return tuple(notes)


def _notes(habits: Habits, logits: Tensor, gray: Tensor | None) -> tuple[str, ...]:
    notes = [*_notes_on_outputs(habits, logits)]
    masked = int((logits == float("-inf")).all(dim=0).sum())
    if masked:
        notes.append(f"the model masks {masked} of its classes (logit -inf), so their probability is 0")
    if gray is None or is_invalid(gray):
        notes.append(
            "the model gives no valid logits for an image of one color, as one that divides by each image's own "
            "standard deviation; methods and checks that make such images may fail"
        )
    if habits.batches == "single":
        notes.append("the model takes one image at once, so passes run image by image")
    elif habits.batches == "even":
        notes.append("the model takes only an even number of images, so the last one of an odd number passes twice")
    elif habits.batches == "several":
        notes.append("the model does not take a batch of one image, so such an image passes twice")
    return tuple(notes)
