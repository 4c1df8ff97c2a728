"""Cascading randomization: a model that forgets what it learned, from the logits down.

Source: Adebayo et al. 2018.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from auditcore.counts.stages import cascade_stages
from auditcore.models.classifier import Classifier

_GLOBAL_GENERATOR = threading.Lock()
"""`reset_parameters` draws from torch's global generator, which audits in other threads must not use meanwhile."""


class Stage(NamedTuple):
    """One step of the cascade.

    Attributes:
        share: Share of the layers that are random, in (0, 1].
        classifier: The model with those layers random; its passes count in the ledger of the trained one.
    """

    share: float
    classifier: Classifier


def cascade(classifier: Classifier, *, seed: int, stages: int | None) -> Iterator[Stage]:
    """Randomize the layers of a classifier, cumulatively, the one nearest to the logits first.

    A layer's new values follow from the seed, the model's digest and the layer's name alone, so that every image,
    shard and explainer meets the same random models, on every device.

    Args:
        classifier: The trained model, which stays as it is.
        seed: The plan's seed.
        stages: Groups of layers of equal size; one per layer if None or if there are fewer layers.
    """
    layers = parameter_layers(classifier)[::-1]
    count = cascade_stages(stages, len(layers))
    current, done = classifier, 0
    for stage in range(1, count + 1):
        end = stage * len(layers) // count
        paths = [path for layer in layers[done:end] for path in layer]

        def randomize(module: nn.Module, paths: list[str] = paths) -> None:
            for path in paths:
                _randomize(module.get_submodule(path), _seed(seed, classifier.digest, path))

        digest = hashlib.sha256(f"{classifier.digest}\0{seed}\0{end}".encode()).hexdigest()
        # from stage to stage, so that besides the trained model two are in memory at most
        current, done = current.altered(randomize, digest=f"sha256:{digest}"), end
        yield Stage(share=end / len(layers), classifier=current)


def parameter_layers(classifier: Classifier) -> list[list[str]]:
    """Layers with parameters of their own, in the order in which they begin to run; each as the paths it consists of.

    A module that is never called, such as the output projection of `nn.MultiheadAttention`, belongs to the nearest
    module around it that is: that one computes with its parameters.
    """
    ran: dict[str, None] = {}

    def record(name: str) -> None:
        ran.pop(name, None)  # a layer that runs twice counts where it ran last, nearest to the logits
        ran[name] = None

    module = classifier.module
    handles = [
        part.register_forward_pre_hook(lambda _part, _inputs, name=name: record(name))
        for name, part in module.named_modules()
    ]
    try:
        with torch.inference_mode(), classifier.ledger.paused():
            module(classifier.normalize(classifier.mean.expand(1, -1, classifier.size, classifier.size)))
    finally:
        for handle in handles:
            handle.remove()
    layers: dict[str, list[str]] = {}
    for name, part in module.named_modules():
        if _own_parameters(part):
            around = name
            while around not in ran:
                around = around.rpartition(".")[0]
            layers.setdefault(around, []).append(name)
    return [layers[name] for name in ran if name in layers]


def _own_parameters(module: nn.Module) -> list[nn.Parameter]:
    return list(module.parameters(recurse=False))


def _randomize(layer: nn.Module, seed: int) -> None:
    """Initialize a layer as before training; parameters that it does not initialize itself are permuted.

    `reset_parameters` of batch normalization also forgets the running statistics.
    """
    parameters = _own_parameters(layer)
    device = parameters[0].device
    # on the CPU: the generators of accelerators give other numbers
    layer.cpu()
    parameters = _own_parameters(layer)
    learned = [parameter.detach().clone() for parameter in parameters]
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        reset = getattr(layer, "reset_parameters", None)
        if callable(reset):
            reset()
        for parameter, values in zip(parameters, learned, strict=True):
            if torch.equal(parameter, values):
                parameter.copy_(_permuted(values))
    layer.to(device)


def _permuted(values: Tensor) -> Tensor:
    return values.flatten()[torch.randperm(values.numel())].view(values.shape)


def _seed(seed: int, digest: str, path: str) -> int:
    """Seed of one layer: 63 bits of a hash."""
    name = f"{seed}\0{digest}\0{path}".encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "little") >> 1
