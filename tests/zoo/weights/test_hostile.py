"""Malicious and damaged files are refused by their name, and nothing in them is executed."""

import re
import warnings

import h5py
import helpers
import keras
import numpy as np
import pytest

from keras_dynnets import zoo
from keras_dynnets.core import registry
from keras_dynnets.zoo.weights import published
from keras_dynnets.zoo.weights.records import WeightsRecord, format_index

CLASSES = list("abcd")


def small(num_classes, input_shape, name=None):
    return keras.Model(*_graph(num_classes, input_shape), name=name)


def _graph(num_classes, input_shape):
    x = inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(3, 3, name="conv")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return inputs, keras.layers.Dense(num_classes, name="logits")(x)


@pytest.fixture
def file(monkeypatch, tmp_path):
    """An intact weights file of the entry "small"."""
    monkeypatch.setitem(
        registry.ENTRIES, "small", zoo.Entry("small", "resnet", small, (32, 32, 3), 4, "none")
    )
    path = tmp_path / "w.weights.h5"
    zoo.load("small", weights=None).save_weights(path)
    return path


def tensor(content, shape):
    """Returns the name of the first tensor with this shape in a weights file."""
    names = []
    content.visititems(
        lambda name, item: names.append(name) if getattr(item, "shape", None) == shape else None
    )
    return min(names)


KERNEL = (3, 3, 3, 3)


def wrong_shape(path):
    replace(
        path,
        lambda content, name: content.create_dataset(name, data=np.zeros((3, 3, 3, 5), "float32")),
    )


def missing_layer(path):
    with h5py.File(path, "a") as content:
        del content[tensor(content, KERNEL).split("/vars")[0]]


def missing_tensor(path):
    replace(path, lambda content, name: None)


def group_for_tensor(path):
    replace(path, lambda content, name: content.create_group(name))


def text_for_tensor(path):
    replace(path, lambda content, name: content.create_dataset(name, data="import os"))


def external_link(path):
    move_out(path)
    replace(
        path, lambda content, name: content.__setitem__(name, h5py.ExternalLink("out.h5", "values"))
    )


def soft_link(path):
    replace(path, lambda content, name: content.__setitem__(name, h5py.SoftLink("/elsewhere")))


def external_values(path):
    secret = path.with_name("secret")
    secret.write_bytes(bytes(4 * 81))
    stored = [(str(secret), 0, 4 * 81)]
    replace(
        path, lambda content, name: content.create_dataset(name, KERNEL, "float32", external=stored)
    )


def virtual_values(path):
    move_out(path)
    layout = h5py.VirtualLayout(KERNEL, "float32")
    layout[...] = h5py.VirtualSource(str(path.with_name("out.h5")), "values", KERNEL)
    replace(path, lambda content, name: content.create_virtual_dataset(name, layout))


def linked_group(path):
    """Replaces the group of a whole layer by a link to another file."""
    with h5py.File(path, "a") as content:
        name = tensor(content, KERNEL).split("/vars")[0]
        with h5py.File(path.with_name("out.h5"), "w") as out:
            content.copy(name, out, "layer")
        del content[name]
        content[name] = h5py.ExternalLink("out.h5", "layer")


def shape_bomb(path):
    replace(
        path,
        lambda content, name: content.create_dataset(
            name, (10**6, 10**6), "float32", chunks=(1000, 1000)
        ),
    )


def truncated(path):
    path.write_bytes(path.read_bytes()[:-5000])


def empty(path):
    path.write_bytes(b"")


def not_hdf5(path):
    path.write_bytes(b"PK\x03\x04" + bytes(5000))


def pickled(path):
    path.write_bytes(b"cposix\nsystem\n(S'touch executed'\ntR.")


def replace(path, put):
    with h5py.File(path, "a") as content:
        name = tensor(content, KERNEL)
        del content[name]
        put(content, name)


def move_out(path):
    with h5py.File(path.with_name("out.h5"), "w") as out:
        out["values"] = np.zeros(KERNEL, "float32")


DAMAGES = [
    wrong_shape,
    missing_layer,
    missing_tensor,
    group_for_tensor,
    text_for_tensor,
    external_link,
    soft_link,
]
DAMAGES += [
    external_values,
    virtual_values,
    linked_group,
    shape_bomb,
    truncated,
    empty,
    not_hdf5,
    pickled,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bad_weights_file_is_refused(file, damage, monkeypatch):
    monkeypatch.chdir(file.parent)
    assert zoo.load("small", file).name == "small"
    damage(file)
    with pytest.raises(
        ValueError,
        match=f"^{re.escape(str(file))} does not hold the weights of small with 4 classes",
    ):
        zoo.load("small", file)
    assert not (file.parent / "executed").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [KERNEL, (4,)])
def test_values_that_are_not_finite_are_refused(file, value, shape):
    with h5py.File(file, "a") as content:
        content[tensor(content, shape)][..., -1] = value
    with pytest.raises(
        ValueError,
        match=f"^{re.escape(str(file))} is refused: it holds values that are not finite, in ",
    ):
        zoo.load("small", file)


def test_every_truncation_is_refused(file):
    whole = file.read_bytes()
    for kept in np.linspace(0, len(whole) - 1, 25).astype(int):
        file.write_bytes(whole[:kept])
        with pytest.raises(ValueError, match="does not hold the weights of small"):
            zoo.load("small", file)


@pytest.mark.parametrize("damage", [wrong_shape, external_link])
def test_a_published_file_is_held_to_the_same(file, damage, monkeypatch, tmp_path):
    """The index of a mirror can hold the right checksum of a damaged file."""
    damage(file)
    publish(tmp_path / "zoo", file, monkeypatch)
    with pytest.raises(
        ValueError, match="small-one-.*weights.h5 does not hold the weights of small"
    ):
        zoo.load("small", "one")


def test_a_published_file_with_nan_is_refused(file, monkeypatch, tmp_path):
    with h5py.File(file, "a") as content:
        content[tensor(content, KERNEL)][0] = np.nan
    publish(tmp_path / "zoo", file, monkeypatch)
    with pytest.raises(
        ValueError, match=r"small-one-.*weights.h5 is refused: .* not finite, in conv/kernel$"
    ):
        zoo.load("small")


def publish(folder, file, monkeypatch):
    fields = helpers.record_fields(file.read_bytes(), "small", classes=CLASSES)
    place = folder / "small" / fields["file"]
    place.parent.mkdir(parents=True)
    file.rename(place)
    (folder / "index.json").write_text(format_index([WeightsRecord.model_validate(fields)]))
    monkeypatch.setattr(published, "PUBLISHED", folder)


def test_only_the_part_that_is_read_must_be_finite(monkeypatch, tmp_path):
    monkeypatch.setitem(registry.ENTRIES, "parts", helpers.PARTS_ENTRY)
    model = zoo.load("parts", weights=None)
    model.get_layer("stage1_conv").kernel.assign(np.full((3, 3, 3, 8), np.nan))
    model.save_weights(tmp_path / "p.weights.h5")
    with pytest.raises(ValueError, match="not finite, in stage1_conv/kernel"):
        zoo.load("parts", tmp_path / "p.weights.h5")
    assert zoo.load("parts", tmp_path / "p.weights.h5", sub_model=2)


# ---- whole models


@pytest.fixture
def lambda_file(tmp_path):
    """A `.keras` file that writes a file when its code runs."""
    mark = str(tmp_path / "executed")
    inputs = keras.Input((2,))
    layer = keras.layers.Lambda(lambda x: (open(mark, "w").close(), x)[1], output_shape=(2,))
    path = tmp_path / "m.keras"
    keras.Model(inputs, layer(inputs)).save(path)
    (tmp_path / "executed").unlink(missing_ok=True)  # the model ran it when it was made
    return path


def test_keras_refuses_a_lambda(lambda_file):
    mark = lambda_file.with_name("executed")
    with pytest.raises(ValueError, match="(?i)lambda.*unsafe|unsafe.*lambda"):
        keras.saving.load_model(lambda_file)
    assert not mark.exists()
    model = keras.saving.load_model(lambda_file, safe_mode=False)  # it would have been executed
    model(np.zeros((1, 2)))
    assert mark.exists()


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.weights.json", "m"])
def test_zoo_load_takes_no_whole_model(lambda_file, name):
    path = lambda_file.rename(lambda_file.with_name(name))
    message = (
        r"zoo.load takes the weights of a model, a .weights.h5 file .* not "
        r".*a .keras file is a whole model: zoo.load\(path\)"
    )
    with pytest.raises(ValueError, match=message):
        zoo.load("resnet20", path)
    with pytest.raises((ValueError, TypeError, FileNotFoundError)):  # nor does it run so
        zoo.load(path)
    if path.suffix in (".keras", ".h5"):
        with pytest.raises(ValueError, match="zoo.load takes the weights of a model"):
            zoo.load("resnet20", str(path))
    assert not path.with_name("executed").exists()


def test_a_model_under_the_name_of_weights(file, lambda_file):
    """Keras chooses the format by the file name, and refuses what is not HDF5."""
    lambda_file.rename(file)
    with (
        warnings.catch_warnings(),
        pytest.raises(ValueError, match="does not hold the weights of small"),
    ):
        warnings.simplefilter("error")
        zoo.load("small", file)
    assert not file.with_name("executed").exists()
