"""The best sub-model within a budget."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from keras_dynnets.models import CNSN
from keras_dynnets.profile.baseline import call_in
from keras_dynnets.profile.count import count
from keras_dynnets.profile.latency import seconds_of

RUNTIMES = ("tensorflow", "litert", "onnx")


@dataclass(frozen=True)
class Choice:
    """A sub-model that keeps within a budget.

    Attributes:
        name, sub_model, width: which one; `detach(sub_model, width)` gives it again.
        accuracy: on the validation images of its training.
        macs: MACs an image. ms: milliseconds an image, one at a time; None if time was no matter.
        model: the sub-model itself.
    """

    name: str
    sub_model: int
    width: float
    accuracy: float
    macs: int
    ms: float | None
    model: keras.Model = field(repr=False)


def choose(model, max_macs=None, max_ms=None, runtime="tensorflow", threads=1, repeats=20):
    """The most accurate sub-model of a CNSN within a budget.

    Args:
        model: a `CNSN` with `accuracy` recorded: by `fit` with validation data, or set by hand.
        max_macs: MACs an image at most.
        max_ms: milliseconds an image at most, one image a call, measured here and now.
        runtime: "tensorflow", "litert" or "onnx", where the time is measured.
        threads: of LiteRT or ONNX Runtime. repeats: timed calls, of which the median counts.

    Returns:
        A `Choice`.

    Raises:
        ValueError: no budget, an unknown runtime, no recorded accuracies, or no sub-model that keeps within the
            budget; the message says what the nearest one needs.
    """
    if not isinstance(model, CNSN):
        raise ValueError(f"choose takes a CNSN, not {type(model).__name__}")
    if max_macs is None and max_ms is None:
        raise ValueError("choose needs a budget: max_macs, max_ms or both")
    if runtime not in RUNTIMES:
        raise ValueError(f"runtime {runtime!r} is unknown; it is one of {', '.join(RUNTIMES)}")
    if missing := set(model.names) - set(model.accuracy):
        raise ValueError(
            f"no accuracy is recorded of {', '.join(sorted(missing))}: fit with validation_data and metrics=['accuracy'], "
            "or set model.accuracy = {name: value, ...}"
        )
    parts = {name: model.part(name) for name in model.names}
    macs = {name: count(part).macs for name, part in parts.items()}
    ms = {}
    for name in sorted(model.names, key=model.accuracy.get, reverse=True):
        if max_macs is not None and macs[name] > max_macs:
            continue
        if max_ms is not None:
            ms[name] = _milliseconds(parts[name], runtime, threads, repeats)
            if ms[name] > max_ms:
                continue
        sub_model, width = model.place(name)
        return Choice(name, sub_model, width, model.accuracy[name], macs[name], ms.get(name), parts[name])
    if ms:
        nearest = min(ms, key=ms.get)
        raise ValueError(f"no sub-model takes at most {max_ms} ms in {runtime}; the fastest is {nearest}, {ms[nearest]:.3f} ms")
    nearest = min(macs, key=macs.get)
    raise ValueError(f"no sub-model has at most {max_macs:,} MACs; the smallest is {nearest}, {macs[nearest]:,}")


def _milliseconds(part, runtime, threads, repeats):
    """Median time of a call with one image."""
    images = np.random.default_rng(0).uniform(0, 255, (1, *part.input_shape[1:])).astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        call = call_in(runtime, part, 1, threads, Path(folder))
        call(images), call(images)  # the first are slower: not timed
        return 1e3 * float(np.median([seconds_of(call, images) for _ in range(repeats)]))
