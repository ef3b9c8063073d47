"""A net as a file's bytes that run without lightsweep, ONNX or torch's own .pt2; and what they compute."""

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
FOLDED = 64  # numbers, of a constant of an int8 net, at most

Runner = Callable[[Tensor], Tensor]

_ANY_BATCH = ({0: torch.export.Dim("batch", min=1)},)


class ExportError(InputError):
    """A net cannot be exported, or its file does not do what the net does."""


@dataclass(frozen=True)
class Agreement:
    """What a file computes on real images, against PyTorch."""

    images: int
    largest_difference: float
    """Of the logits, in absolute value."""
    accuracy: float
    """On these images, a fraction."""


class Classifier(nn.Module):
    """A net as one function of images: what is exported."""

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
    """Return a net as the bytes of a file; its batch may be of any size.

    Args:
        suffix: .onnx or .pt2.
        net: In evaluation mode, called as `net(images, images)[0]`.
        shape: Of an image: channels, height, width.
        metadata: What the file says of itself.

    Raises:
        ExportError: torch cannot export it.

    """
    # Of one image torch would make a batch that is always one; for gradients max-pooling is one operation.
    example = (torch.zeros(2, *shape, requires_grad=True),)
    frozen = copy.deepcopy(net).requires_grad_(False)  # so that the file's logits are plain numbers
    try:
        with _quiet():
            program = torch.export.export(Classifier(frozen).eval(), example, dynamic_shapes=_ANY_BATCH)
            return _MAKERS[suffix](program, metadata or {})
    except Exception as error:  # of many kinds, with pages of text
        raise ExportError(f"torch cannot export this net to {suffix} ({first_line(error)})") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch says to itself."""
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
        dynamic_shapes=_ANY_BATCH,  # for its name
        input_names=["images"],
        output_names=["logits"],
        optimize=not is_int8,
        verbose=False,  # it would print to stdout
    )
    if is_int8:  # weights are not folded with their scales into float32, of four times their size
        onnxscript.optimizer.optimize(made.model, input_size_limit=FOLDED)
    graph = made.model.graph
    values = (value for node in graph.all_nodes() for value in node.outputs)
    for part in (graph, *graph.all_nodes(), *values, *graph.inputs, *graph.initializers.values()):
        part.metadata_props.clear()  # source lines and paths of this machine, a quarter of a small net's file
    made.model.metadata_props.update(metadata)
    content: bytes = made.model_proto.SerializeToString()
    return content


def _make_pt2(program: torch.export.ExportedProgram, metadata: dict[str, str]) -> bytes:
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # as above
    program.example_inputs = None  # it would be in the file, too
    buffer = io.BytesIO()
    text = json.dumps(metadata, ensure_ascii=False, indent=1)
    torch.export.save(program, buffer, extra_files={METADATA_FILE: text})
    return buffer.getvalue()


def _run_onnx(content: bytes) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3  # errors are raised; no other noise
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
    """Run a file on images, one at a time, three and many, and compare with the net in PyTorch.

    Args:
        content: The file's bytes.
        suffix: .onnx or .pt2.
        net: In evaluation mode.
        images: float32 [n, channels, height, width] in [0, 1].
        labels: int64 [n].

    Raises:
        ExportError: The file cannot be run, predicts otherwise than PyTorch, or logits are not finite.

    """
    largest = 0.0
    try:
        with _quiet():
            run = _RUNNERS[suffix](content)
            parts = [(part, _logits(run, part)) for part in (images[:1], images[:3], images)]
    except Exception as error:  # of many kinds, by the runtime
        raise ExportError(
            f"nothing was written: the exported net cannot be run ({first_line(error)})"
        ) from None
    for part, found in parts:
        expected = _logits(Classifier(net), part)
        difference = float((found - expected).abs().max())
        others = int((found.argmax(1) != expected.argmax(1)).sum())
        if others or not math.isfinite(difference):
            raise ExportError(
                f"nothing was written: the exported net does not do what it does in PyTorch, it predicts "
                f"otherwise for {others} of {len(part)} test images, with logits that differ by up to "
                f"{difference:.3g}"
            )
        largest = max(largest, difference)
    correct = parts[-1][1].argmax(1) == labels
    return Agreement(len(images), largest, float(correct.double().mean()))


def _logits(run: Runner, images: Tensor) -> Tensor:
    return torch.cat([run(batch.contiguous()) for batch in images.split(EVALUATION_BATCH)])


def first_line(error: Exception) -> str:
    """Return what kind of error it is and the first line of what it says, 300 characters at most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:300]
