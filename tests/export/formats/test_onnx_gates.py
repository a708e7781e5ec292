"""Gates that are put into an ONNX graph after its conversion."""

import helpers
import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_dynnets.export import ExportError, export_model
from keras_dynnets.export.formats.onnx.format import FORMAT
from keras_dynnets.layers import MultiPath


def gated(calls):
    """A network of one gated layer, and one of its gates, rounded numbers and no comparison."""
    images = keras.Input((8, 8, 3))
    x = layers.Rescaling(1 / 255)(images)
    pooled = layers.Conv2D(2, 8, kernel_initializer="random_normal")(x)
    gates = ops.round(ops.sigmoid(40 * layers.Flatten()(pooled)))
    paths = [keras.Sequential([layers.Conv2D(3, 3, padding="same")], name=n) for n in "ab"]
    layer = MultiPath(paths, name="paths")
    for _ in range(calls):
        x = layer(x, gates, x)
    logits = layers.Dense(4)(layers.Flatten()(x))
    return keras.Model(images, logits), keras.Model(images, gates)


def test_gates_need_not_come_from_a_comparison(tmp_path):
    x = helpers.images(32, 8)
    model, gates = gated(1)
    report = export_model(model, tmp_path / "m.onnx", batch_size=1)
    assert report.operations["If"] == 2 and report.operations["Greater"] == 1
    assert len(np.unique(gates.predict(x, verbose=0), axis=0)) >= 3
    run = FORMAT.runner(tmp_path / "m.onnx")
    found = np.concatenate([run(images=image[None])["logits"] for image in x])
    helpers.assert_close(found, model.predict(x, verbose=0))


def test_a_gated_layer_is_called_once(tmp_path):
    with pytest.raises(ExportError, match="2 additions in the scope 'gated_paths_0'.*called once"):
        export_model(gated(2)[0], tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
