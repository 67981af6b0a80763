"""Quantizes an ONNX graph: its matrices become 8-bit integers. The graph becomes smaller and faster.

Each column of a matrix has its own scale (per channel). With one scale for the whole matrix, the vectors of some
sentences would be badly wrong. The heads are not quantized. They are so small that little space would be saved, and
their rounding errors would go straight into the answers.
"""

import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HEADS_PREFIX = "twin.model.heads."  # of the names of the heads' weights in a graph


def quantize(file: Path, *, reduce_range: bool = True) -> None:
    """Replaces the graph in ``file`` by a graph with 8-bit integer weights.

    If ``reduce_range`` is true, the weights use only 7 of the 8 bits. Set ``reduce_range`` to false only if the graph
    will always run on processors for which :func:`multiplies_bytes` is true. On other processors, products of 8-bit
    numbers overflow.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    kept = _of_heads(onnx.load(file, load_external_data=False))
    with _without_advice():
        quantize_dynamic(
            file,
            file,
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=kept,
        )
    file.with_name(f"{file.name}.data").unlink(missing_ok=True)  # the float weights of a large graph


def multiplies_bytes() -> bool:
    """Returns whether this processor adds products of bytes without overflow.

    Returns False for an x86 processor without the instructions called VNNI. A model for such a processor gets weights
    of 7 bits instead of 8.
    """
    if platform.machine() not in ("x86_64", "AMD64", "i386", "i686"):
        return True
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def _of_heads(graph: Any) -> list[str]:
    """Returns the names of the nodes of an ONNX graph that read weights of the tasks' heads."""
    found = [node.name for node in graph.graph.node if any(name.startswith(HEADS_PREFIX) for name in node.input)]
    return [*found, *(f"{name}_MatMul" for name in found)]  # a Gemm first becomes a MatMul and an Add


@contextmanager
def _without_advice() -> Iterator[None]:
    """Silences advice that onnxruntime gives through the root logger."""
    log = logging.getLogger()
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
