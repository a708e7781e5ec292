"""The interface of a format, and the table of all formats."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_dynnets.core.dynamic import Deployment
from keras_dynnets.layers.grouped_conv import packing

Run = Callable[..., dict[str, np.ndarray]]  # arrays by input name to arrays by output name

PRECISIONS = ("fp32", "fp16", "int8")
BUILT_IN = ("litert", "onnx.format", "saved_model")

_formats: dict[str, "Format"] = {}


@dataclass(frozen=True)
class WriteJob:
    """How a file is written.

    Attributes:
        batch_size: images in a call; None for any number.
        half: whether weights are stored as float16.
        outputs: names of the outputs that the file gives.
        calibration: images in [0, 255] for 8-bit integer arithmetic, (n, height, width,
            channels); None for floating point.
    """

    batch_size: int | None = 1
    half: bool = False
    outputs: tuple[str, ...] = ("logits",)
    calibration: np.ndarray | None = None


class Format(ABC):
    """A kind of file that a runtime runs.

    A subclass sets `name` and `runtime`, defines `write`, `runner` and `operations`, and overrides
    whatever else differs. `register_format` makes an object of it known.

    Attributes:
        name: its name in `export_model`.
        aliases: other names that it goes by.
        runtime: name of the runtime that runs it.
        suffix: the end of its files' names; empty for a folder.
        precisions: those of `PRECISIONS` that it has.
        batch_sizes: batch sizes that a file can have, the default first; None stands for any.
        fixed_batches: whether a file can have any other fixed batch size, too.
        fixed_batches_with_conditions: whether that holds for networks that decide for each image
            what to run, too.
        images_a_call: number of images in a call that suits the runtime.
        own_runtime: whether the runtime is another than TensorFlow, in which the model is
            measured anyway.
        reaches_inside: whether it writes gated branches of a network that another one holds as a
            layer.
        packages: names of the Python packages that write and run it, whose versions are recorded
            beside a file.
        note: what users of a file should know, for the JSON file beside it; empty for nothing.
        tools: what `Deployment.writers` get to write a file of this format.
        always_up_to: MACs of a gated branch up to which it runs for every image, for a batch size
            of 1 and, under None, for all others, because a condition before it would take more
            time than it saves. `keras-dynnets bench-conditions` measures them.
    """

    name: str
    runtime: str
    aliases: tuple[str, ...] = ()
    suffix: str = ""
    precisions: tuple[str, ...] = ("fp32", "fp16")
    batch_sizes: tuple[int | None, ...] = (None, 1)
    fixed_batches: bool = False
    fixed_batches_with_conditions: bool = False
    images_a_call: int = 1
    own_runtime: bool = True
    reaches_inside: bool = True
    packages: tuple[str, ...] = ()
    note: str = ""
    tools: Any = None
    always_up_to: Mapping[int | None, int] = {}

    @abstractmethod
    def write(self, network: keras.Model, path: Path, job: WriteJob) -> None:
        """Writes a functional model from images to logits.

        Args:
            network: functional model in inference, with the output "logits" or with a dict of
                outputs by name.
            path: of the file or folder, which does not exist yet.
            job: how to write it.
        """

    def write_parts(self, parts: Mapping[str, keras.Model], path: Path, job: WriteJob) -> None:
        """Writes several networks that share weights, each under its name.

        Args:
            parts: functional models on one and the same input, by name.
            path: of the file or folder, which does not exist yet.
            job: how to write it.

        Raises:
            ValueError: the format has files with one network only.
        """
        raise ValueError(
            f"a {self.name} file has one network and this model has {', '.join(parts)}; export "
            "them one by one, model.part(name)"
        )

    def write_deployment(self, deployment: Deployment, path: Path, job: WriteJob) -> None:
        """Writes the file of a model, by the family's own function where it has one.

        Args:
            deployment: what the file holds.
            path: of the file or folder, which does not exist yet.
            job: how to write it.

        Raises:
            ValueError: the model has several networks and the format has files with one only.
        """
        if own := deployment.writers.get(self.name):
            own(path, job.batch_size, self.tools)
        elif network := deployment.single:
            self.write(network, path, job)
        else:
            self.write_parts(deployment.networks, path, job)

    @abstractmethod
    def runner(self, path: Path, threads: int | None = None, part: str | None = None) -> Run:
        """Loads a file in its runtime.

        Args:
            path: of the file or folder.
            threads: number of threads; None for the runtime's default.
            part: name of one of several networks in the file.

        Returns:
            A function from arrays by input name to arrays by output name.
        """

    @abstractmethod
    def operations(self, path: Path) -> dict[str, int]:
        """Counts each kind of operation in a file, those inside branches included.

        Args:
            path: of the file or folder.
        """

    def packing(
        self, groups: int, in_channels: int, out_channels: int, positions: int | None = None
    ) -> int:
        """Chooses how many neighbouring groups of a convolution are computed as one.

        Args:
            groups: number of groups.
            in_channels: input channels of one group.
            out_channels: output channels of one group.
            positions: height x width of the output; None if it is not known.

        Returns:
            A power of two that divides `groups`; 1 leaves the groups as they are.
        """
        return packing(groups, in_channels, out_channels, positions)

    def runs_always(self, macs: int, batch_size: int | None) -> bool:
        """Says whether a gated branch is faster without a condition before it.

        Args:
            macs: MACs of the branch for one image.
            batch_size: images in a call; None for any number.
        """
        return macs <= self.always_up_to.get(1 if batch_size == 1 else None, 0)

    def marker(self, several: bool) -> str | None:
        """Names a file that every folder written in this format has; None if it writes a file.

        Args:
            several: whether the export has several networks.
        """
        return None


def register_format(new: Format) -> Format:
    """Adds a format, so that `export_model`, the command line and benchmarks know it.

    Args:
        new: an object of a subclass of `Format`.

    Returns:
        The same object.

    Raises:
        ValueError: there is a format of that name or suffix.
    """
    for other in formats():
        same_suffix = new.suffix and new.suffix.lower() == other.suffix.lower()
        if same_suffix or _names(new).intersection(_names(other)):
            raise ValueError(
                f"there already is a format {other.name!r} with the suffix {other.suffix!r}; "
                "choose another name and suffix"
            )
    _formats[new.name] = new
    return new


def _names(known: Format) -> set[str]:
    """Gives the names that a format goes by, in lower case."""
    return {name.lower() for name in (known.name, *known.aliases)}


def formats() -> list[Format]:
    """Lists all formats, those of the library first."""
    if not _formats:
        for module in BUILT_IN:
            built_in = importlib.import_module(f"keras_dynnets.export.formats.{module}").FORMAT
            _formats[built_in.name] = built_in
    return list(_formats.values())


def format_named(name: str) -> Format:
    """Finds a format by its name.

    Args:
        name: name of a format, in upper or lower case.

    Raises:
        ValueError: the name is not known.
    """
    for known in formats():
        if isinstance(name, str) and name.lower() in _names(known):
            return known
    there = ", ".join(known.name for known in formats())
    raise ValueError(f"format {name!r} is unknown; it is one of {there}")


def find_format(name: str | None, path: Path) -> Format:
    """Finds a format by its name or by the path of a file.

    Args:
        name: name of a format; None for the one whose files end as the path does, in upper or
            lower case.
        path: of the file or folder to write.

    Raises:
        ValueError: the name is not known, the path has the suffix of another format, or there is
            no name and the path ends as the files of no format do.
    """
    if not path.name:
        raise ValueError(f"{str(path)!r} is no name of a file to write; give one, such as m.tflite")
    by_suffix = {known.suffix.lower(): known for known in formats() if known.suffix}
    suggested = by_suffix.get(path.suffix.lower())
    if name is None:
        if suggested is None:
            ends = ", ".join(f"{known.suffix} ({known.name})" for known in by_suffix.values())
            folders = ", ".join(f"format={f.name!r}" for f in formats() if not f.suffix)
            raise ValueError(
                f"{path.name} does not say which format it is to have; let it end in {ends}, or "
                f"name the format ({folders} for a folder)"
            )
        return suggested
    named = format_named(name)
    if suggested and suggested is not named:
        raise ValueError(
            f"{path.name} is the name of a file in the format {suggested.name!r}, not "
            f"{named.name!r}: give format={suggested.name!r}, or another name"
        )
    return named
