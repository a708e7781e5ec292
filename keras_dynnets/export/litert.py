"""LiteRT (TFLite): conditional execution, builtin operations only."""

import tempfile
from collections import Counter

import numpy as np

from keras_dynnets.export.deploy import deploy, deploy_parts
from keras_dynnets.export.inference import inference_function, inference_functions
from keras_dynnets.export.requirements import require


def write(network, path, batch_size, half, outputs, calibration=None):
    """Converts `network` to a LiteRT file for one image a call.

    LiteRT runs the branches of `If` for real, and its delegate works inside them, so a closed
    gate costs a copy. In half precision the weights are stored as float16. With `calibration`,
    images in [0, 255], all arithmetic is in 8-bit integers; input and output stay float.
    """
    import tensorflow as tf

    module = inference_function(deploy(network, "conditional", half, "litert"), batch_size, outputs=outputs)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.call.get_concrete_function()], module)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]  # no Flex: phones do not have it
    if half:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    if calibration is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: ([image[None]] for image in calibration)
    path.write_bytes(converter.convert())


def write_parts(parts, path, batch_size, half):
    """Converts models that share layers to one file with a signature for each and every weight once."""
    import tensorflow as tf

    module = inference_functions(deploy_parts(parts, "conditional", half, "litert"), batch_size)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        tf.saved_model.save(module, folder, signatures=module.calls)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(parts))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if half:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        path.write_bytes(converter.convert())


def runner(path, threads=None, part=None):
    """One interpreter of the file, as a function from arrays by input name to arrays by output name.

    `part` is the signature to run of a file with several.
    """
    interpreter = require("ai_edge_litert.interpreter").Interpreter(str(path), num_threads=threads)
    run = interpreter.get_signature_runner(part)
    return lambda **inputs: {k: np.array(v) for k, v in run(**inputs).items()}


def operations(path):
    """How often each operation stands in the file, branches included."""
    schema = require("tensorflow.lite.python.schema_py_generated")
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    code = lambda c: c.customCode.decode() if c.customCode else names[max(c.builtinCode, c.deprecatedBuiltinCode)]  # noqa: E731
    codes = [code(c) for c in model.operatorCodes]
    return dict(Counter(codes[op.opcodeIndex] for graph in model.subgraphs for op in graph.operators or []))
