"""What a condition before a branch costs in each runtime, and up to which size it does not pay.

Exported files run a branch without a condition where the condition would take more time than it
saves. `Format.always_up_to` says up to which size that is, and this module measures it.
"""

import copy
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_dynnets import families, layers
from keras_dynnets.core.conditional import GatedBranches
from keras_dynnets.export.formats.base import Format, Run, WriteJob, formats
from keras_dynnets.measure.latency import check_runtimes, in_turn, set_tensorflow_threads

CHANNELS = (8, 16, 32, 64)
SIDES = (4, 8, 16, 32)
RATE = 0.7  # share of open gates at which a condition has to pay
BLOCKS, BRANCHES = 4, 2  # the network that is timed: residual blocks, branches of each
BATCH = 16  # images in a call of a file for any batch size, where the runtime suits single images
SECONDS = 2.0  # wanted time for the calls of one row


@dataclass(frozen=True)
class ConditionCost:
    """The times of a network with branches of one size, in one runtime.

    Attributes:
        runtime: name of the format.
        batch_size: batch size of the file; None for any.
        batch: images in a call.
        channels: channels inside a branch.
        side: height and width of its output.
        macs: MACs of a branch for one image.
        always_ms: median milliseconds of a call with no condition in the file.
        open_ms: with conditions, all gates open.
        closed_ms: with conditions, all gates closed.
        rate_ms: with conditions, a share `RATE` of the gates open; for a batch of one image, the
            mean of `open_ms` and `closed_ms` with that weight.
    """

    runtime: str
    batch_size: int | None
    batch: int
    channels: int
    side: int
    macs: int
    always_ms: float
    open_ms: float
    closed_ms: float
    rate_ms: float

    @property
    def pays(self) -> bool:
        """Whether the conditions save more time than they take."""
        return self.rate_ms < self.always_ms

    def cells(self) -> dict[str, str]:
        """Gives the row of a table."""
        return {
            "runtime": self.runtime,
            "file for batches of": str(self.batch_size or "any size"),
            "images a call": str(self.batch),
            "branch": f"{self.channels} channels, {self.side}x{self.side}",
            "MACs": f"{self.macs:,}",
            "no condition ms": f"{self.always_ms:.3f}",
            "open ms": f"{self.open_ms:.3f}",
            "closed ms": f"{self.closed_ms:.3f}",
            f"{RATE:.0%} open ms": f"{self.rate_ms:.3f}",
            "condition pays": "yes" if self.pays else "no",
        }


def condition_costs(
    runtimes: Collection[str] | None = None,
    channels: Sequence[int] = CHANNELS,
    sides: Sequence[int] = SIDES,
    threads: int = 1,
    repeats: int = 100,
    kind: Callable[[list], Any] | None = None,
    progress: Callable[[ConditionCost], Any] = lambda row: None,
) -> list[ConditionCost]:
    """Times branches of several sizes with and without conditions, in every runtime.

    The network of a row has residual blocks of two branches, each of two 3x3 convolutions, from
    twice as many channels as the branch has inside to as many again. Weights are random.

    Args:
        runtimes: names of formats; None for all.
        channels: numbers of channels inside a branch.
        sides: heights and widths of its output.
        threads: of each runtime. TensorFlow takes the number only before its first computation.
        repeats: timed calls of each kind at most; large networks get fewer, but five at least.
        kind: makes a layer of the kind `GatedBranches` from its branches; None for the first
            class of this kind that is registered with Keras.
        progress: called with every row as it comes.

    Returns:
        A row for each runtime, batch size and size of a branch.

    Raises:
        ValueError: a runtime is not known.
    """
    known = {target.name: target for target in formats()}
    targets = [known[name] for name in check_runtimes(runtimes, list(known))]
    set_tensorflow_threads(threads)
    kind = kind or _registered_kind()
    rows = []
    for target in targets:
        for batch_size in target.batch_sizes:
            for width in channels:
                for side in sides:
                    network = gated_network(kind, width, side)
                    times = _times(network, target, batch_size, threads, repeats)
                    layer = next(x for x in network.layers if isinstance(x, GatedBranches))
                    macs = layer.optional_macs((None, side, side, 2 * width))[0]
                    batch = _images_a_call(target, batch_size)
                    cost = (target.name, batch_size, batch, width, side, macs)
                    rows.append(ConditionCost(*cost, *times))
                    progress(rows[-1])
    return rows


def largest_without_condition(
    rows: Sequence[ConditionCost],
) -> dict[str, dict[int | None, int]]:
    """Gives the size of a branch up to which a condition takes more time than it saves.

    Args:
        rows: from `condition_costs`.

    Returns:
        `Format.always_up_to` by the name of the format: MACs by batch size.
    """
    largest: dict[str, dict[int | None, int]] = {}
    for row in rows:
        of_runtime = largest.setdefault(row.runtime, {})
        macs = 0 if row.pays else row.macs
        of_runtime[row.batch_size] = max(of_runtime.get(row.batch_size, 0), macs)
    return largest


def gated_network(kind: Callable[[list], Any], channels: int, side: int) -> keras.Model:
    """Makes a network of gated residual blocks whose gates are an input.

    Args:
        kind: see `condition_costs`.
        channels: channels inside a branch.
        side: height and width of the image and of all features.

    Returns:
        A functional model with inputs "images", (batch, side, side, 3), and "gates",
        (batch, blocks, branches), and ten logits.
    """
    images = keras.Input((side, side, 3), name="images")
    gates = keras.Input((BLOCKS, BRANCHES), name="gates")
    x = keras.layers.Conv2D(2 * channels, 3, padding="same", activation="relu")(images)
    for block in range(BLOCKS):
        branches = [_branch(channels, f"block{block}_branch{n}") for n in range(BRANCHES)]
        is_open = ops.cast(gates[:, block] > 0.5, "float32")
        layer = kind(branches)
        x = keras.layers.ReLU()(layer(x, is_open, x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    name = f"gated_{channels}_{side}"
    return keras.Model([images, gates], keras.layers.Dense(10)(x), name=name)


def _branch(channels: int, name: str) -> keras.Sequential:
    inner = keras.layers.Conv2D(channels, 3, padding="same", activation="relu")
    outer = keras.layers.Conv2D(2 * channels, 3, padding="same")
    return keras.Sequential([inner, outer], name=name)


def _registered_kind() -> type[GatedBranches]:
    """Gives the first class of gated layers that is registered with Keras."""
    families.register_classes()
    kinds = (getattr(layers, name) for name in dir(layers))
    return next(
        kind for kind in kinds if isinstance(kind, type) and issubclass(kind, GatedBranches)
    )


def _images_a_call(target: Format, batch_size: int | None) -> int:
    """Gives how many images a file is timed with."""
    return batch_size or (target.images_a_call if target.images_a_call > 1 else BATCH)


def _times(
    network: keras.Model, target: Format, batch_size: int | None, threads: int, repeats: int
) -> tuple[float, float, float, float]:
    """Measures the last four attributes of a `ConditionCost`."""
    batch = _images_a_call(target, batch_size)
    shape = (batch, *network.input_shape[0][1:])
    images = np.random.default_rng(0).uniform(0, 255, shape).astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        with_conditions, without = (
            _run_of(network, target, batch_size, macs, Path(folder) / name, threads)
            for macs, name in ((0, "conditional"), (sys.maxsize, "always"))
        )
        calls = [
            _call(without, _gates(batch, 1.0)),
            *(_call(with_conditions, _gates(batch, rate)) for rate in (1.0, 0.0, RATE)),
        ]
        once = in_turn(calls, images, 1).sum()
        count = int(np.clip(SECONDS / once, 5, max(5, repeats)))
        medians = 1e3 * np.median(in_turn(calls, images, count), axis=0)
    always, all_open, all_closed, at_rate = (round(float(ms), 4) for ms in medians)
    if batch == 1:
        at_rate = round(RATE * all_open + (1 - RATE) * all_closed, 4)
    return always, all_open, all_closed, at_rate


def _run_of(
    network: keras.Model,
    target: Format,
    batch_size: int | None,
    always_up_to: int,
    path: Path,
    threads: int,
) -> Run:
    """Writes a file in which branches of up to so many MACs have no condition, and loads it."""
    target = copy.copy(target)
    target.always_up_to = {batch_size: always_up_to}
    target.write(network, path, WriteJob(batch_size))
    return target.runner(path, threads)


def _gates(batch: int, rate: float) -> np.ndarray:
    """Makes gates (batch, blocks, branches), open for a share `rate` of the images."""
    rng = np.random.default_rng(0)
    is_open = (np.arange(batch) < round(rate * batch)).astype("float32")
    columns = [rng.permutation(is_open) for _ in range(BLOCKS * BRANCHES)]
    return np.stack(columns, axis=1).reshape(batch, BLOCKS, BRANCHES)


def _call(run: Run, gates: np.ndarray) -> Callable[[np.ndarray], Any]:
    return lambda images: run(images=images, gates=gates)
