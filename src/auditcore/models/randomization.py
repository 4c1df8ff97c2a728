"""Cascading randomization: layers of a model are randomized step by step, starting at the logits.

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
"""`reset_parameters` draws from torch's global generator, which audits in other threads must not use at that time."""


class Stage(NamedTuple):
    """One step of the cascade.

    Attributes:
        share: Share of the layers that are randomized, in (0, 1].
        classifier: The model with those layers randomized; its passes count in the ledger of the trained model.
    """

    share: float
    classifier: Classifier


def cascade(classifier: Classifier, *, seed: int, stages: int | None) -> Iterator[Stage]:
    """Randomize the layers of a classifier cumulatively, the one nearest to the logits first.

    A layer's new values depend only on the seed, the model's digest and the layer's name. Every image, shard and
    explainer therefore gets the same random models, on every device.

    Args:
        classifier: The trained model, which is not changed.
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
        # each stage starts from the one before, so at most two models besides the trained one are in memory
        current, done = current.altered(randomize, digest=f"sha256:{digest}"), end
        yield Stage(share=end / len(layers), classifier=current)


def parameter_layers(classifier: Classifier) -> list[list[str]]:
    """Return the layers that have parameters of their own, in execution order; each as a list of module paths.

    A module that is never called, such as the output projection of `nn.MultiheadAttention`, belongs to the nearest
    enclosing module that is called, because that module computes with its parameters.
    """
    ran: dict[str, None] = {}

    def record(name: str) -> None:
        ran.pop(name, None)  # a layer that runs twice is placed at its last run, nearest to the logits
        ran[name] = None

    module = classifier.module
    handles = [
        part.register_forward_pre_hook(lambda _part, _inputs, name=name: record(name))
        for name, part in module.named_modules()
    ]
    try:
        with torch.inference_mode(), classifier.ledger.paused():
            module(classifier.normalize(classifier.mean.expand(1, *classifier.shape)))
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
    """Initialize a layer as before training; parameters without an initializer are permuted.

    `reset_parameters` of batch normalization also resets the running statistics.
    """
    parameters = _own_parameters(layer)
    device = parameters[0].device
    # on the CPU, because the generators of accelerators draw different numbers
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
    """Return the seed of one layer: 63 bits of a hash."""
    name = f"{seed}\0{digest}\0{path}".encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "little") >> 1
