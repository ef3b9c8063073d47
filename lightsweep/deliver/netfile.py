"""Conversion of a net to the bytes of an ONNX or .pt2 file, and comparison of the file with PyTorch."""

import copy
import io
import json
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightsweep.errors import InputError
from lightsweep.training.batches import EVALUATION_BATCH

METADATA_FILE = "metadata.json"
"""Name of the metadata among the extra files of a .pt2."""
FOLDED = 64  # maximum number of elements of a folded constant in an int8 net

Runner = Callable[[Tensor], Tensor]

_ANY_BATCH = ({0: torch.export.Dim("batch", min=1)},)


class ExportError(InputError):
    """A net cannot be exported, or its file disagrees with the net."""


@dataclass(frozen=True)
class Agreement:
    """Result of comparing a file with PyTorch on real images."""

    images: int
    """Number of images compared."""
    largest_difference: float
    """Largest absolute difference of the logits."""
    accuracy: float
    """Accuracy of the file on these images, a fraction."""


class Classifier(nn.Module):
    """The exported module: a net as a function of one batch of images."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Map images, float32 [n, channels, height, width] in [0, 1], to logits [n, classes]."""
        logits: Tensor = self.net(images, images)[0]
        return logits


def make_file(
    suffix: str, net: nn.Module, shape: tuple[int, int, int], metadata: dict[str, str] | None = None
) -> bytes:
    """Return a net as the bytes of a file that accepts batches of any size.

    Args:
        suffix: Format of the file, .onnx or .pt2.
        net: The net, in evaluation mode, called as `net(images, images)[0]`.
        shape: Shape of an image: channels, height, width.
        metadata: Metadata to store in the file.

    Raises:
        ExportError: torch cannot export the net.

    """
    # With one image, torch would fix the batch size to 1; with gradients, max-pooling is a single operation.
    example = (torch.zeros(2, *shape, requires_grad=True),)
    frozen = copy.deepcopy(net).requires_grad_(False)  # so that the file's logits need no gradients
    try:
        with _quiet():
            program = torch.export.export(Classifier(frozen).eval(), example, dynamic_shapes=_ANY_BATCH)
            return _MAKERS[suffix](program, metadata or {})
    except Exception as error:  # torch raises many types, with long messages
        raise ExportError(f"torch cannot export this net to {suffix} ({first_line(error)})") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress torch's internal warnings."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", "No complete tensor found in the group", UserWarning)
        yield


def _make_onnx(program: torch.export.ExportedProgram, metadata: dict[str, str]) -> bytes:
    import onnxscript.optimizer

    is_int8 = any(tensor.dtype == torch.int8 for tensor in program.state_dict.values())
    made: Any = torch.onnx.export(
        program,
        dynamo=True,
        dynamic_shapes=_ANY_BATCH,  # names the dimension
        input_names=["images"],
        output_names=["logits"],
        optimize=not is_int8,
        verbose=False,  # prints to stdout otherwise
    )
    if is_int8:  # do not fold weights and scales into float32, which is four times as large
        onnxscript.optimizer.optimize(made.model, input_size_limit=FOLDED)
    graph = made.model.graph
    values = (value for node in graph.all_nodes() for value in node.outputs)
    for part in (graph, *graph.all_nodes(), *values, *graph.inputs, *graph.initializers.values()):
        part.metadata_props.clear()  # local paths and source lines, a quarter of a small net's file
    made.model.metadata_props.update(metadata)
    content: bytes = made.model_proto.SerializeToString()
    return content


def _make_pt2(program: torch.export.ExportedProgram, metadata: dict[str, str]) -> bytes:
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # as above
    program.example_inputs = None  # would be saved in the file, too
    buffer = io.BytesIO()
    text = json.dumps(metadata, ensure_ascii=False, indent=1)
    torch.export.save(program, buffer, extra_files={METADATA_FILE: text})
    return buffer.getvalue()


def _run_onnx(content: bytes) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3  # log errors only
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def _run_pt2(content: bytes) -> Runner:
    module: Runner = torch.export.load(io.BytesIO(content)).module()
    return module


_MAKERS = {".onnx": _make_onnx, ".pt2": _make_pt2}
_RUNNERS = {".onnx": _run_onnx, ".pt2": _run_pt2}
SUFFIXES = tuple(_MAKERS)


@torch.inference_mode()
def compare(content: bytes, suffix: str, net: nn.Module, images: Tensor, labels: Tensor) -> Agreement:
    """Run a file on batches of one, three and all images, and compare it with the net in PyTorch.

    Args:
        content: The file's bytes.
        suffix: Format of the file, .onnx or .pt2.
        net: The net, in evaluation mode.
        images: float32 [n, channels, height, width] in [0, 1].
        labels: int64 [n].

    Raises:
        ExportError: The file cannot be run, predicts differently from PyTorch, or its logits are not finite.

    """
    largest = 0.0
    try:
        with _quiet():
            run = _RUNNERS[suffix](content)
            parts = [(part, _logits(run, part)) for part in (images[:1], images[:3], images)]
    except Exception as error:  # the runtime raises many types
        raise ExportError(
            f"nothing was written: the exported net cannot be run ({first_line(error)})"
        ) from None
    for part, found in parts:
        expected = _logits(Classifier(net), part)
        difference = float((found - expected).abs().max())
        others = int((found.argmax(1) != expected.argmax(1)).sum())
        if others or not math.isfinite(difference):
            raise ExportError(
                f"nothing was written: the exported net disagrees with PyTorch; predictions differ for "
                f"{others} of {len(part)} test images, and logits differ by up to {difference:.3g}"
            )
        largest = max(largest, difference)
    correct = parts[-1][1].argmax(1) == labels
    return Agreement(len(images), largest, float(correct.double().mean()))


def _logits(run: Runner, images: Tensor) -> Tensor:
    return torch.cat([run(batch.contiguous()) for batch in images.split(EVALUATION_BATCH)])


def first_line(error: Exception) -> str:
    """Return an error's type and the first line of its message, at most 300 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:300]
