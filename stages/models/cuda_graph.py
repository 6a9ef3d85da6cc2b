"""Capture a function of tensors as a CUDA graph, and replay it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from stages.models.backbone import Backbone
from stages.models.sharding import is_sharded
from stages.models.weight_storage import is_offloaded

Tensors = tuple[torch.Tensor, ...]


@dataclass
class GraphMemory:
    """The memory pool of graphs that run one after the other, and the stream on which they are captured.

    A stream keeps workspaces of the libraries, so every further one would take memory.
    """

    pool: tuple[int, int] | None = None
    stream: torch.cuda.Stream | None = None


class GraphedFunction:
    """A function of tensors that is launched as one CUDA graph for every combination of input shapes.

    The graphs share one memory pool, also with other functions that have the same `memory`: they run one after the
    other, and outputs are copied before the next one starts.
    """

    def __init__(self, function: Callable[..., Tensors], memory: GraphMemory | None = None) -> None:
        self._function, self._memory = function, memory or GraphMemory()
        self._graphs: dict[tuple, tuple[torch.cuda.CUDAGraph, Tensors, Tensors]] = {}

    def __call__(self, *inputs: torch.Tensor) -> Tensors:
        key = tuple((tuple(tensor.shape), torch.is_grad_enabled()) for tensor in inputs)
        if key not in self._graphs:
            self._graphs[key] = self._capture(inputs)
        graph, static_inputs, outputs = self._graphs[key]
        for static, tensor in zip(static_inputs, inputs, strict=True):
            static.copy_(tensor, non_blocking=True)
        graph.replay()
        return tuple(output.clone() for output in outputs)

    def reset(self) -> None:
        """Delete the graphs and release their memory; functions that share it must be reset together."""
        self._graphs.clear()
        self._memory.pool = None

    def _capture(self, inputs: Tensors) -> tuple[torch.cuda.CUDAGraph, Tensors, Tensors]:
        memory, static_inputs = self._memory, tuple(tensor.clone() for tensor in inputs)
        memory.stream = memory.stream or torch.cuda.Stream()
        # Two eager calls: libraries choose kernels and allocate workspaces, which a capture must not.
        memory.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(memory.stream):
            for _ in range(2):
                self._function(*static_inputs)
        torch.cuda.current_stream().wait_stream(memory.stream)
        torch.cuda.empty_cache()
        graph = torch.cuda.CUDAGraph()
        memory.pool = memory.pool or torch.cuda.graph_pool_handle()
        with torch.cuda.graph(graph, pool=memory.pool, stream=memory.stream):
            outputs = self._function(*static_inputs)
        return graph, static_inputs, outputs


def fits_in_memory(attempt: Callable[[], object], functions: Iterable[Callable]) -> bool:
    """Return whether `attempt` runs without an out-of-memory error; after one, reset the graphs among `functions`."""
    try:
        attempt()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return True
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
    # Outside the handler, because its traceback keeps the tensors alive.
    for function in functions:
        if isinstance(function, GraphedFunction):
            function.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False


def can_capture(backbone: Backbone) -> bool:
    """Return whether a training step can be a CUDA graph: no weights come from other processes or from host memory."""
    moving = is_sharded(backbone.denoiser) or any(map(is_offloaded, (backbone.denoiser, *backbone.text_encoders)))
    return backbone.device.type == "cuda" and not moving


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether memory ran out; a failed capture of a CUDA graph raises another error, with that as context."""
    return error is not None and (isinstance(error, torch.OutOfMemoryError) or _is_out_of_memory(error.__context__))
