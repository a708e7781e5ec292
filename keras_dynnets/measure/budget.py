"""The most accurate of a model's networks within a budget."""

import math
from dataclasses import dataclass, field

import keras

from keras_dynnets.core.arguments import whole_number
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
        name: its name; `part(name)` of the whole model gives it again.
        sub_model: what `detach(sub_model, width)` takes for it.
        width: what `detach(sub_model, width)` takes for it.
        accuracy: accuracy on the validation images of the training, in [0, 1].
        macs: MACs for one image; None where no limit to them was asked for and they are not known.
        ms: milliseconds for a call with one image; None where no time was asked for.
        model: the sub-model itself, a keras.Model.
    """

    name: str
    sub_model: int
    width: float
    accuracy: float
    macs: int | None
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
        model: keras.Model that detaches, with `accuracy` recorded by `fit` with validation data,
            or set by hand.
        max_macs: largest number of MACs for one image; None for any, and then networks whose MACs
            cannot be counted can be chosen too.
        max_ms: largest number of milliseconds for a call with one image, measured on this
            machine; None for any.
        runtime: "tensorflow" or the name of a format, where the time is measured.
        threads: number of threads of the runtime of a format.
        repeats: number of timed calls, whose median is the time.

    Returns:
        A `Choice`.

    Raises:
        ValueError: the model does not detach, there is no budget, the runtime is unknown, no
            accuracies are recorded, `max_macs` is given and `count` refuses a network, or no
            network keeps within the budget; the message then says what the nearest one needs.

    Example:
        >>> small = profile.choose(model, max_macs=50e6)
        >>> small.name, small.accuracy, small.macs
    """
    threads, repeats = whole_number("threads", threads), whole_number("repeats", repeats)
    names = interface(model).part_names
    if not names:
        raise ValueError(
            f"choose takes a model that detaches into several, not {type(model).__name__}"
        )
    if max_macs is None and max_ms is None:
        raise ValueError("choose needs a budget: give max_macs, max_ms or both")
    check_runtimes([runtime], [TENSORFLOW, *runtimes_of_files()])
    accuracy: dict[str, float] = model.accuracy
    if missing := set(names) - set(accuracy):
        raise ValueError(
            f"no accuracy is recorded of {', '.join(sorted(missing))}: fit with validation_data "
            "and metrics=['accuracy'], or set model.accuracy = {name: value, ...}"
        )
    parts = {name: model.part(name) for name in names}
    macs = {name: _macs(part, needed=max_macs is not None) for name, part in parts.items()}
    limit = math.inf if max_macs is None else max_macs
    ms: dict[str, float] = {}
    for name in sorted(names, key=lambda name: accuracy[name], reverse=True):
        if (macs[name] or 0) > limit:
            continue
        if max_ms is not None:
            ms[name] = milliseconds(parts[name], runtime, threads, repeats)
            if ms[name] > max_ms:
                continue
        sub_model, width = model.place(name)
        found = accuracy[name], macs[name], ms.get(name), parts[name]
        return Choice(name, sub_model, width, *found)
    if ms:
        nearest = min(ms, key=lambda name: ms[name])
        raise ValueError(
            f"no sub-model takes at most {max_ms} ms in {runtime}; the fastest is {nearest}, "
            f"{ms[nearest]:.3f} ms"
        )
    nearest = min(macs, key=lambda name: macs[name] or 0)
    raise ValueError(
        f"no sub-model has at most {max_macs:,} MACs; the smallest is {nearest}, {macs[nearest]:,}"
    )


def _macs(part: keras.Model, needed: bool) -> int | None:
    """Counts the MACs of a network; None where they are not known, if they are not needed."""
    try:
        return count(part).macs
    except ValueError:
        if needed:
            raise
        return None
