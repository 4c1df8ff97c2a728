"""The first look at a model: whether it is a classifier, how many classes it has, and what its layers give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from auditcore.contracts.input_shape import InputShape
from auditcore.errors import InputError, ModelOutputInvalid, NonFiniteWeights
from auditcore.models.feature_maps import Layout, layers_run
from auditcore.models.sanity import invalid_output


class Probe(NamedTuple):
    """What one pass has shown of a model.

    Attributes:
        classes: Number of classes.
        layouts: Layers that give feature maps of more than one position, with how they lay them out, in the order in
            which they last ran.
    """

    classes: int
    layouts: Mapping[str, Layout]


def probe(module: nn.Module, *, shape: InputShape, device: torch.device) -> Probe:
    """Pass two mean-colored images through a model.

    Args:
        module: The model, in evaluation mode.
        shape: Channels, height and width of its input.
        device: Where it is.

    Raises:
        ModelOutputInvalid: The output is not a finite (N,classes) tensor with at least two classes.
    """
    example = torch.zeros(2, *shape, device=device)
    try:
        with torch.inference_mode(), layers_run(module, shape, images=len(example)) as ran:
            output = module(example.to(memory_format=torch.channels_last))
    except InputError:  # a server that fails, or that answers something else than it declared
        raise
    # the model is foreign code, so any exception may come out of it
    except Exception as error:
        msg = f"the model cannot process an input of shape {tuple(example.shape)}: {error}"
        raise ModelOutputInvalid(msg, field="model.preprocessing.crop") from error
    if not isinstance(output, Tensor):
        msg = f"the model must return one tensor of logits, got {type(output).__name__}"
        raise ModelOutputInvalid(msg, field="model")
    if output.ndim != 2 or len(output) != 2 or output.shape[1] < 2:  # noqa: PLR2004 - (N, classes), N = 2
        msg = (
            f"the model must return (N, classes) logits with at least 2 classes; "
            f"for 2 images it returned shape {tuple(output.shape)}"
        )
        raise ModelOutputInvalid(msg, field="model")
    if not output.isfinite().all():
        raise invalid_output()
    return Probe(output.shape[1], {name: layout for name, layout in ran.items() if layout is not None})


def refuse_non_finite_weights(module: nn.Module) -> None:
    """Check all parameters and buffers.

    Raises:
        NonFiniteWeights: One holds NaN or infinite values.
    """
    for name, value in module.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            msg = f"weight {name!r} holds NaN or infinite values; export the model again"
            raise NonFiniteWeights(msg, field="model.weights")
