"""One call from a model to a verified file."""

import dataclasses
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from keras_dynnets.core.arguments import whole_number
from keras_dynnets.core.class_names import names_of_classes, stated_names
from keras_dynnets.core.conditional import gated_layers, running_as
from keras_dynnets.core.dynamic import Deployment, interface
from keras_dynnets.export.checks import check_images, check_network, check_request
from keras_dynnets.export.deployment import deploy_parts
from keras_dynnets.export.files import beside, check_replaceable, fingerprint, move
from keras_dynnets.export.formats.base import Format, WriteJob, find_format, formats
from keras_dynnets.export.labels import class_labels
from keras_dynnets.export.verify import ExportError, check, verification_images

log = logging.getLogger("keras_dynnets")

Labels = Iterable[str] | Mapping[int, str] | Mapping[str, int] | str | os.PathLike | None


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
        gate_flips: number of these images for which a gate opened in the file and not in Keras, or
            the reverse. Rounding decides where the score of a gate is near 0.
        ungated_branches: number of gated branches without a condition in the file, because it
            would take more time than it saves. They run for every image and are multiplied by
            their gates.
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
    gate_flips: int = 0
    ungated_branches: int = 0


def export_model(
    model: Any,
    path: str | os.PathLike,
    format: str | None = None,
    precision: str = "fp32",
    batch_size: int | None = None,
    labels: Labels = None,
    calibration: np.ndarray | None = None,
) -> Report:
    """Exports a model to the file of another runtime, and checks the file there.

    Beside the file stands `<path>.json` with the labels, the range of the input, versions, the
    hash and the report. Both appear only when the file has been checked: an export that fails
    leaves what was there before. Batch norm is folded and dropout is gone.

    Where a network skips work, the file skips it too. In LiteRT, and in ONNX with a batch size of
    1, every gated branch stands behind an `If`; ONNX for any batch runs that image by image in a
    `Scan`; a SavedModel groups the images of a batch by branch. Small branches are exceptions:
    where a condition would take more time than it saves, they run for every image and are
    multiplied by their gates. A model of several networks that
    share weights gives one file with every weight once and a signature for each network (in ONNX a
    folder with a file for each network).

    Args:
        model: a model of the zoo, any functional or built `Sequential` Keras model with one image
            input, or what `model.deployments(...)` gives for options of the model's family, such
            as `model.deployments(gates=True)`.
        path: of the file; for a SavedModel and for several ONNX networks, of the folder.
        format: name of a format, such as "litert", "onnx" or "saved_model"; None for the one
            whose files end as the path does.
        precision: "fp32"; "fp16" for weights in half the bytes and arithmetic in float32;
            "int8" for arithmetic in 8-bit integers (LiteRT, networks without gates).
        batch_size: images in a call, from 1; None for any number, and for 1 in LiteRT. Numbers
            above 1 are for ONNX and, in other formats, for networks without conditions.
        labels: names of the classes for the JSON file: a list or array in the order of the
            logits; a dict from index to name or from name to index; or the path of a text file
            with one name a line. None for those that the model knows: its `class_names`, which
            published weights and runs bring along.
        calibration: images of the kind that the file will see, (n, height, width, channels) in
            [0, 255]. The file is compared with Keras on those that take the most different
            paths; "int8" needs some hundred, to find the range of every value. None to compare
            on made-up images.

    Returns:
        A `Report`.

    Raises:
        ValueError: a format, precision or batch size that cannot be, a model that is not one of
            images to logits, labels that do not name each logit once, or "int8" without
            calibration.
        ImportError: the extra `export` is not installed.
        OSError: the file cannot be written.
        ExportError: the conversion failed, or the results of the file differ from Keras's; the
            message says by how much, and the file is gone.

    Example:
        >>> report = export_model(zoo.load("resnet20"), "model.tflite")
        >>> report.top1_agreement
        1.0
    """
    path = Path(path).expanduser()
    batch_size = None if batch_size is None else whole_number("batch_size", batch_size)
    deployment = model if isinstance(model, Deployment) else interface(model).deployments()
    target = find_format(format, path)
    several = deployment.single is None
    batch_size = check_request(deployment, target, path, precision, batch_size)
    check_network(deployment, target, precision)
    check_images(deployment, precision, calibration)
    names = _known_labels(model, deployment) if labels is None else labels
    if names is not None:
        names = class_labels(names, interface(deployment.main).logits_tensor.shape[-1])
    job = WriteJob(
        batch_size,
        precision == "fp16",
        deployment.outputs,
        np.asarray(calibration, "float32") if precision == "int8" else None,
    )
    with beside(path) as folder:
        check_replaceable(path, target, several)
        draft = folder / path.name
        _write(deployment, target, path, draft, job)
        report = Report(
            str(path),
            target.name,
            precision,
            batch_size,
            *fingerprint(draft),
            target.operations(draft),
        )
        report = dataclasses.replace(
            _verified(report, target, draft, deployment, calibration),
            ungated_branches=_ungated_branches(deployment, target, batch_size),
        )
        sidecar = folder / "report.json"
        sidecar.write_text(
            json.dumps(_description(deployment, target, report, names), indent=1) + "\n"
        )
        move(draft, path)
        os.replace(sidecar, f"{path}.json")
    return report


def _known_labels(model: Any, deployment: Deployment) -> tuple[str, ...] | None:
    """Gives the names of the classes that the model knows; None where they may have changed."""
    names = deployment.class_names or names_of_classes(model)
    if names is None and stated_names(model):
        log.warning(
            "%s has other weights than those that the names of its classes came with, so they may "
            "have changed and are left out; give labels=model.class_names if they are the same",
            deployment.name,
        )
    return names


def _write(deployment: Deployment, target: Format, path: Path, draft: Path, job: WriteJob) -> None:
    """Writes the file; an error of the conversion says which model and format it is about."""
    try:
        target.write_deployment(deployment, draft, job)
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
            chosen, paths = verification_images(network, images, report.batch_size)
            try:
                run = target.runner(draft, part=name if several else None)
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
                        given=images is not None,
                    )
                )
            except ExportError as error:
                which = f"{name}: " if several else ""
                raise ExportError(f"{report.path} was removed: {which}{error}") from error
    largest, mean, agreement, flips = zip(*found, strict=True)
    return dataclasses.replace(
        report,
        images=len(chosen),
        paths=paths,
        max_abs_diff=max(largest),
        mean_abs_diff=max(mean),
        top1_agreement=min(agreement),
        gate_flips=max(flips),
    )


def _ungated_branches(deployment: Deployment, target: Format, batch_size: int | None) -> int:
    """Counts the gated branches that have no condition in a file."""
    layers = [layer for net in deployment.networks.values() for layer in gated_layers(net)]
    cheap = partial(target.runs_always, batch_size=batch_size)
    return sum(len(layer.cheap_branches(cheap)) for layer in layers)


def _description(
    deployment: Deployment, target: Format, report: Report, labels: Sequence[str] | None
) -> dict[str, Any]:
    """Gives the content of the JSON file."""
    packages = ["keras", "tensorflow", "keras-dynnets"]
    packages += [package for known in formats() for package in known.packages]
    return {
        "model": deployment.name,
        "labels": None if labels is None else list(labels),
        "input": {
            "name": "images",
            "shape": [report.batch_size, *deployment.main.inputs[0].shape[1:]],
            "dtype": "float32",
            "range": [0, 255],
        },
        "report": dataclasses.asdict(report),
        **({"note": target.note} if target.note else {}),
        "versions": {name: _version(name) for name in packages},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
