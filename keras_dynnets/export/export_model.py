"""One call from a model to a verified file."""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

import keras
import numpy as np

from keras_dynnets import graph
from keras_dynnets.export import litert, onnx, saved_model
from keras_dynnets.export.deploy import deploy_parts
from keras_dynnets.export.level_switch import LevelSwitch, switching
from keras_dynnets.export.verify import ExportError, check, verification_images
from keras_dynnets.layers import MultiPath
from keras_dynnets.models import CNSN, DMNN, PuppetCNN

FORMATS = {"litert": litert, "onnx": onnx, "saved_model": saved_model}
PRECISIONS = ("fp32", "fp16", "int8")
KERNELS = ("materialised", "generator")
SUFFIXES = {".tflite": "litert", ".onnx": "onnx"}


@dataclasses.dataclass(frozen=True)
class Report:
    """What an export gave and how it was checked.

    Attributes:
        path, format, precision, batch_size: what was asked for; a batch size of None takes any.
        bytes, sha256: of the file (of a SavedModel: of all its files, in the order of their names).
        operations: how often each operation stands in the file, branches included.
        images: how many were run through the file in its runtime; 0 if verification was off.
        paths: different gate patterns among them.
        max_abs_diff, mean_abs_diff: of the logits against the Keras model.
        top1_agreement: share of the images with the same class first.
    """

    path: str
    format: str
    precision: str
    batch_size: int | None
    bytes: int
    sha256: str
    operations: dict
    images: int = 0
    paths: int = 0
    max_abs_diff: float | None = None
    mean_abs_diff: float | None = None
    top1_agreement: float | None = None


def export_model(
    model,
    path,
    format="litert",
    precision="fp32",
    batch_size=None,
    verify=True,
    gates=False,
    labels=None,
    images=None,
    calibration=None,
    levels=None,
    kernels="materialised",
):
    """Exports a model to the file of another runtime, and checks the file there.

    Beside the file stands `<path>.json` with labels, the range of the input, versions, the
    hash and the report. Both appear only when all is well: an export that fails leaves
    what was there before. Batch norm is folded, dropout and category heads are gone, and
    a closed gate skips its sub-block in the target runtime:

    - "litert": one image a call; every sub-block behind an `If`; builtin operations only.
    - "onnx": with batch_size 1 every sub-block behind an `If`; with None a `Scan` does
      that for every image of a batch.
    - "saved_model": the sparse form for any batch, the conditional one for batch_size 1.

    A `CNSN` becomes one file with all its models and every weight once: a signature for each, by its name
    ("base", "sub1", ...); in ONNX a folder with a file for each over one file of weights. What a
    model's own batch norm does beyond the base's then costs it a multiplication and an addition a value, which
    `model.detach(i)` alone has folded. Widths below 1 bring their own weights.

    A `PuppetCNN` becomes a file with the plain networks of its levels, each with kernels of its own, and the choice among
    them by the image's complexity; of a single level, that network and nothing else. With kernels="generator" (ONNX)
    the file holds the puppeteer in their place, and ONNX Runtime generates the kernels when it loads it.

    Args:
        model: a `DMNN`, a `CNSN`, a `PuppetCNN`, or any functional Keras model with one image input.
        path: the file, or for a SavedModel the folder.
        format: "litert", "onnx" or "saved_model".
        precision: "fp32"; "fp16" for weights stored in half the bytes, computing in float32; or
            "int8" for 8-bit integer arithmetic (LiteRT, networks without gates).
        batch_size: 1 or None (any). A LiteRT file always has 1.
        verify: whether to run the file in its runtime and compare it with Keras.
        gates: whether the file has a second output "gates" (batch, blocks, sub_blocks).
        labels: names of the classes, for the JSON file.
        images: images in [0, 255] to verify with; those that take the most different paths
            are picked. Default: those of `calibration`, or made-up ones.
        calibration: for "int8", some hundred images in [0, 255] of the kind that the file will
            see; the ranges of all values are taken from them.
        levels: of a `PuppetCNN`, those that the file has, places in `model.depths`; None for all. An image of another
            one goes to the nearest.
        kernels: of a `PuppetCNN`, what the file holds: "materialised" or "generator".

    Returns:
        A `Report`.

    Raises:
        ValueError: an unknown format or precision, a batch size the format does not have,
            gates of a network without them, labels of another number than the logits, "int8" without
            calibration, in another format or of a network with gates.
        ImportError: the `export` extra is not installed.
        OSError: the file cannot be written.
        ExportError: the conversion failed, or the file is not what it should be; the
            message says by how much, the file is gone.
    """
    path = Path(path)
    model = getattr(model, "_functional", None) or model  # what a built Sequential runs
    batch_size = _check(model, path, format, precision, batch_size, gates, labels, images, calibration)
    _check_puppet(model, format, precision, levels, kernels)
    parts = {name: model.part(name) for name in model.names} if isinstance(model, CNSN) else {}
    network = switching(model, levels) if isinstance(model, PuppetCNN) else graph.inference(model)
    if precision == "int8" and any(isinstance(layer, LevelSwitch) for layer in network.layers):
        raise ValueError(f"int8 is for one network a file; give levels=[k], or export model.materialise(k) of {model.name}")
    writer, half = FORMATS[format], precision == "fp16"
    outputs = ("logits", "gates") if gates else ("logits",)
    more = {} if precision != "int8" else {"calibration": np.asarray(calibration, "float32")}
    images = calibration if images is None else images
    with _beside(path) as folder:
        _check_replaceable(path, format, format == "saved_model" or (format == "onnx" and bool(parts)))
        draft = folder / path.name
        try:
            if kernels == "generator":
                from keras_dynnets.export import onnx_generator

                onnx_generator.write(model, levels, draft, batch_size)
            elif parts:
                writer.write_parts(parts, draft, batch_size, half)
            else:
                writer.write(network, draft, batch_size, half, outputs, **more)
        except (ImportError, OSError):
            raise
        except Exception as error:
            raise ExportError(f"{path}: {model.name} does not convert to {format}: {error}") from error
        report = Report(str(path), format, precision, batch_size, *_fingerprint(draft), writer.operations(draft))
        if verify:
            with _choosing_by_themselves(network):
                report = _verified(report, writer, draft, parts or {None: network}, images)
        sidecar = folder / "report.json"
        sidecar.write_text(json.dumps(_description(model, report, labels), indent=1) + "\n")
        _move(draft, path)
        os.replace(sidecar, f"{path}.json")
    return report


@contextlib.contextmanager
def _choosing_by_themselves(network):
    """The reference runs its blocks as `predict` does, whatever form the user has set."""
    blocks = [layer for layer in network.layers if isinstance(layer, MultiPath)]
    before = [block.execution for block in blocks]
    try:
        for block in blocks:
            block.execution = "auto"
        yield
    finally:
        for block, execution in zip(blocks, before, strict=True):
            block.execution = execution


@contextlib.contextmanager
def _beside(path):
    """A folder next to `path` to work in, gone afterwards; an OSError inside tells what to do."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            yield Path(folder)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(
            error.errno, f"{path} was not written ({reason}); give a path that can be, with room for it"
        ) from error


def _check(model, path, format, precision, batch_size, gates, labels, images, calibration):
    """Refuses what cannot be exported; returns the batch size of the file."""
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"exports start from TensorFlow graphs; KERAS_BACKEND is {keras.backend.backend()}: load the model there"
        )
    if format not in FORMATS:
        raise ValueError(f"format {format!r} is unknown; it is one of {', '.join(FORMATS)}")
    if isinstance(model, CNSN) and format == "onnx" and path.suffix:
        raise ValueError(f"in ONNX all parts of {model.name} make a folder; give its name, without {path.suffix!r}")
    owner = SUFFIXES.get(path.suffix, format)
    if owner != format:
        raise ValueError(
            f"{path.name} is the name of a file in the format {owner!r}, not {format!r}: give format={owner!r}"
        )
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is unknown; it is one of {', '.join(PRECISIONS)}")
    if batch_size not in (None, 1):
        raise ValueError(f"batch_size is 1, or None for any, not {batch_size!r}")
    if precision == "int8":
        if format != "litert":
            raise ValueError(f"int8 is for LiteRT files, not {format}; give precision='fp16' for a smaller one")
        if isinstance(model, CNSN):
            raise ValueError(f"int8 is for one network a file; export a part of {model.name}: model.detach(i)")
        if any(isinstance(layer, MultiPath) for layer in model._flatten_layers()):
            raise ValueError(f"{model.name} has gates, and int8 takes networks without; give precision='fp16'")
        if calibration is None or len(calibration) == 0:
            raise ValueError("int8 needs calibration: some hundred images in [0, 255], as the file will see them")
    elif calibration is not None:
        raise ValueError(f"calibration is for precision='int8', not {precision!r}")
    if images is not None and len(images) == 0:
        raise ValueError("images to verify with are needed, one at least, or None for made-up ones")
    if gates and not isinstance(model, DMNN):
        raise ValueError(f"{model.name} has no gates; only a DMNN has")
    functional = isinstance(model, keras.Model) and hasattr(model, "_nodes_by_depth")
    one_image = functional and len(model.inputs) == 1 and len(model.inputs[0].shape) == 4
    if not one_image or None in model.inputs[0].shape[1:]:
        raise ValueError(
            "an export takes a functional or built Sequential Keras model with one input of images of a fixed size; "
            f"this is {type(model).__name__} {getattr(model, 'name', '')!r}"
        )
    for name, given in (("images", images), ("calibration", calibration)):
        if given is not None and np.shape(given)[1:] != model.inputs[0].shape[1:]:
            raise ValueError(f"{name} have shape {np.shape(given)}, and {model.name} takes {model.inputs[0].shape}")
    nested = {layer for layer in model._flatten_layers() if isinstance(layer, MultiPath)} - set(model.layers)
    if nested and format == "onnx":
        raise ValueError(
            f"{model.name} holds a DMNN as a layer, whose gates ONNX cannot reach; build on its own graph instead: "
            "keras.Model(dmnn.input, new_head(dmnn.get_layer('pool').output))"
        )
    logits = {DMNN: "logits", CNSN: "base"}.get(type(model))
    logits = model.output[logits] if logits else model.output
    if not hasattr(logits, "shape"):
        raise ValueError(f"{model.name} has several outputs; an export takes a model whose one output is the logits")
    classes = logits.shape[-1]
    if labels is not None and len(labels) != classes:
        raise ValueError(f"{len(labels)} labels do not name {classes} classes")
    return 1 if format == "litert" else batch_size


def _check_puppet(model, format, precision, levels, kernels):
    if kernels not in KERNELS:
        raise ValueError(f"kernels are {' or '.join(KERNELS)}, not {kernels!r}")
    if isinstance(model, PuppetCNN):
        if kernels == "generator" and (format != "onnx" or precision != "fp32"):
            raise ValueError(
                "a file with the generator is for format='onnx' and precision='fp32', not "
                f"{format!r} and {precision!r}: other runtimes would generate for every image; give kernels='materialised'"
            )
    elif levels is not None or kernels == "generator":
        raise ValueError(f"{model.name} has no levels and no generator; only a PuppetCNN has")


def _verified(report, writer, draft, networks, images):
    """The report with what the file gives in its runtime, of all its parts the worst."""
    found = []
    together = deploy_parts(networks, half=True) if report.precision == "fp16" and len(networks) > 1 else {}
    for name, network in networks.items():
        chosen, paths = verification_images(network, images)
        try:
            run = writer.runner(draft, **({"part": name} if name else {}))
        except ImportError:
            raise
        except Exception as error:
            raise ExportError(f"{report.path}: its runtime does not load the file: {error}") from error
        try:
            found.append(check(run, network, chosen, report.batch_size, report.precision, together.get(name)))
        except ExportError as error:
            raise ExportError(f"{report.path} was removed: {f'{name}: ' if name else ''}{error}") from error
    largest, mean, agreement = zip(*found, strict=True)
    return dataclasses.replace(
        report,
        images=len(chosen),
        paths=paths,
        max_abs_diff=max(largest),
        mean_abs_diff=max(mean),
        top1_agreement=min(agreement),
    )


def _fingerprint(path):
    """Bytes and sha256 of a file, or of all files of a folder."""
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    digest, size = hashlib.sha256(), 0
    for file in files:
        content = file.read_bytes()
        digest.update(content)
        size += len(content)
    return size, digest.hexdigest()


def _description(model, report, labels):
    packages = ("keras", "tensorflow", "keras-dynnets", "ai-edge-litert", "onnx", "onnxruntime", "tf2onnx")
    return {
        "model": model.name,
        "labels": None if labels is None else [str(label) for label in labels],
        "input": {
            "name": "images",
            "shape": [report.batch_size, *model.input_shape[1:]],
            "dtype": "float32",
            "range": [0, 255],
        },
        "report": dataclasses.asdict(report),
        "versions": {name: _version(name) for name in packages},
    }


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _check_replaceable(path, format, folder):
    """An export replaces only what is of its own kind."""
    mark = {"saved_model": "saved_model.pb", "onnx": "base.onnx"}.get(format)
    if path.is_dir() and not (mark and folder and (path / mark).is_file()):
        raise FileExistsError(errno.EEXIST, f"a folder that is no {format} export is there")
    if path.is_file() and folder:
        raise FileExistsError(errno.EEXIST, "a file is there, and this export is a folder")


def _move(draft, path):
    """Puts the finished draft in its place."""
    if path.is_dir():
        shutil.rmtree(path)
    os.replace(draft, path)
