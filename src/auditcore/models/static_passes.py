"""Passes of one fixed size, recorded once as CUDA graphs and replayed: the host asks once for a whole pass.

A pass of resnet50 is some hundred kernels, and an explainer's gradient three times as many. Launched one by one they
keep the host busy as long as the device; replayed they cost one call. What is recorded may be compiled as well, so that
kernels are fewer. Hooks have no effect inside: methods that read layers run the model as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from auditcore.contracts.shards import Way
from auditcore.models.target_gradient import target_gradient

WARM_UPS = 3
"""Passes before recording, as torch asks for: libraries set themselves up and kernels are chosen."""

LEAST_SHARE: Mapping[Way, float] = {"graphs": 0.98, "compiled": 0.6}
"""A batch of a smaller share of the fixed size runs as it is: the padding would cost more than the way saves."""

Results = TypeVar("Results")

Kind = Literal["logits", "gradient", "predicted"]
"""Logits; the gradient of a given class; the gradient of the most probable class, which the pass itself finds."""


@final
class StaticPasses:
    """Logits and input gradients of up to `images` images at once; fewer are padded.

    Attributes:
        images: Images of a pass.
        inputs: Where a pass finds its images.
        way: How a pass runs: `graphs` replays the model's own kernels, `compiled` those of torch.compile.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        *,
        images: int,
        side: int,
        device: torch.device,
        way: Way,
        tries_kernels: bool,
    ) -> None:
        """Record nothing yet.

        Args:
            forward: Normalized images (N,3,side,side) to float32 logits, without hooks.
            images: Images of a pass.
            side: Side of an image, in pixels.
            device: A CUDA device.
            way: `graphs` or `compiled`.
            tries_kernels: Whether cuDNN may choose its kernels by trying them, so that another run may take others.
        """
        self.images = images
        self.way = way
        self._tries_kernels = tries_kernels
        self._forward = torch.compile(forward, dynamic=False) if way == "compiled" else forward
        inputs = torch.zeros(images, 3, side, side, device=device)
        self.inputs = inputs.contiguous(memory_format=torch.channels_last)
        self._targets = torch.zeros(images, dtype=torch.long, device=device)
        # logits and gradients are never needed at once, so their passes share memory
        self._pool = torch.cuda.graph_pool_handle()
        self._recorded: dict[Kind, tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...]]] = {}

    def record(self, kind: Kind) -> None:
        """Warm up and record passes of a kind; what it takes is paid here.

        In faster modes cuDNN tries out its kernels, which pays for a size that every pass has.
        """
        if kind in self._recorded:
            return
        work = self._logits_pass if kind == "logits" else functools.partial(self._gradient_pass, kind)
        before = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = self._tries_kernels
        try:
            self._recorded[kind] = recorded(work, self._pool)
        finally:
            torch.backends.cudnn.benchmark = before

    def forget(self, kind: Kind) -> None:
        """Drop passes of a kind, so that `takes` says no to them."""
        self._recorded.pop(kind, None)

    def takes(self, kind: Kind, count: int) -> bool:
        """Whether a batch of `count` images goes this way."""
        return kind in self._recorded and LEAST_SHARE[self.way] * self.images <= count <= self.images

    def logits(self, inputs: Float[Tensor, "image 3 height width"]) -> Float[Tensor, "image class"]:
        """Logits of normalized images; no gradient."""
        (logits,) = self._replay("logits", inputs)
        return logits

    def gradient(
        self, inputs: Float[Tensor, "image 3 height width"], targets: Int[Tensor, " image"] | None
    ) -> tuple[Float[Tensor, "image 3 height width"], Float[Tensor, "image class"]]:
        """Gradient of each image's target logit by its normalized input, and the logits.

        Args:
            inputs: Normalized images.
            targets: Class for each image; the most probable one if None.
        """
        if targets is None:
            gradients, logits = self._replay("predicted", inputs)
        else:
            self._targets[: len(targets)].copy_(targets)
            gradients, logits = self._replay("gradient", inputs)
        return gradients, logits

    def _replay(self, kind: Kind, inputs: Tensor) -> tuple[Tensor, ...]:
        graph, results = self._recorded[kind]
        # images do not mix in evaluation mode, so what earlier batches left behind in the padding does no harm
        self.inputs[: len(inputs)].copy_(inputs)
        graph.replay()
        # the next replay writes to the same place
        return tuple(result[: len(inputs)].clone(memory_format=torch.preserve_format) for result in results)

    def _logits_pass(self) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return (self._forward(self.inputs),)

    def _gradient_pass(self, kind: Kind) -> tuple[Tensor, ...]:
        return target_gradient(self._forward, self.inputs, self._targets if kind == "gradient" else None)


def recorded(work: Callable[[], Results], pool: Any = None) -> tuple[torch.cuda.CUDAGraph, Results]:  # noqa: ANN401 - torch keeps the type of a handle to itself
    """A CUDA graph of one call, and the results to which every replay writes; after warm calls on a side stream.

    Args:
        work: What is recorded; it must not wait for the device.
        pool: Memory that graphs which never run at once share; its own if None.
    """
    ahead = torch.cuda.current_stream()
    aside = torch.cuda.Stream()
    aside.wait_stream(ahead)
    with torch.cuda.stream(aside):
        for _ in range(WARM_UPS):
            work()
    ahead.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        results = work()
    return graph, results


@contextmanager
def room_for_compilation() -> Iterator[None]:
    """Let every model of a long-lived worker be compiled: torch counts all of them as one function compiled anew."""
    limit = torch._dynamo.config.recompile_limit  # noqa: SLF001 - its documented place
    torch._dynamo.config.recompile_limit = max(limit, 256)  # noqa: SLF001
    try:
        yield
    finally:
        torch._dynamo.config.recompile_limit = limit  # noqa: SLF001
