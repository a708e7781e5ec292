"""TensorFlow SavedModel: grouped execution for any batch, conditional for a batch of one image."""

from collections import Counter

from keras_dynnets.export.deployment import deploy, deploy_parts
from keras_dynnets.export.formats.base import Format
from keras_dynnets.export.inference import inference_function, inference_functions


class SavedModel(Format):
    """A folder that TensorFlow, TensorFlow Serving and TensorFlow.js read."""

    name = "saved_model"
    runtime = "SavedModel"
    images_a_call = 64
    own_runtime = False

    def write(self, network, path, job):
        """Writes a folder with one signature, `serving_default`."""
        import tensorflow as tf

        deployed = deploy(network, half=job.half, target=self)
        module = inference_function(deployed, job.batch_size, job.half, job.outputs)
        tf.saved_model.save(module, str(path), signatures={"serving_default": module.call})

    def write_parts(self, parts, path, job):
        """Writes a folder with a signature for each network; the first is the default too."""
        import tensorflow as tf

        deployed = deploy_parts(parts, half=job.half, target=self)
        module = inference_functions(deployed, job.batch_size, job.half)
        default = next(iter(module.calls.values()))
        signatures = {"serving_default": default, **module.calls}
        tf.saved_model.save(module, str(path), signatures=signatures)

    def runner(self, path, threads=None, part=None):
        """Loads the folder; the threads of TensorFlow are a setting of the process."""
        import tensorflow as tf

        loaded = tf.saved_model.load(str(path))
        call = loaded.signatures[part or "serving_default"]

        def run(**inputs):
            outputs = call(**{name: tf.constant(value) for name, value in inputs.items()})
            return {name: value.numpy() for name, value in outputs.items()}

        run.keeps = loaded  # the signature holds its variables weakly
        return run

    def operations(self, path):
        from tensorflow.core.protobuf import saved_model_pb2

        content = (path / "saved_model.pb").read_bytes()
        graph = saved_model_pb2.SavedModel.FromString(content).meta_graphs[0].graph_def
        inside = [node for function in graph.library.function for node in function.node_def]
        return dict(Counter(node.op for node in [*graph.node, *inside]))

    def marker(self, several):
        return "saved_model.pb"


FORMAT = SavedModel()
