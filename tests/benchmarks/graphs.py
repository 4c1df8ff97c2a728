"""One call of some work as a CUDA graph, which is replayed without launches from Python."""

from __future__ import annotations

from collections.abc import Callable

import torch

WARM_CALLS = 3
"""Calls on a side stream before a capture, as torch's manual asks for."""


def capture(work: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """A CUDA graph of one call, after warm calls on a side stream."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_CALLS):
            work()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph
