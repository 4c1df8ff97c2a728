"""Passes of a fixed batch size, recorded once as CUDA graphs and replayed with one call.

A pass of resnet50 is about a hundred kernels, and an explainer's gradient three times as many. Launching them one by
one takes the host as long as the device needs to run them; a replay is one call. The recorded function may be compiled
too, which reduces the number of kernels. Hooks have no effect in a replay: methods that read layers run the model
directly.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.shards import Way
from auditcore.models.target_gradient import target_gradient

WARM_UPS = 3
"""Passes before recording, as torch requires: libraries are initialized and kernels are chosen."""

LEAST_SHARE: Mapping[Way, float] = {"graphs": 0.98, "compiled": 0.6}
"""A batch with a smaller share of the fixed size is not replayed: padding would cost more than the replay saves."""

Results = TypeVar("Results")

Kind = Literal["logits", "gradient", "predicted"]
"""Logits; the gradient of a given class; the gradient of the most probable class, which the pass itself determines."""


@final
class StaticPasses:
    """Logits and input gradients of up to `images` images at once; smaller batches are padded.

    Attributes:
        images: Images per pass.
        inputs: Input buffer of a pass.
        way: How a pass runs: `graphs` replays the model's own kernels, `compiled` those of torch.compile.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        *,
        images: int,
        shape: InputShape,
        device: torch.device,
        way: Way,
        tries_kernels: bool,
        memory_format: torch.memory_format = torch.channels_last,
    ) -> None:
        """Record nothing yet.

        Args:
            forward: Normalized images (N,C,H,W) to float32 logits, without hooks.
            images: Images per pass.
            shape: Channels, height and width of an image.
            device: A CUDA device.
            way: `graphs` or `compiled`.
            tries_kernels: Whether cuDNN may benchmark its kernels, so that another run may use different ones.
            memory_format: Layout of the images in memory.
        """
        self.images = images
        self.way = way
        self._tries_kernels = tries_kernels
        self._forward = torch.compile(forward, dynamic=False) if way == "compiled" else forward
        inputs = torch.zeros(images, *shape, device=device)
        self.inputs = inputs.contiguous(memory_format=memory_format)
        self._targets = torch.zeros(images, dtype=torch.long, device=device)
        # logits and gradients are never computed at the same time, so their passes share memory
        self._pool = torch.cuda.graph_pool_handle()
        self._recorded: dict[Kind, tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...]]] = {}

    def record(self, kind: Kind) -> None:
        """Warm up and record passes of a kind; the whole cost of recording is here.

        In faster modes cuDNN benchmarks its kernels, which is worth it for a size that every pass has.
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
        """Drop passes of a kind, so that `takes` returns False for them."""
        self._recorded.pop(kind, None)

    def takes(self, kind: Kind, count: int) -> bool:
        """Return whether a batch of `count` images can be replayed."""
        return kind in self._recorded and LEAST_SHARE[self.way] * self.images <= count <= self.images

    def logits(self, inputs: Float[Tensor, "image channel height width"]) -> Float[Tensor, "image class"]:
        """Compute logits of normalized images, without gradient."""
        (logits,) = self._replay("logits", inputs)
        return logits

    def gradient(
        self, inputs: Float[Tensor, "image channel height width"], targets: Int[Tensor, " image"] | None
    ) -> tuple[Float[Tensor, "image channel height width"], Float[Tensor, "image class"]]:
        """Compute the gradient of each image's target logit with respect to its normalized input, and the logits.

        Args:
            inputs: Normalized images.
            targets: Class of each image; the most probable class if None.
        """
        if targets is None:
            gradients, logits = self._replay("predicted", inputs)
        else:
            self._targets[: len(targets)].copy_(targets)
            gradients, logits = self._replay("gradient", inputs)
        return gradients, logits

    def _replay(self, kind: Kind, inputs: Tensor) -> tuple[Tensor, ...]:
        graph, results = self._recorded[kind]
        # images do not mix in evaluation mode, so images of earlier batches in the padding do no harm
        self.inputs[: len(inputs)].copy_(inputs)
        graph.replay()
        # the next replay overwrites these results
        return tuple(result[: len(inputs)].clone(memory_format=torch.preserve_format) for result in results)

    def _logits_pass(self) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return (self._forward(self.inputs),)

    def _gradient_pass(self, kind: Kind) -> tuple[Tensor, ...]:
        return target_gradient(self._forward, self.inputs, self._targets if kind == "gradient" else None)


def recorded(work: Callable[[], Results], pool: Any = None) -> tuple[torch.cuda.CUDAGraph, Results]:  # noqa: ANN401 - the type of a handle is not public
    """Record one call as a CUDA graph, after warm-up calls on a side stream.

    Args:
        work: The function to record; it must not wait for the device.
        pool: Memory pool shared by graphs that never run at the same time; a pool of its own if None.

    Returns:
        The graph, and the results that every replay overwrites.
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
    """Raise torch's limit of recompilations, which counts all models of a long-lived worker as one function."""
    limit = torch._dynamo.config.recompile_limit  # noqa: SLF001 - the documented name
    torch._dynamo.config.recompile_limit = max(limit, 256)  # noqa: SLF001
    try:
        yield
    finally:
        torch._dynamo.config.recompile_limit = limit  # noqa: SLF001
