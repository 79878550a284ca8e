"""A torch network as one .onnx file that takes batches of any size."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx_ir
import torch
from torch import nn

from service.training.example_sets import Values
from service.training.failures import TrainingFailed

OPSET = 18  # the oldest that torch's exporter writes without converting


def export(
    network: nn.Module,
    path: Path,
    example: Values,
    *,
    inputs: Sequence[str] = ("x",),
    outputs: Sequence[str] = ("logits",),
    dynamic: Sequence[str] = ("batch",),
) -> None:
    """Write a network with torch's exporter (dynamo), weights inside the file.

    Parameters
    ----------
    network : Module
        Of one input.
    path : Path
        The .onnx file.
    example : ndarray of shape (N, ...)
        A few rows; their dtype and every axis that is not dynamic become the graph's.
    inputs, outputs : sequence of str
        Names of the tensors, in the network's order.
    dynamic : sequence of str
        Names of the leading axes of the input that may have any size.
    """
    rows = torch.as_tensor(example[:1]).repeat_interleave(3, dim=0)  # an axis of size one would be taken for fixed
    shape = {axis: torch.export.Dim(name) for axis, name in enumerate(dynamic)}
    with _quiet():
        program = torch.onnx.export(
            network.eval(),
            (rows,),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=(shape,),
            verbose=False,
        )
    if program is None:
        raise TrainingFailed("torch's exporter returned no graph")
    _forget_sources(program.model)
    program.save(path, external_data=False)


def _forget_sources(model: onnx_ir.Model) -> None:
    """Take the exporter's remarks out: they hold paths of this machine, and so make the same network another file."""
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on what it does not find: torchvision, and its own use of torch."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        log.disabled = before
