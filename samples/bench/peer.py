"""onnxruntime's static INT8 of the same model on the same samples: the peer that INT8 is held to.

Per channel, QDQ, uint8 activations, int8 weights: what its documentation recommends for a CPU.
"""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch

from samples.bench.crops import Crops
from samples.bench.emulation import Run
from samples.bench.subjects import Subject

CALIBRATORS = ("MinMax", "Entropy", "Percentile")
INPUT = "image"
MOST_AT_ONCE = 5  # images whose every activation the calibrators hold at a time


class Reader:
    """Calibration samples as onnxruntime asks for them: one range after the other."""

    def __init__(self, crops: Crops) -> None:
        self._count = self._left = len(crops)
        self._images = iter(crops)

    def __len__(self) -> int:
        return self._count

    def set_range(self, start_index: int, end_index: int) -> None:
        """The next samples; ranges follow on each other from the first sample on."""
        self._left = end_index - start_index

    def get_next(self) -> dict[str, np.ndarray] | None:
        """None at the end of the range."""
        if not self._left:
            return None
        self._left -= 1
        return {INPUT: next(self._images)}


def write_onnx(subject: Subject, path: Path, example: np.ndarray) -> None:
    """The network in FP32, its shapes inferred and its BatchNorm folded, as quantisation needs."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with quiet():
        torch.onnx.export(
            subject.model, (torch.from_numpy(example),), path, dynamo=False, input_names=[INPUT]
        )
        quant_pre_process(str(path), str(path), skip_symbolic_shape=True)


def write_int8(source: Path, target: Path, crops: Crops, calibrator: str) -> None:
    """The network in INT8, its ranges by one of CALIBRATORS."""
    from onnxruntime import quantization

    with quiet():
        quantization.quantize_static(
            str(source),
            str(target),
            Reader(crops),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod[calibrator],
            extra_options={"CalibStridedMinMax": stride(len(crops))},
        )


def stride(count: int) -> int:
    """The most images at once that divide `count`; onnxruntime takes no remainder."""
    return max(size for size in range(1, MOST_AT_ONCE + 1) if count % size == 0)


def session_run(path: Path) -> Run:
    """A model file as a function of one image, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session: Any = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    return lambda image: list(session.run(None, {INPUT: image}))


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporter and the quantiser say of themselves: they are not measured."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
