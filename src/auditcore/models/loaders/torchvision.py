"""Classifiers of `torchvision.models`; nothing is downloaded."""

from __future__ import annotations

import functools
from typing import Any

import torchvision
from torch import nn
from torchvision.models import GoogLeNet, Inception3

from auditcore.contracts.models import TorchvisionModel
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.errors import InvalidRequest, ModelNotLoadable
from auditcore.models.loaders.architecture import LoadedModel
from auditcore.models.loaders.suggestions import near
from auditcore.models.loaders.weights import WeightsSource

_RESCALING = {"googlenet", "inception_v3"}
"""These can rescale their input. They warn unless `init_weights` is given; PyTorch's own initial values are faster to
draw and as random."""


def load(reference: TorchvisionModel, source: WeightsSource) -> LoadedModel:
    """Build the named architecture and load its weights; without a given preprocessing, torchvision's own is used.

    Raises:
        InvalidRequest: torchvision has no classifier of that name, or it has no `transform_input`.
        ModelNotLoadable: It cannot be built with that number of classes, or the weights do not fit.
    """
    names = torchvision.models.list_models(module=torchvision.models)
    if reference.name not in names:
        msg = f"torchvision has no classifier {reference.name!r}{near(reference.name, names)}"
        raise InvalidRequest(msg, field="model.name")

    rescales = _rescales(reference)

    def construct(**options: Any) -> nn.Module:  # noqa: ANN401 - arguments of torchvision
        if reference.classes is not None:
            options["num_classes"] = reference.classes
        if reference.name in _RESCALING:
            options |= {"init_weights": False, "transform_input": rescales}
        try:
            module: nn.Module = torchvision.models.get_model(reference.name, weights=None, **options)
        except (TypeError, ValueError) as error:
            msg = f"torchvision cannot build {reference.name!r} with {options}: {error}"
            raise ModelNotLoadable(msg, field="model.classes") from error
        return module

    try:
        module, trained = source.build(construct, reference.weights)
    except ModelNotLoadable as with_branches:
        if reference.name not in _RESCALING:
            raise
        # torchvision drops the auxiliary branches of its own weights, so a state dict saved again may lack them
        try:
            module, trained = source.build(functools.partial(construct, aux_logits=False), reference.weights)
        except ModelNotLoadable:
            raise with_branches from None
    preprocessing = reference.preprocessing or own_preprocessing(reference.name, reference.weights.uri)
    return LoadedModel(
        module,
        preprocessing,
        reference.scores,
        trained,
        outputs=reference.outputs,
        notes=as_published(module, reference.transform_input) if trained else (),
    )


def own_preprocessing(name: str, uri: str) -> Preprocessing:
    """Return how torchvision feeds an architecture: with the transforms of its weights of that file name, or default.

    Args:
        name: Name of the architecture.
        uri: Place of the weights.

    Source: `torchvision.models.get_model_weights(name)`, member `DEFAULT`.
    """
    known = torchvision.models.get_model_weights(name)
    file = uri.rpartition("/")[2]
    weights = next((one for one in known if one.url.endswith(f"/{file}")), known.DEFAULT)
    transforms = weights.transforms()
    return Preprocessing(
        resize=transforms.resize_size[0],
        crop=transforms.crop_size[0],
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        interpolation=transforms.interpolation.value,
    )


def as_published(module: nn.Module, transform_input: bool | None) -> tuple[str, ...]:  # noqa: FBT001 - as declared
    """Let GoogLeNet or Inception with weights from a file rescale its input, unless the request says otherwise.

    torchvision sets `transform_input` when it loads its own weights, and a state dict does not tell.

    Returns:
        Notes for the readers of the report.
    """
    if not isinstance(module, (GoogLeNet, Inception3)):
        return ()
    module.transform_input = transform_input is not False
    if transform_input is not None:
        return ()
    note = (
        "the network rescales its input, as torchvision's published weights of this architecture need; for weights "
        "that were trained without, set `transform_input` to false"
    )
    return (note,)


def _rescales(reference: TorchvisionModel) -> bool:
    if reference.transform_input is not None and reference.name not in _RESCALING:
        msg = f"only {' and '.join(sorted(_RESCALING))} have `transform_input`; leave it out for {reference.name}"
        raise InvalidRequest(msg, field="model.transform_input")
    return reference.transform_input is True
