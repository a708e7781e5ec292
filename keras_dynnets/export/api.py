"""One call from a model to a verified file."""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_dynnets.core import keras_private
from keras_dynnets.core.conditional import gated_layers, running_as
from keras_dynnets.core.dynamic import Deployment, interface
from keras_dynnets.export.deployment import deploy_parts
from keras_dynnets.export.formats.base import PRECISIONS, Format, WriteJob, find_format
from keras_dynnets.export.verify import ExportError, check, verification_images


@dataclasses.dataclass(frozen=True)
class Report:
    """What an export wrote and how it was checked.

    Attributes:
        path: of the file or folder.
        format: name of the format.
        precision: "fp32", "fp16" or "int8".
        batch_size: images in a call; None for any number.
        bytes: size of the file, or of all files in the folder.
        sha256: hash of the file, or of all files in the folder in the order of their names.
        operations: how often each operation stands in the file, branches included.
        images: number of images that the file and Keras were compared on.
        paths: number of different gate patterns or networks among them.
        max_abs_diff: largest difference of a logit from the Keras model's.
        mean_abs_diff: mean difference.
        top1_agreement: share of the images with the same class first.
    """

    path: str
    format: str
    precision: str
    batch_size: int | None
    bytes: int
    sha256: str
    operations: dict[str, int]
    images: int = 0
    paths: int = 0
    max_abs_diff: float | None = None
    mean_abs_diff: float | None = None
    top1_agreement: float | None = None


def export_model(
    model: Any,
    path: str | os.PathLike,
    format: str | None = None,
    precision: str = "fp32",
    batch_size: int | None = None,
    labels: Sequence[str] | None = None,
    calibration: np.ndarray | None = None,
) -> Report:
    """Exports a model to the file of another runtime, and checks the file there.

    Beside the file stands `<path>.json` with the labels, the range of the input, versions, the
    hash and the report. Both appear only when the file has been checked: an export that fails
    leaves what was there before. Batch norm is folded and dropout is gone.

    Where a network skips work, the file skips it too. In LiteRT, and in ONNX with a batch size of
    1, every gated branch stands behind an `If`; ONNX for any batch runs that image by image in a
    `Scan`; a SavedModel groups the images of a batch by branch. A model of several networks that
    share weights gives one file with every weight once and a signature for each network (in ONNX a
    folder with a file for each network).

    Args:
        model: a model of the zoo, any functional or built `Sequential` Keras model with one image
            input, or what `model.deployments(...)` of a family gives for its own options, such as
            `dmnn.deployments(gates=True)` or `puppet.deployments(levels=[0, 3])`.
        path: of the file; for a SavedModel and for several ONNX networks, of the folder.
        format: name of a format, "litert", "onnx" or "saved_model"; None for the one that the
            suffix of the path says, LiteRT where it says none.
        precision: "fp32"; "fp16" for weights in half the bytes and arithmetic in float32;
            "int8" for arithmetic in 8-bit integers (LiteRT, networks without gates).
        batch_size: 1, or None for any number of images a call. A LiteRT file always has 1.
        labels: names of the classes in the order of the logits, for the JSON file.
        calibration: images of the kind that the file will see, (n, height, width, channels) in
            [0, 255]. The file is compared with Keras on those that take the most different
            paths; "int8" needs some hundred, to find the range of every value. None to compare
            on made-up images.

    Returns:
        A `Report`.

    Raises:
        ValueError: a format, precision or batch size that cannot be, a model that is not one of
            images to logits, labels of another number than the logits, or "int8" without
            calibration.
        ImportError: the extra `export` is not installed.
        OSError: the file cannot be written.
        ExportError: the conversion failed, or the results of the file differ from Keras's; the
            message says by how much, and the file is gone.

    Example:
        >>> report = export_model(zoo.load("dmnn20"), "model.tflite")
        >>> report.top1_agreement
        1.0
    """
    path = Path(path)
    deployment = model if isinstance(model, Deployment) else interface(model).deployments()
    target = find_format(format, path)
    several = deployment.single is None
    batch_size = _check_request(deployment, target, path, precision, batch_size)
    _check_network(deployment, target, precision)
    _check_images(deployment, precision, calibration, labels)
    job = WriteJob(
        batch_size,
        precision == "fp16",
        deployment.outputs,
        np.asarray(calibration, "float32") if precision == "int8" else None,
    )
    with _beside(path) as folder:
        _check_replaceable(path, target, several)
        draft = folder / path.name
        _write(deployment, target, path, draft, job)
        report = Report(
            str(path),
            target.name,
            precision,
            batch_size,
            *_fingerprint(draft),
            target.operations(draft),
        )
        report = _verified(report, target, draft, deployment, calibration)
        sidecar = folder / "report.json"
        sidecar.write_text(json.dumps(_description(deployment, report, labels), indent=1) + "\n")
        _move(draft, path)
        os.replace(sidecar, f"{path}.json")
    return report


def _write(deployment: Deployment, target: Format, path: Path, draft: Path, job: WriteJob) -> None:
    """Writes the file, by the family's own function if it has one for the format."""
    try:
        if own := deployment.writers.get(target.name):
            own(draft, job.batch_size, target.tools)
        elif network := deployment.single:
            target.write(network, draft, job)
        else:
            target.write_parts(deployment.networks, draft, job)
    except (ImportError, OSError):
        raise
    except Exception as error:
        raise ExportError(
            f"{path}: {deployment.name} does not convert to {target.name}: {error}"
        ) from error


def _verified(
    report: Report,
    target: Format,
    draft: Path,
    deployment: Deployment,
    images: np.ndarray | None,
) -> Report:
    """Gives the report with the results of the file in its runtime, those of its worst network."""
    networks = deployment.networks
    several = deployment.single is None
    half = report.precision == "fp16"
    together = deploy_parts(networks, half=True) if half and several else {}
    found, chosen, paths = [], [], 0
    for name, network in networks.items():
        with running_as(network, "auto"):  # as `predict` does, whatever form the user has set
            chosen, paths = verification_images(network, images)
            try:
                run = target.runner(draft, **({"part": name} if several else {}))
            except ImportError:
                raise
            except Exception as error:
                raise ExportError(
                    f"{report.path}: {target.runtime} does not load the file: {error}"
                ) from error
            try:
                found.append(
                    check(
                        run,
                        network,
                        chosen,
                        report.batch_size,
                        report.precision,
                        together.get(name),
                    )
                )
            except ExportError as error:
                which = f"{name}: " if several else ""
                raise ExportError(f"{report.path} was removed: {which}{error}") from error
    largest, mean, agreement = zip(*found, strict=True)
    return dataclasses.replace(
        report,
        images=len(chosen),
        paths=paths,
        max_abs_diff=max(largest),
        mean_abs_diff=max(mean),
        top1_agreement=min(agreement),
    )


# ---- refusals before any work


def _check_request(
    deployment: Deployment,
    target: Format,
    path: Path,
    precision: str,
    batch_size: int | None,
) -> int | None:
    """Refuses a request that the format or the model does not have; gives the batch size."""
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"exports start from TensorFlow graphs and Keras runs on {keras.backend.backend()}: "
            "load the model with KERAS_BACKEND=tensorflow"
        )
    if precision not in PRECISIONS:
        raise ValueError(
            f"precision {precision!r} is unknown; it is one of {', '.join(PRECISIONS)}"
        )
    if batch_size not in (None, 1):
        raise ValueError(f"batch_size is 1, or None for any, not {batch_size!r}")
    if precision not in target.precisions:
        raise ValueError(
            f"{target.name} files have no {precision}, but {', '.join(target.precisions)}"
        )
    wrong_format = deployment.formats is not None and target.name not in deployment.formats
    if wrong_format or precision not in (deployment.precisions or PRECISIONS):
        raise ValueError(
            f"format={target.name!r} with precision={precision!r} is refused: {deployment.reason}"
        )
    if deployment.single is None and target.marker(True) and path.suffix:
        raise ValueError(
            f"all networks of {deployment.name} together make a folder in the format "
            f"{target.name}; give its name, without {path.suffix!r}"
        )
    return batch_size if batch_size in target.batch_sizes else target.batch_sizes[0]


def _check_network(deployment: Deployment, target: Format, precision: str) -> None:
    """Refuses networks that are not from one image of a fixed size to logits."""
    network = deployment.main
    functional = keras_private.is_functional(network)
    one_image = functional and len(network.inputs) == 1 and len(network.inputs[0].shape) == 4
    if not one_image or None in network.inputs[0].shape[1:]:
        raise ValueError(
            "an export takes a functional or built Sequential Keras model with one input of images "
            f"of a fixed size; this is {type(network).__name__} {deployment.name!r}"
        )
    if not hasattr(interface(network).logits_tensor, "shape"):
        raise ValueError(
            f"{deployment.name} has several outputs; an export takes a model whose one output is "
            "the logits"
        )
    gated = gated_layers(network)
    if gated and precision == "int8":
        raise ValueError(
            f"{deployment.name} has gates, and int8 takes networks without; give precision='fp16'"
        )
    if target.reaches_inside:
        return
    if set(gated) - set(network.layers):
        raise ValueError(
            f"{deployment.name} holds a network with gates as a layer, and {target.name} cannot "
            "reach gates there; build on that network's own graph instead: keras.Model(gated.input, "
            "new_head(gated.get_layer('pool').output))"
        )


def _check_images(
    deployment: Deployment,
    precision: str,
    calibration: np.ndarray | None,
    labels: Sequence[str] | None,
) -> None:
    """Refuses calibration images and labels that do not fit the network."""
    network = deployment.main
    empty = calibration is not None and len(calibration) == 0
    if empty or (calibration is None and precision == "int8"):
        raise ValueError(
            "calibration needs images in [0, 255], as the file will see them: one at least to "
            "compare with Keras on, some hundred for int8"
        )
    shape = network.inputs[0].shape
    if calibration is not None and np.shape(calibration)[1:] != shape[1:]:
        raise ValueError(
            f"the calibration images have shape {np.shape(calibration)}, and {deployment.name} "
            f"takes {shape}"
        )
    classes = interface(network).logits_tensor.shape[-1]
    if labels is not None and len(labels) != classes:
        raise ValueError(f"{len(labels)} labels do not name {classes} classes")


# ---- files


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Gives a folder next to `path` to work in, which is gone afterwards."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            yield Path(folder)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(
            error.errno,
            f"{path} was not written ({reason}); give a path that can be written, with room for it",
        ) from error


def _check_replaceable(path: Path, target: Format, several: bool) -> None:
    """Refuses a path where something stands that is no export of the same kind."""
    marker = target.marker(several)
    if path.is_dir() and not (marker and (path / marker).is_file()):
        raise FileExistsError(errno.EEXIST, f"a folder that is no {target.name} export is there")
    if path.is_file() and marker:
        raise FileExistsError(errno.EEXIST, "a file is there, and this export is a folder")


def _move(draft: Path, path: Path) -> None:
    """Puts the finished draft in its place."""
    if path.is_dir():
        shutil.rmtree(path)
    os.replace(draft, path)


def _fingerprint(path: Path) -> tuple[int, str]:
    """Gives bytes and sha256 of a file, or of all files in a folder."""
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    digest, size = hashlib.sha256(), 0
    for file in files:
        content = file.read_bytes()
        digest.update(content)
        size += len(content)
    return size, digest.hexdigest()


def _description(
    deployment: Deployment, report: Report, labels: Sequence[str] | None
) -> dict[str, Any]:
    """Gives the content of the JSON file."""
    packages = (
        "keras",
        "tensorflow",
        "keras-dynnets",
        "ai-edge-litert",
        "onnx",
        "onnxruntime",
        "tf2onnx",
    )
    return {
        "model": deployment.name,
        "labels": None if labels is None else [str(label) for label in labels],
        "input": {
            "name": "images",
            "shape": [report.batch_size, *deployment.main.inputs[0].shape[1:]],
            "dtype": "float32",
            "range": [0, 255],
        },
        "report": dataclasses.asdict(report),
        "versions": {name: _version(name) for name in packages},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
