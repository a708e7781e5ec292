"""TensorFlow SavedModel: grouped execution for any batch, conditional for a batch of one image."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import keras

from keras_dynnets.export.deployment import deploy, deploy_parts
from keras_dynnets.export.formats.base import Format, Run, WriteJob
from keras_dynnets.export.inference import inference_function, inference_functions


class SavedModel(Format):
    """A folder that TensorFlow, TensorFlow Serving and TensorFlow.js read."""

    name = "saved_model"
    runtime = "SavedModel"
    fixed_batches = True
    images_a_call = 64
    note = (
        "Made for TensorFlow. For another runtime export its own format; a converter that starts "
        "from a SavedModel takes a network with gates with batch_size=1. Two exports of a network "
        "differ in their bytes."
    )
    own_runtime = False
    always_up_to = {None: 0, 1: 0}  # MACs, measured with `keras-dynnets bench-conditions`

    def write(self, network: keras.Model, path: Path, job: WriteJob) -> None:
        """Writes a folder with one signature, `serving_default`."""
        import tensorflow as tf

        deployed = deploy(network, "auto", job.half, self, job.batch_size)
        module = inference_function(deployed, job.batch_size, job.half, job.outputs)
        tf.saved_model.save(module, str(path), signatures={"serving_default": module.call})

    def write_parts(self, parts: Mapping[str, keras.Model], path: Path, job: WriteJob) -> None:
        """Writes a folder with a signature for each network; the first is the default too."""
        import tensorflow as tf

        deployed = deploy_parts(parts, "auto", job.half, self, job.batch_size)
        module = inference_functions(deployed, job.batch_size, job.half)
        default = next(iter(module.calls.values()))
        signatures = {"serving_default": default, **module.calls}
        tf.saved_model.save(module, str(path), signatures=signatures)

    def runner(self, path: Path, threads: int | None = None, part: str | None = None) -> Run:
        """Loads a folder.

        Args:
            path: of the folder.
            threads: not used, since the number of threads of TensorFlow is a setting of the
                process.
            part: name of one of several networks in the folder.

        Returns:
            A function from arrays by input name to arrays by output name.
        """
        import tensorflow as tf

        loaded = tf.saved_model.load(str(path))

        def run(**inputs):
            call = loaded.signatures[part or "serving_default"]
            outputs = call(**{name: tf.constant(value) for name, value in inputs.items()})
            return {name: value.numpy() for name, value in outputs.items()}

        return run

    def operations(self, path: Path) -> dict[str, int]:
        from tensorflow.core.protobuf import saved_model_pb2

        content = (path / "saved_model.pb").read_bytes()
        graph = saved_model_pb2.SavedModel.FromString(content).meta_graphs[0].graph_def
        inside = [node for function in graph.library.function for node in function.node_def]
        return dict(Counter(node.op for node in [*graph.node, *inside]))

    def marker(self, several: bool) -> str:
        return "saved_model.pb"


FORMAT = SavedModel()
