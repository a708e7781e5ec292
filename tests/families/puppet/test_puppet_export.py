"""Files of a Puppet-CNN: plain networks, chosen by the complexity of the image."""

import keras
import numpy as np
import onnx as onnx_library
import pytest
from helpers import assert_close, generated, images

from keras_dynnets.core.dynamic import interface
from keras_dynnets.export import export_model
from keras_dynnets.export.formats import litert, saved_model
from keras_dynnets.export.formats.onnx import format as onnx
from keras_dynnets.families.puppet.input_complexity import complexity
from keras_dynnets.families.puppet.level_switch import MARGIN, switching

FORMS = [
    ("litert", 1, "m.tflite"),
    ("onnx", 1, "m.onnx"),
    ("onnx", None, "m.onnx"),
    ("saved_model", None, "m"),
]
FORMATS = {known.name: known for known in (litert.FORMAT, onnx.FORMAT, saved_model.FORMAT)}


@pytest.fixture(scope="module")
def model():
    return generated()


@pytest.fixture(scope="module")
def clear(model):
    """Images of every level whose complexities are not near a bound between two levels."""
    x = images(60, seed=4)
    bounds = switching(model).layers[-1].bounds
    x = x[np.abs(complexity(x)[:, None] - bounds).min(1) > MARGIN]
    assert set(model.levels_of(x)) == {0, 1, 2, 3}
    return x


def logits_of(path, format, batch_size, x):
    """Runs a file on images, through one session."""
    run = FORMATS[format].runner(path)
    batches = [x] if batch_size is None else [x[i : i + 1] for i in range(len(x))]
    return np.concatenate([run(images=batch)["logits"] for batch in batches])


def test_chooses_as_the_model_does(model, clear):
    assert_close(switching(model)(clear), model(clear))


@pytest.mark.parametrize("format, batch_size, name", FORMS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_files_choose_by_themselves(model, clear, tmp_path, format, batch_size, name, precision):
    report = export_model(model, tmp_path / name, format, precision, batch_size, calibration=clear)
    assert report.paths == 4
    found = logits_of(tmp_path / name, format, batch_size, clear)
    assert_close(found, model(clear), 1e-4 if precision == "fp32" else 5e-3)


def test_some_levels_are_smaller_and_take_all_images(model, clear, tmp_path):
    sizes = [
        export_model(
            model.deployments(levels=levels), tmp_path / "m.tflite", calibration=clear
        ).bytes
        for levels in ([1], [0, 3], None)
    ]
    assert sizes == sorted(sizes) and len(set(sizes)) == 3
    network = switching(model, [0, 3])
    low, high = clear[model.levels_of(clear) == 0], clear[model.levels_of(clear) == 3]
    assert_close(network(low), model(low))
    assert_close(network(high), model(high))


@pytest.mark.parametrize("batch_size, levels", [(1, None), (None, [1, 3]), (None, [2])])
def test_a_file_with_the_generator(model, clear, tmp_path, batch_size, levels):
    deployment = model.deployments(levels=levels, kernels="generator")
    path = tmp_path / "m.onnx"
    export_model(deployment, path, "onnx", batch_size=batch_size, calibration=clear)
    found = logits_of(path, "onnx", batch_size, clear)
    assert_close(found, switching(model, levels)(clear), 1e-4)
    assert largest_constant(path) == model.plan.channels**2, "the puppeteer's pointwise kernel"


@pytest.mark.parametrize("state", ["rank_one", "constant"])
def test_a_generator_without_noise(clear, tmp_path, state):
    model = generated(state=state, method="midpoint", normalise_kernels=False)
    deployment = model.deployments(levels=[0], kernels="generator")
    export_model(deployment, tmp_path / "m.onnx", "onnx", calibration=clear)
    found = logits_of(tmp_path / "m.onnx", "onnx", None, clear)
    assert_close(found, model.materialise(0)(clear), 1e-4)


def largest_constant(path):
    def of(graph):
        inner = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
        return max([np.prod(t.dims) for t in graph.initializer] + [of(g) for g in inner])

    return of(onnx_library.load(path).graph)


def test_every_level_is_checked_without_images_too(model, tmp_path):
    report = export_model(model, tmp_path / "m.tflite")
    assert report.paths == 4


def test_levels_of_images_that_are_half_alike():
    x = np.clip(
        128
        + np.linspace(0, 60, 48)[:, None, None, None]
        * np.random.default_rng(0).normal(size=(48, 16, 16, 3)),
        0,
        255,
    )
    x[::2] = 0
    tied = generated()
    tied.rank(x)
    assert tied.levels_of(x)[0] == 0
    assert_close(switching(tied)(x[:6].astype("float32")), tied(x[:6].astype("float32")))


def test_keras_grouped_convolutions(tmp_path):
    x = inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3, groups=2)(x))
    export_model(keras.Model(inputs, x, name="plain_groups"), tmp_path / "m.onnx", "onnx")


def test_a_level_in_integers(model, tmp_path):
    x = images(30)
    report = export_model(
        model.deployments(levels=[3]), tmp_path / "m.tflite", precision="int8", calibration=x
    )
    assert report.images and "IF" not in report.operations
    with pytest.raises(ValueError, match=r"int8 is for one network a file; give levels=\[k\]"):
        export_model(model, tmp_path / "n.tflite", precision="int8", calibration=x)


def test_refused_levels_and_kernels(model):
    for levels in ([4], [0, 0], [], [-1]):
        with pytest.raises(ValueError, match="levels of plain are some of 0 to 3, each once"):
            model.deployments(levels=levels)
    with pytest.raises(ValueError, match=r"a list of integers; give levels=\[3\]"):
        model.deployments(levels=3)
    with pytest.raises(ValueError, match="kernels are materialised or generator, not 'made'"):
        model.deployments(kernels="made")
    plain = interface(model.materialise(0))
    for options in ({"levels": [0]}, {"kernels": "generator"}):
        with pytest.raises(ValueError, match=f"plain_level0 has no option {next(iter(options))}; "):
            plain.deployments(**options)
    with pytest.raises(ValueError, match="no option gates; it has levels, kernels"):
        model.deployments(gates=True)


def test_refused_files(model, tmp_path):
    generator = model.deployments(kernels="generator")
    for options in ({"format": "litert"}, {"format": "onnx", "precision": "fp16"}):
        with pytest.raises(
            ValueError,
            match="is refused: .* is for format='onnx' and precision='fp32'; .* "
            "kernels='materialised'",
        ):
            export_model(generator, tmp_path / "m", **options)
    assert not list(tmp_path.iterdir())


def test_images_on_the_border_of_two_levels_are_refused(model, tmp_path):
    bounds = switching(model).layers[-1].bounds
    x = images(400, seed=6)
    border = x[np.abs(complexity(x)[:, None] - bounds).min(1) < MARGIN]
    assert len(border)
    with pytest.raises(ValueError, match="on the border of two levels"):
        export_model(model, tmp_path / "m.tflite", calibration=border)
    assert not list(tmp_path.iterdir())
