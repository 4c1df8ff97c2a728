"""Methods of captum, run as they are."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor, nn

from auditcore.contracts.explainers import Captum, GradCam
from auditcore.contracts.explainers.argument_forms import Form, ImageList, rows_of, shape_of
from auditcore.contracts.explainers.captum import tunneled
from auditcore.explainers import cam
from auditcore.explainers.attribution import Attribution, Batch
from auditcore.explainers.foreign import attributed, trial, trial_batch
from auditcore.models.classifier import Classifier
from auditcore.models.feature_maps import as_maps

_CHANNELS_AT_1 = frozenset({"LayerGradCam", "GuidedGradCam"})
"""Methods that take axis 1 of a layer's output for its channels."""

_NAMES_OF_PATH = frozenset({"IntegratedGradients", "LayerIntegratedGradients"})
"""Methods that cut the points of the path of a batch into parts of `internal_batch_size`, whatever the result."""


def captum_method(batch: Batch, contract: Captum) -> Attribution:
    """Maps by a method of captum with its defaults.

    Returns:
        (N,C,H,W) in the method's own channels; (N,1,H,W) for methods of a layer.

    Raises:
        ExplainerFailing: captum failed.

    Source: Kokhlikyan et al. 2020; captum's own code.
    """
    layer = layer_name(batch.classifier, contract)

    def attribute(module: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        return _attribute(batch, contract, layer, module, inputs, targets)

    name, default = contract.known.steps or ("", 1)
    steps = contract.arguments.get(name, default)
    images = max(1, batch.micro_batch // (steps if isinstance(steps, int) else 1))
    return Attribution(attributed(batch, contract, attribute, name=f"captum's {contract.method}", images_a_call=images))


def _attribute(
    batch: Batch, contract: Captum, layer: str | None, module: nn.Module, inputs: Tensor, targets: Tensor
) -> Tensor:
    """One call of captum."""
    arguments = {name: _value(name, value, contract.forms[name], inputs) for name, value in contract.arguments.items()}
    mode = arguments.pop("interpolate_mode", "nearest")
    inner = method_classes()[tunneled(contract.arguments)](module) if contract.method == "NoiseTunnel" else module
    arguments.pop("attribution_method", None)
    kind = method_classes()[contract.method]
    built = {name: arguments.pop(name) for name in list(arguments) if name in inspect.signature(kind).parameters}
    if layer is not None:
        built["layer"] = module.get_submodule(layer)
    if contract.method == "GuidedGradCam":
        arguments["interpolate_mode"] = mode
    if contract.method in _NAMES_OF_PATH:
        arguments["internal_batch_size"] = max(batch.micro_batch, len(inputs))
    if contract.known.perturbs:
        arguments["perturbations_per_eval"] = max(1, batch.micro_batch // len(inputs))
    if contract.method != "LayerActivation":  # the only one that explains no class
        arguments["target"] = targets
    found: Tensor = kind(inner, **built).attribute(inputs, **arguments)
    if not contract.method.startswith("Layer") and contract.method != "InternalInfluence":
        return found
    layout = batch.classifier.layouts[cast("str", layer)]
    maps = found if contract.method in _CHANNELS_AT_1 else as_maps(found, layout, batch.classifier.shape)
    # what captum's own interpolation of a layer's attribution does
    return F.interpolate(maps.sum(1, keepdim=True), size=tuple(inputs.shape[2:]), mode=mode)


@functools.cache
def method_classes() -> Mapping[str, Any]:
    """Class of captum by name."""
    import captum.attr  # noqa: PLC0415 - takes 0.8 s, which most audits do not need

    return {
        name: kind for name, kind in vars(captum.attr).items() if inspect.isclass(kind) and hasattr(kind, "attribute")
    }


def _value(name: str, value: object, form: Form, inputs: Tensor) -> Any:  # noqa: ANN401 - as captum takes it
    """An argument from JSON as captum takes it."""
    match name:
        case "baselines" if isinstance(form, ImageList):
            return torch.stack([_image(each, inputs) for each in cast("list[object]", value)])
        case "baselines" if isinstance(value, list):
            return _image(value, inputs)[None]
        case "feature_mask":
            return _mask(rows_of(value), inputs)
        case "sliding_window_shapes" | "strides" if isinstance(value, list):
            return tuple(value)
        case _:
            return value


def _image(value: object, inputs: Tensor) -> Tensor:
    """One image from a number, a list per channel, or lists (C,H,W)."""
    values = torch.tensor(value, dtype=inputs.dtype, device=inputs.device)
    if values.ndim == 1:
        values = values[:, None, None]
    return values.expand(inputs.shape[1:]).contiguous()


def _mask(rows: Sequence[Sequence[int]], inputs: Tensor) -> Tensor:
    """Number of each pixel's cell, (1,1,H,W)."""
    grid = torch.tensor(rows, device=inputs.device)
    height, width = inputs.shape[2:]
    down = torch.arange(height, device=inputs.device) * grid.shape[0] // height
    right = torch.arange(width, device=inputs.device) * grid.shape[1] // width
    return grid[down][:, right][None, None]


def layer_name(classifier: Classifier, contract: Captum) -> str | None:
    """Path of the layer that a method works on; None if it works on none."""
    return cam.layer_name(classifier, GradCam(layer=contract.layer)) if contract.known.takes_layer else None


def incompatibility(classifier: Classifier, contract: Captum) -> str | None:
    """Why captum cannot run here: a layer or an image does not fit, or captum fails on an image of noise."""
    reason = _misfit(classifier, contract)
    if reason is not None or "gradient" not in contract.needs_of_model:
        # what only passes changed images cannot fail on a model that gives predictions
        return reason
    return trial(classifier, contract, lambda: _attempt(classifier, contract))


def _attempt(classifier: Classifier, contract: Captum) -> str | None:
    batch = trial_batch(classifier, 1)
    found = captum_method(batch, contract).maps
    if found.shape[2:] != batch.pixels.shape[2:]:
        return f"captum's {contract.method} gives values of shape {tuple(found.shape)}, which are no map of the image"
    return None


def _misfit(classifier: Classifier, contract: Captum) -> str | None:
    """What of the arguments does not fit the model."""
    name = layer_name(classifier, contract)
    if contract.known.takes_layer:
        reason = cam.incompatibility(classifier, GradCam(layer=contract.layer))
        if reason is not None:
            return reason
        if contract.method in _CHANNELS_AT_1 and classifier.layouts[name or ""] != "channels_first":
            return (
                f"captum's {contract.method} takes axis 1 for channels, but layer {name!r} has its positions there; "
                "name a layer with channels first, or use kind `grad_cam`"
            )
    shape = tuple(trial_batch(classifier, 1).pixels.shape[1:])
    given = contract.arguments.get("baselines")
    several = isinstance(given, list) and isinstance(contract.forms["baselines"], ImageList)
    images = cast("list[object]", given) if several else [given]
    for image in images:
        found = shape_of(image) or ()
        if found and found not in {shape, shape[:1]}:
            return f"`baselines` has shape {found}, but the input of the model has (C,H,W) = {shape}"
    window = contract.arguments.get("sliding_window_shapes")
    if isinstance(window, list) and any(
        int(cast("int", side)) > most for side, most in zip(window, shape, strict=True)
    ):
        return f"a window of {window} does not fit the input of the model, (C,H,W) = {shape}"
    grid = shape_of(contract.arguments.get("feature_mask")) or ()
    if grid and (grid[0] > shape[1] or grid[1] > shape[2]):
        return f"`feature_mask` has {grid[0]} x {grid[1]} cells, more than the model's input has pixels"
    return None
