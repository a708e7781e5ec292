import dataclasses
import json
import logging
import warnings

import h5py
import helpers
import numpy as np
import pytest
from helpers import images, record_fields, scatter_gates

from keras_dynnets import zoo
from keras_dynnets.core.registry import ENTRIES
from keras_dynnets.families.dmnn.model import DMNN
from keras_dynnets.zoo.weights import published
from keras_dynnets.zoo.weights.records import format_index


def test_list_models():
    names = zoo.list_models()
    assert sorted(names) == sorted(ENTRIES)
    assert zoo.list_models("dmnn5*") == ["dmnn50", "dmnn50_cifar", "dmnn50_n3", "dmnn50_n4"]
    assert (
        names.index("dmnn20") < names.index("dmnn50") < names.index("dmnn101")
    )  # natural, not by character
    assert names.index("resnet50") < names.index("resnet101")
    assert zoo.list_models("no*") == []


def test_info_is_frozen():
    info = zoo.info("resnet20")
    assert (info.family, info.input_shape, info.num_classes, info.paper) == (
        "resnet",
        (32, 32, 3),
        10,
        "1512.03385",
    )
    assert (info.params, info.macs) == (272_474, 40_813_184)
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.params = 0


# ---- bad input


@pytest.mark.parametrize("function", [zoo.load, zoo.info])
def test_unknown_name_lists_the_close_ones(function):
    with pytest.raises(ValueError, match="no model 'dmn20' in the zoo; did you mean .*dmnn20"):
        function("dmn20")
    with pytest.raises(ValueError, match=r"no model '\?'.* zoo.list_models\(\) lists all"):
        function("?")


@pytest.mark.parametrize("num_classes", [0, -1, 2.5, "ten"])
def test_num_classes_is_checked(num_classes):
    with pytest.raises(ValueError, match="num_classes must be an integer of 1 or more"):
        zoo.load("resnet20", None, num_classes=num_classes)


@pytest.mark.parametrize(
    "shape",
    [32, (), (32, 32), (32, 32, 1), (3, 32, 32), (8, 8, 3), (None, None, 3), (32.5, 32, 3), "32"],
)
def test_input_shape_is_checked(shape):
    with pytest.raises(
        ValueError,
        match=r"input_shape is \(height, width, 3\) .* resnet20 has \(32, 32, 3\) by default",
    ):
        zoo.load("resnet20", None, input_shape=shape)


def test_options_are_checked():
    with pytest.raises(
        TypeError, match="dmnn20 has no option rate; it takes num_classes, input_shape, target_rate"
    ):
        zoo.load("dmnn20", None, rate=0.5)
    with pytest.raises(TypeError, match="dmnn20 has no option backbone"):  # what the name fixes
        zoo.load("dmnn20", None, backbone="resnet50")
    with pytest.raises(
        TypeError, match="resnet20 has no option target_rate; it takes num_classes, input_shape$"
    ):
        zoo.load("resnet20", None, target_rate=0.5)
    with pytest.raises(ValueError, match="above 0 and at most 1, not 1.5"):
        zoo.load("dmnn20", None, target_rate=1.5)


def test_wrong_images_are_refused():
    model = zoo.load("resnet20", None)
    for bad in (np.zeros((1, 16, 16, 3)), np.zeros((1, 32, 32, 4)), np.zeros((32, 32, 3))):
        with pytest.raises(ValueError, match=r"expected shape=\(None, 32, 32, 3\)"):
            model(bad.astype("float32"))


def test_integer_images_give_the_logits_of_float_ones():
    model = zoo.load("resnet20", None)
    x = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("uint8")
    np.testing.assert_allclose(model(x), model(x.astype("float32")), rtol=1e-5)


def test_options_reach_the_model():
    model = zoo.load(
        "dmnn20", None, num_classes=7, input_shape=(48, 40, 3), target_rate=0.4, seed=3
    )
    assert isinstance(model, DMNN) and model.name == "dmnn20"
    assert (model.num_classes, model.target_rate, model.seed) == (7, 0.4, 3)
    assert model.input_shape == (None, 48, 40, 3)
    assert model(np.zeros((1, 48, 40, 3), "float32")).shape == (1, 7)


# ---- weights


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder of published weights in place of the checkout's."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    (folder / "index.json").write_text(format_index([]))
    monkeypatch.setattr(published, "PUBLISHED", folder)
    return folder


def put(folder, entry, tag, model, classes, **changes):
    """Publishes a model as `zoo/index.json` would list it."""
    draft = folder / "draft.weights.h5"
    model.save_weights(draft)
    shape = model.input_shape[1:]
    record = record_fields(
        draft.read_bytes(), entry, tag, classes=classes, input_shape=shape, **changes
    )
    path = folder / entry / record["file"]
    path.parent.mkdir(exist_ok=True)
    draft.rename(path)
    index = json.loads((folder / "index.json").read_text())
    index["weights"].append(record)
    (folder / "index.json").write_text(json.dumps(index))
    return path


def trained(name, **arguments):
    model = zoo.load(name, None, **arguments)
    return scatter_gates(model) if isinstance(model, DMNN) else model


CLASSES = list("abcd")


def test_untrained_warning(folder):
    with pytest.warns(
        zoo.UntrainedModelWarning, match="no weights of resnet20 are published yet.*weights=None"
    ):
        zoo.load("resnet20")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zoo.load("resnet20", weights=None)


def test_unknown_tag_lists_those_there(folder):
    with pytest.raises(ValueError, match="resnet20 has no weights 'cifar10'; published: none yet"):
        zoo.load("resnet20", weights="cifar10")
    for tag in ("one", "two"):
        put(folder, "resnet20", tag, trained("resnet20", num_classes=4), CLASSES)
    with pytest.raises(
        ValueError, match="resnet20 has no weights 'three'; published: 'one', 'two'; or give"
    ):
        zoo.load("resnet20", weights="three")


@pytest.mark.parametrize("name", ["resnet20", "dmnn20"])
def test_published_weights_load(folder, name):
    model = trained(name, num_classes=4)
    put(folder, name, "one", model, CLASSES)
    put(folder, name, "two", trained(name, num_classes=4), CLASSES)
    assert zoo.list_models(pretrained=True) == [name]
    assert zoo.info(name).weights == ("one", "two")
    x = images(4, 32, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", zoo.UntrainedModelWarning)
        for tag in ("one", "default"):
            loaded = zoo.load(name, weights=tag)
            np.testing.assert_array_equal(loaded(x), model(x))
    assert (np.asarray(zoo.load(name, weights="two")(x)) != np.asarray(model(x))).any()


def test_recorded_options_are_the_default(folder):
    put(
        folder,
        "dmnn20",
        "one",
        trained("dmnn20", num_classes=4),
        CLASSES,
        options={"target_rate": 0.4},
    )
    assert zoo.load("dmnn20", "one").target_rate == 0.4
    assert zoo.load("dmnn20", "one", target_rate=0.6).target_rate == 0.6


@pytest.mark.parametrize("name", ["resnet20", "dmnn20"])
def test_another_num_classes_keeps_everything_but_the_head(folder, name, caplog):
    model = trained(name, num_classes=4)
    put(folder, name, "one", model, CLASSES)
    with caplog.at_level(logging.INFO, "keras_dynnets"):
        loaded = zoo.load(name, "one", num_classes=6)
    assert loaded.get_layer("logits").kernel.shape == (64, 6)
    stored = {w.path: w.numpy() for w in model.weights}
    rest = [w for w in loaded.weights if not w.path.startswith("logits/")]
    assert len(rest) == len(loaded.weights) - 2 == len(stored) - 2
    for weight in rest:
        np.testing.assert_array_equal(weight.numpy(), stored[weight.path])
    assert caplog.messages == [f"{name}: newly initialised: logits/kernel, logits/bias"]


def test_options_that_add_weights_leave_the_published_ones(folder, caplog):
    model = trained("dmnn20", num_classes=4)
    put(folder, "dmnn20", "one", model, CLASSES)
    with caplog.at_level(logging.INFO, "keras_dynnets"):
        loaded = zoo.load("dmnn20", "one", categories=[0, 0, 1, 1])
    x = images(4, 32)
    np.testing.assert_array_equal(loaded(x), model(x))
    assert "category1/kernel" in caplog.text and "conv" not in caplog.text


def test_a_file_of_another_network_is_refused(tmp_path):
    trained("resnet20", num_classes=4).save_weights(tmp_path / "four.weights.h5")
    with pytest.raises(
        ValueError,
        match="does not hold the weights of resnet20 with 10 classes; give the num_classes",
    ):
        zoo.load("resnet20", tmp_path / "four.weights.h5")
    with pytest.raises(ValueError, match="does not hold the weights of dmnn20 with 4 classes"):
        zoo.load("dmnn20", tmp_path / "four.weights.h5", num_classes=4)
    (tmp_path / "text.weights.h5").write_text("no weights")
    with pytest.raises(ValueError, match="does not hold the weights"):
        zoo.load("resnet20", tmp_path / "text.weights.h5")
    assert zoo.load("resnet20", tmp_path / "four.weights.h5", num_classes=4).output_shape == (
        None,
        4,
    )


def test_another_input_shape_keeps_every_weight(folder):
    model = trained("dmnn20", num_classes=4)
    put(folder, "dmnn20", "one", model, CLASSES)
    loaded = zoo.load("dmnn20", "one", input_shape=(48, 48, 3))
    assert loaded.input_shape == (None, 48, 48, 3)
    for a, b in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_bad_sizes_are_refused_for_published_weights_too(folder):
    put(folder, "resnet20", "one", trained("resnet20", num_classes=4), CLASSES)
    with pytest.raises(ValueError, match="num_classes must be an integer of 1 or more, not 0"):
        zoo.load("resnet20", "one", num_classes=0)
    with pytest.raises(ValueError, match="input_shape is"):
        zoo.load("resnet20", "one", input_shape=())
    assert zoo.load("resnet20", "one", num_classes=4, input_shape=[32, 32, 3]).input_shape == (
        None,
        32,
        32,
        3,
    )


def test_damaged_file(folder):
    path = put(folder, "resnet20", "one", trained("resnet20", num_classes=4), CLASSES)
    whole = path.read_bytes()
    for damage in (whole[:-1], whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:], b""):
        path.write_bytes(damage)
        with pytest.raises(RuntimeError, match="weights.h5 has .* expected .* restore it"):
            zoo.load("resnet20", "one")
    path.unlink()
    with pytest.raises(RuntimeError, match="weights.h5 is missing; zoo/index.json lists it"):
        zoo.load("resnet20", "one")


def test_index_with_an_unknown_field_is_refused(folder):
    put(folder, "resnet20", "one", trained("resnet20", num_classes=4), CLASSES, colour="red")
    with pytest.raises(ValueError, match="colour"):
        zoo.load("resnet20", "one")


def test_weights_from_a_path(tmp_path):
    model = trained("resnet20", num_classes=4)
    path = tmp_path / "mine.weights.h5"
    model.save_weights(path)
    x = images(2, 32, seed=1)
    for form in (path, str(path)):
        np.testing.assert_array_equal(zoo.load("resnet20", form, num_classes=4)(x), model(x))
    with pytest.raises(FileNotFoundError, match="no weights file .*other.weights.h5"):
        zoo.load("resnet20", str(tmp_path / "other.weights.h5"))


def test_the_checkout_has_all_published_files():
    """Each record names an entry and a file with the right checksum."""
    assert published.records()
    for record in published.records():
        assert record.entry in ENTRIES
        assert published.verified_file(record).stat().st_size == record.bytes


def test_a_sub_model_needs_no_other_weights(tmp_path, monkeypatch):
    """It loads from a file without the weights of the others."""
    monkeypatch.setitem(ENTRIES, "parts", helpers.PARTS_ENTRY)
    whole = zoo.load("parts", weights=None)
    file = tmp_path / "whole.weights.h5"
    whole.save_weights(file)
    with h5py.File(file, "a") as content:
        first = min((name for name in content["layers"] if name.startswith("conv2d")), key=len)
        kernel = content[f"layers/{first}/vars/0"]
        np.testing.assert_array_equal(kernel, whole.get_layer("stage1_conv").kernel)
        del content[f"layers/{first}"]
    x = images(2, 32)
    for sub_model in (1, 2):
        part = zoo.load("parts", weights=file, sub_model=sub_model)
        np.testing.assert_array_equal(
            part.predict(x, verbose=0), whole.detach(sub_model).predict(x, verbose=0)
        )
    with pytest.raises(ValueError, match="does not hold the weights of parts"):
        zoo.load("parts", weights=file)
    with pytest.raises(ValueError, match="there is no sub-model 3"):
        zoo.load("parts", weights=file, sub_model=3)
    with pytest.raises(TypeError, match="resnet20 has no option sub_model"):
        zoo.load("resnet20", weights=None, sub_model=1)
