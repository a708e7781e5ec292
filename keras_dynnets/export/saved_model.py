"""TensorFlow SavedModel: the sparse form for any batch, the conditional one for a batch of 1."""

from collections import Counter

from keras_dynnets.export.deploy import deploy, deploy_parts
from keras_dynnets.export.inference import inference_function, inference_functions


def write(network, path, batch_size, half, outputs):
    """Saves `network` with one signature, `serving_default`. In half precision its weights are stored as float16."""
    import tensorflow as tf

    module = inference_function(deploy(network, half=half), batch_size, half, outputs)
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.call})


def write_parts(parts, path, batch_size, half):
    """Saves models that share layers with a signature for each; the first is `serving_default` too."""
    import tensorflow as tf

    module = inference_functions(deploy_parts(parts, half=half), batch_size, half)
    default = next(iter(module.calls.values()))
    tf.saved_model.save(module, str(path), signatures={"serving_default": default, **module.calls})


def runner(path, threads=None, part="serving_default"):
    """The file's signature, or the one called `part`, as a function from arrays by input name to arrays by output name.

    TensorFlow's threads are a setting of the process; `threads` is there for the other runtimes.
    """
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    call = loaded.signatures[part]

    def run(**inputs):
        outputs = call(**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    run.keeps = loaded  # the signature holds its variables weakly
    return run


def operations(path):
    """How often each operation stands in the saved graph, functions included."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return dict(Counter(node.op for node in nodes))
