"""Run a function of images on a GPU as CUDA graphs: all its kernels are launched at once, as one graph for each shape.

A small batch computes for less time than it takes to launch the kernels of a network one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, TypeAlias

import torch
from torch import Tensor

MAX_BATCH = 32
"""Batches of more images run as they are: they compute for longer than launching takes, and a graph keeps memory."""
MAX_GRAPHS = 8
"""How many graphs a model keeps; the one that was not used for longest is dropped."""

Function: TypeAlias = Callable[[Tensor], Any]
Capture: TypeAlias = Callable[[Function, Tensor], Function]
"""Makes a graph of a function for images of one shape, which is a function of such images."""


class GraphCache:
    """Runs a function by graphs of it, one for each shape of the images. Threads take turns."""

    def __init__(self, function: Function, capture: Capture) -> None:
        self._function = function
        self._capture = capture
        self._graphs: dict[tuple[Any, ...], Function] = {}
        self._lock = Lock()

    def __call__(self, x: Tensor) -> Any:
        if x.shape[0] > MAX_BATCH or torch.compiler.is_compiling():
            return self._function(x)
        # A graph keeps the settings with which it was captured.
        cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
        key = (*x.shape, x.dtype, cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, cudnn.enabled)
        with self._lock:
            graph = self._graphs.pop(key, None) or self._capture(self._function, x)
            self._graphs[key] = graph  # the last used is the last
            if len(self._graphs) > MAX_GRAPHS:
                del self._graphs[next(iter(self._graphs))]
            return graph(x)


class CudaGraph:
    """A graph of a function for images of one shape. It has input and output of its own, and returns copies."""

    def __init__(self, function: Function, x: Tensor) -> None:
        with torch.cuda.device(x.device):
            self._capture(function, x)

    def _capture(self, function: Function, x: Tensor) -> None:
        self._input = x.clone(memory_format=torch.preserve_format)
        self._graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream(x.device)
        stream.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(stream):
            for _ in range(3):  # libraries choose their algorithms, and allocate, in the first calls
                function(self._input)
        torch.cuda.current_stream(x.device).wait_stream(stream)
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._output = function(self._input)
        self._last = torch.cuda.Event()
        self._last.record(torch.cuda.current_stream(x.device))

    def __call__(self, x: Tensor) -> Any:
        stream = torch.cuda.current_stream(x.device)
        stream.wait_event(self._last)  # another thread's stream may still read the output
        self._input.copy_(x)
        self._graph.replay()
        outputs = self._output if isinstance(self._output, tuple) else (self._output,)
        copies = tuple(output.clone() for output in outputs)
        self._last.record(stream)
        return copies if isinstance(self._output, tuple) else copies[0]


def run_by_graphs(function: Function) -> Function:
    """Return a function that runs another by CUDA graphs, unless a caller is capturing a graph itself."""
    cache = GraphCache(function, CudaGraph)
    return lambda x: function(x) if torch.cuda.is_current_stream_capturing() else cache(x)
