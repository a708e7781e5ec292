"""The best of a model's networks within a budget."""

from dataclasses import dataclass, field

import keras

from keras_dynnets.core.dynamic import interface
from keras_dynnets.measure.counting import count
from keras_dynnets.measure.latency import (
    TENSORFLOW,
    check_runtimes,
    milliseconds,
    runtimes_of_files,
)


@dataclass(frozen=True)
class Choice:
    """A sub-model that keeps within a budget.

    Attributes:
        name: its name; `part(name)` gives it again.
        sub_model, width: what `detach(sub_model, width)` takes for it.
        accuracy: on the validation images of the training, in [0, 1].
        macs: MACs for one image.
        ms: milliseconds for one image, one a call; None if no time was asked for.
        model: the sub-model itself.
    """

    name: str
    sub_model: int
    width: float
    accuracy: float
    macs: int
    ms: float | None
    model: keras.Model = field(repr=False)


def choose(
    model: keras.Model,
    max_macs: float | None = None,
    max_ms: float | None = None,
    runtime: str = TENSORFLOW,
    threads: int = 1,
    repeats: int = 20,
) -> Choice:
    """Chooses the most accurate of the networks that detach from a model, within a budget.

    Args:
        model: a model that detaches, with `accuracy` recorded: by `fit` with validation data, or
            set by hand.
        max_macs: MACs for one image at most.
        max_ms: milliseconds for one image at most, one image a call, measured here and now.
        runtime: "tensorflow" or the name of a format, where the time is measured.
        threads: of the runtime of a format.
        repeats: timed calls, of which the median counts.

    Returns:
        A `Choice`.

    Raises:
        ValueError: no budget, an unknown runtime, no recorded accuracies, or no network within
            the budget; the message says what the nearest one needs.
    """
    names = interface(model).part_names
    if not names:
        raise ValueError(
            f"choose takes a model that detaches into several, not {type(model).__name__}"
        )
    if max_macs is None and max_ms is None:
        raise ValueError("choose needs a budget: max_macs, max_ms or both")
    check_runtimes([runtime], [TENSORFLOW, *runtimes_of_files()])
    if missing := set(names) - set(model.accuracy):
        raise ValueError(
            f"no accuracy is recorded of {', '.join(sorted(missing))}: fit with validation_data "
            "and metrics=['accuracy'], or set model.accuracy = {name: value, ...}"
        )
    parts = {name: model.part(name) for name in names}
    macs = {name: count(part).macs for name, part in parts.items()}
    ms = {}
    for name in sorted(names, key=model.accuracy.get, reverse=True):
        if max_macs is not None and macs[name] > max_macs:
            continue
        if max_ms is not None:
            ms[name] = milliseconds(parts[name], runtime, threads, repeats)
            if ms[name] > max_ms:
                continue
        place = model.place(name)
        return Choice(name, *place, model.accuracy[name], macs[name], ms.get(name), parts[name])
    if ms:
        nearest = min(ms, key=ms.get)
        raise ValueError(
            f"no sub-model takes at most {max_ms} ms in {runtime}; the fastest is {nearest}, "
            f"{ms[nearest]:.3f} ms"
        )
    nearest = min(macs, key=macs.get)
    raise ValueError(
        f"no sub-model has at most {max_macs:,} MACs; the smallest is {nearest}, {macs[nearest]:,}"
    )
