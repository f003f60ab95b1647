"""Measure what the layers of a network take on this machine in onnxruntime, as a table for ``counts: table``."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import io
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from emomc.common.errors import UserError, require
from emomc.export.onnx_layers import OnnxForm, empty_model, forms_of, layer_model
from emomc.hardware.measured_table import shape_text
from emomc.networks.layers import LayerShape

if TYPE_CHECKING:
    from numpy.typing import NDArray

ClockName = Literal["wall", "processor"]
_WARM_RUNS = 5
_FEWEST_RUNS = 15
_LEAST_SHARE = 0.05
"""What is left at least of a layer's time after that of an empty run is taken off."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """How times are taken.

    Raises:
        UserError: a number is out of its range, or the clock cannot measure several threads.
    """

    threads: int = 1
    """Threads of onnxruntime, 1 or more."""
    seconds: float = 0.1
    """How long one layer in one form runs in each round, 0.001..3600; the median run counts, of 15 at least."""
    rounds: int = 3
    """How often all layers are measured in turn, 1..1000; of each the round counts that was disturbed least."""
    clock: ClockName = "wall"
    """wall: the time that passes. processor: the time that this process computes, for a machine that runs other
    programs, too; with one thread."""

    def __post_init__(self) -> None:
        require(1 <= self.threads <= 1024, "1..1024 threads", self.threads)
        require(0.001 <= self.seconds <= 3600, "0.001..3600 seconds for each layer", self.seconds)
        require(1 <= self.rounds <= 1000, "1..1000 rounds", self.rounds)
        require(self.clock == "wall" or self.threads == 1, "one thread with the clock processor", self.threads)

    @property
    def now(self) -> Callable[[], float]:
        """The clock, in seconds."""
        return time.perf_counter if self.clock == "wall" else time.thread_time


def import_onnxruntime() -> Any:
    """Return the package onnxruntime.

    Raises:
        UserError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError("expected the packages of pip install 'emomc[export]', found no onnxruntime") from None
    return onnxruntime


def run_ms(model: bytes, inputs: Mapping[str, NDArray[Any]], timing: Timing) -> float:
    """Return the milliseconds of the median run of a model, after some runs that do not count.

    Args:
        model: an ONNX model.
        inputs: its inputs.
        timing: how times are taken.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = timing.threads, 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for name, values in inputs.items():
        binding.bind_cpu_input(name, values)
    for output in session.get_outputs():
        binding.bind_output(output.name)
    for _ in range(_WARM_RUNS):
        session.run_with_iobinding(binding)
    now = timing.now
    times: list[float] = []
    end = now() + timing.seconds
    while len(times) < _FEWEST_RUNS or now() < end:
        started = now()
        session.run_with_iobinding(binding)
        times.append(now() - started)
    return 1000 * statistics.median(times)


@dataclasses.dataclass(frozen=True)
class MeasuredCall:
    """What one call of a layer took."""

    layer: str
    shape: str
    form: OnnxForm
    ms: float


def measure_layers(
    layers: Sequence[LayerShape], timing: Timing, tell: Callable[[MeasuredCall], None]
) -> list[MeasuredCall]:
    """Measure every different call of some layers in every form that it has in exported files.

    What a run of an empty model takes is taken off.

    Args:
        layers: the layers.
        timing: how times are taken.
        tell: called with each result.

    Raises:
        UserError: the extra ``export`` is not installed.
    """
    found: list[MeasuredCall] = []
    shapes = {shape_text(layer, call): (layer, call) for layer in reversed(layers) for call in layer.calls}
    cases = [(*one, shape, form) for shape, one in reversed(shapes.items()) for form in forms_of(one[0].kind)]
    models = [empty_model(), *(layer_model(layer, call, form) for layer, call, _, form in cases)]
    empty_ms, *times = least_ms(models, timing)
    for (layer, _, shape, form), ms in zip(cases, times, strict=True):
        found.append(MeasuredCall(layer.name, shape, form, max(ms - empty_ms, _LEAST_SHARE * ms)))
        tell(found[-1])
    return found


def least_ms(models: Sequence[tuple[bytes, Mapping[str, NDArray[Any]]]], timing: Timing) -> list[float]:
    """Return the milliseconds of each model with its inputs: the least of its rounds, which all models take in turn."""
    rounds = [[run_ms(model, inputs, timing) for model, inputs in models] for _ in range(timing.rounds)]
    return [min(times) for times in zip(*rounds, strict=True)]


def table_text(calls: Sequence[MeasuredCall], timing: Timing) -> str:
    """Return a table of measurements, as ``read_measured_table`` reads it."""
    threads = f"{timing.threads} thread{'' if timing.threads == 1 else 's'}"
    version = import_onnxruntime().__version__
    clock = "time that passed" if timing.clock == "wall" else "processor time"
    text = io.StringIO()
    text.write(
        f"# onnxruntime {version} on {platform.machine()}, {threads}, {clock}, least median of {timing.rounds} rounds, "
        f"{datetime.date.today()}\n"
    )
    text.write("# without poolings, activation functions and additions; an empty run is taken off\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("layer", "shape", "weight_bits", "activation_bits", "ms"))
    for call in calls:
        form = call.form
        writer.writerow((call.layer, call.shape, form.weight_bits, form.activation_bits, f"{call.ms:.6g}"))
    return text.getvalue()
