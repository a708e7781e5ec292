"""The front door: names to models."""

import difflib
import fnmatch
import functools
import logging
import math
import os
import re
import warnings
from pathlib import Path

from keras_dynnets import cost, graph
from keras_dynnets.models import DMNN, cnsn, convnet, lenet5, mlp, mobilenet_v2, puppet, resnet, tissue, vgg
from keras_dynnets.zoo.entry import Entry, Info
from keras_dynnets.zoo.weights import NoShelfError, fill, records, verified_file

log = logging.getLogger("keras_dynnets")


class UntrainedModelWarning(UserWarning):
    """A model comes with random weights because its entry publishes none."""


def _entries():
    imagenet, cifar = ((224, 224, 3), 1000), ((32, 32, 3), 10)
    digits, tiny_imagenet = ((28, 28, 1), 10), ((64, 64, 3), 200)
    plain = {
        "resnet20": cifar,
        "resnet18_cifar": cifar,
        "resnet34": imagenet,
        "resnet50_cifar": ((32, 32, 3), 100),
        "resnet50": imagenet,
        "resnet101": imagenet,
    }
    for name, form in plain.items():
        yield Entry(name, "resnet", resnet, *form, "1512.03385", {"network": name})
    for name, form in {"mobilenetv2": imagenet, "mobilenetv2_140": imagenet, "mobilenetv2_cifar": cifar}.items():
        yield Entry(name, "mobilenetv2", mobilenet_v2, *form, "1801.04381", {"network": name})
    for name, form in {"vgg16_cifar": cifar, "vgg16_cnsn": cifar, "vgg16_cnsn_half": cifar, "vgg19": tiny_imagenet}.items():
        yield Entry(name, "vgg", vgg, *form, "1409.1556", {"network": name}, smallest=32)
    yield Entry("mlp", "mlp", mlp, *digits, "2205.01508")
    yield Entry("lenet5", "mlp", lenet5, *digits, "10.1109/5.726791")
    dynamic = {
        "dmnn20": ("resnet20", 2, cifar),
        "dmnn50_cifar": ("resnet50_cifar", 2, ((32, 32, 3), 100)),
        "dmnn50": ("resnet50", 2, imagenet),
        "dmnn50_n3": ("resnet50", 3, imagenet),
        "dmnn50_n4": ("resnet50", 4, imagenet),
        "dmnn101": ("resnet101", 2, imagenet),
        "dmnn_mobilenetv2": ("mobilenetv2", 2, imagenet),
        "dmnn_mobilenetv2_140": ("mobilenetv2_140", 2, imagenet),
    }
    for name, (backbone, sub_blocks, form) in dynamic.items():
        yield Entry(name, "dmnn", DMNN, *form, "1902.10949", {"backbone": backbone, "sub_blocks": sub_blocks})
    detachable = {"cnsn_vgg16": "vgg16_cnsn", "cnsn_vgg16_half": "vgg16_cnsn_half", "cnsn_resnet18": "resnet18_cifar"}
    for name, network in detachable.items():
        smallest, arguments = 32 if "vgg" in name else 16, {"network": network}
        yield Entry(name, "cnsn", cnsn.detachable_network, *cifar, "10.2991/jrnal.k.210521.012", arguments, smallest)
    stacked = {
        "tissue_mlp": (tissue.tissue_mlp, digits, {}),
        "tissue_lenet5": (tissue.tissue_lenet5, digits, {}),
        "tissue_vgg16": (tissue.tissue_vgg16, cifar, {}),
        "tissue_vgg19": (tissue.tissue_vgg19, tiny_imagenet, {"keep_ends": False}),
        "tissue_vgg19_r": (tissue.tissue_vgg19, tiny_imagenet, {"keep_ends": True}),
        "tissue_resnet18": (tissue.tissue_resnet, cifar, {"network": "resnet18"}),
        "tissue_resnet18_r": (tissue.tissue_resnet, cifar, {"network": "resnet18_r"}),
        "tissue_resnet34_r": (tissue.tissue_resnet, imagenet, {"network": "resnet34_r"}),
        "tissue_mobilenetv2_r": (tissue.tissue_mobilenet_v2, cifar, {}),
    }
    for name, (builder, form, arguments) in stacked.items():
        smallest = 32 if "vgg" in name else 16
        yield Entry(name, "tissue", builder, *form, "2205.01508", arguments, smallest)
    for name in ("convnet", "convnet_128", "alexnet_conv", "vgg16_conv", "resnet18_conv"):
        yield Entry(name, "convnet", convnet, *cifar, "2411.12876", {"network": name})
    puppets = {
        "puppet_cnn": "convnet",
        "puppet_cnn_128": "convnet_128",
        "puppet_alexnet": "alexnet_conv",
        "puppet_vgg16": "vgg16_conv",
        "puppet_resnet18": "resnet18_conv",
    }
    for name, network in puppets.items():
        yield Entry(name, "puppet", puppet.puppet_cnn, *cifar, "2411.12876", {"network": network})


ENTRIES = {entry.name: entry for entry in _entries()}


def find(name):
    """The entry called `name`.

    Raises:
        ValueError: there is none; the message lists names close to it.
    """
    if name in ENTRIES:
        return ENTRIES[name]
    close = difflib.get_close_matches(str(name), ENTRIES, n=4, cutoff=0.4)
    hint = f"did you mean {', '.join(close)}?" if close else "zoo.list_models() lists all names"
    raise ValueError(f"no model {name!r} in the zoo; {hint}")


def list_models(pattern="*", pretrained=False):
    """Names of the zoo's models in natural order.

    Args:
        pattern: shell-style, such as "dmnn*".
        pretrained: only those with published weights.
    """
    published = {r.entry for r in records()} if pretrained else ENTRIES
    names = [n for n in fnmatch.filter(ENTRIES, pattern) if n in published]
    return sorted(names, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)])


def info(name):
    """What the zoo knows of a model, as a frozen `Info`; params and MACs are counted on the model itself."""
    entry = find(name)
    params, macs = _counted(name)
    try:
        tags = tuple(r.tag for r in records(name))
    except NoShelfError:
        tags = ()
    return Info(name, entry.family, entry.input_shape, entry.num_classes, params, macs, entry.paper, tags)


@functools.cache
def _counted(name):
    model = find(name).build()
    return sum(math.prod(w.shape) for w in model.trainable_weights), cost.model_macs(graph.inference(model))


def load(name, weights="default", num_classes=None, input_shape=None, **options):
    """A model by its name, logits out.

    Args:
        name: one of `list_models()`.
        weights: a published tag such as "cifar10"; the path of a `.weights.h5` file;
            None for random weights; "default" for what the entry publishes first, with
            an `UntrainedModelWarning` where it publishes nothing.
        num_classes: size of the logits. Another number than published weights have gives a
            new head on the pretrained rest; the log names the new tensors. A file is loaded whole.
        input_shape: (height, width, 3); images are float in [0, 255], normalised inside.
        **options: the builder's, such as `target_rate` (the share of work of a DMNN); of a CNSN also `sub_model` and
            `width`, to have that part detached (see `CNSN.detach`) with no other weights read.

    Returns:
        A `keras.Model`, not compiled.

    Raises:
        ValueError: an unknown name, tag or size, with a message that lists what there is; a file that is damaged,
            has another network's weights or values that are not finite, or is none of weights.
        TypeError: an option that the entry does not have.
        FileNotFoundError: a path that is not there.
        RuntimeError: a published file that is missing or damaged and cannot be had, or no shelf to look on.
        OSError: a folder for downloaded files that cannot be written.
    """
    entry = find(name)
    part = {key: options.pop(key) for key in ("sub_model", "width") if entry.family == "cnsn" and key in options}
    model = _load(entry, weights, num_classes, input_shape, options, part)
    return model.detach(**part) if part else model


def _load(entry, weights, num_classes, input_shape, options, part):
    """The whole model, with its weights or at least those of the part."""
    if weights is None:
        return entry.build(num_classes, input_shape, **options)
    if _is_file(weights):
        return _load_file(entry, Path(weights), num_classes, input_shape, options, part)
    name, published = entry.name, records(entry.name)
    if weights == "default" and not published:
        model = entry.build(num_classes, input_shape, **options)
        message = f"{name} has no published weights yet: this model is untrained (weights=None says that you know)"
        warnings.warn(message, UntrainedModelWarning, stacklevel=3)
        return model
    chosen = [r for r in published if weights in ("default", r.tag)]
    if not chosen:
        there = ", ".join(repr(r.tag) for r in published) or "none yet"
        raise ValueError(f"{name} has no weights {weights!r}; published: {there}; or give a .weights.h5 file, or None")
    return _load_record(entry, chosen[0], num_classes, input_shape, options, part)


def _is_file(weights):
    return isinstance(weights, os.PathLike) or str(weights).endswith((".h5", ".keras"))


def labels(name, weights="default"):
    """Names of the classes that a published set of weights tells apart; None for other weights."""
    entry = find(name)
    if weights is None or _is_file(weights):
        return None
    published = [r for r in records(entry.name) if weights in ("default", r.tag)]
    return published[0].classes if published else None


def _load_file(entry, path, num_classes, input_shape, options, part):
    if not path.name.endswith(".weights.h5"):
        raise ValueError(
            f"zoo.load takes the weights of a model, a .weights.h5 file as model.save_weights writes it, not {path}; "
            "a .keras file is a model of its own: keras.saving.load_model(path)"
        )
    if not path.is_file():
        raise FileNotFoundError(f"no weights file {path}")
    model = entry.build(num_classes, input_shape, **options)
    fill(model, path, part)
    return model


def _load_record(entry, record, num_classes, input_shape, options, part):
    path = verified_file(record)
    pretrained = entry.build(len(record.classes), record.input_shape, **record.options)
    fill(pretrained, path, part)
    num_classes = len(record.classes) if num_classes is None else num_classes
    input_shape = record.input_shape if input_shape is None else input_shape
    same_form = num_classes == len(record.classes) and input_shape in (record.input_shape, list(record.input_shape))
    if hasattr(pretrained, "accuracy") and record.validation:
        pretrained.accuracy = record.validation["sub_models"]
    if same_form and not options:
        return pretrained
    model = entry.build(num_classes, input_shape, **{**record.options, **options})
    values = {v.path: v for v in pretrained.weights}
    new = []
    for variable in model.weights:
        if variable.path in values and values[variable.path].shape == variable.shape:
            variable.assign(values[variable.path])
        else:
            new.append(variable.path)
    log.log(logging.WARNING if new else logging.INFO, "%s: newly initialised: %s", entry.name, ", ".join(new) or "nothing")
    return model
