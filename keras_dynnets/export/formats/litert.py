"""LiteRT (TensorFlow Lite): conditional execution, builtin operations only."""

import tempfile
from collections import Counter

import numpy as np

from keras_dynnets.export.deployment import deploy, deploy_parts
from keras_dynnets.export.formats.base import Format
from keras_dynnets.export.inference import inference_function, inference_functions
from keras_dynnets.export.requirements import require
from keras_dynnets.layers.grouped_conv import largest_pack


class LiteRT(Format):
    """A `.tflite` file for one image a call.

    LiteRT runs the branches of `If` for real, and its delegate for CPUs works inside them, so
    that a closed gate costs a copy.
    """

    name = "litert"
    runtime = "LiteRT"
    suffix = ".tflite"
    precisions = ("fp32", "fp16", "int8")
    batch_sizes = (1,)

    def write(self, network, path, job):
        import tensorflow as tf

        deployed = deploy(network, "conditional", job.half, self)
        module = inference_function(deployed, job.batch_size, outputs=job.outputs)
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [module.call.get_concrete_function()], module
        )
        self._configure(converter, job)
        path.write_bytes(converter.convert())

    def write_parts(self, parts, path, job):
        """Writes one file with a signature for each network and every weight once."""
        import tensorflow as tf

        deployed = deploy_parts(parts, "conditional", job.half, self)
        module = inference_functions(deployed, job.batch_size)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            tf.saved_model.save(module, folder, signatures=module.calls)
            converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(parts))
            self._configure(converter, job)
            path.write_bytes(converter.convert())

    @staticmethod
    def _configure(converter, job):
        import tensorflow as tf

        # No Flex operations: phones do not have them.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if job.half:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        if job.calibration is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.representative_dataset = lambda: ([image[None]] for image in job.calibration)

    def runner(self, path, threads=None, part=None):
        interpreter = require("ai_edge_litert.interpreter").Interpreter(
            str(path), num_threads=threads
        )
        run = interpreter.get_signature_runner(part)
        return lambda **inputs: {name: np.array(v) for name, v in run(**inputs).items()}

    def operations(self, path):
        schema = require("tensorflow.lite.python.schema_py_generated")
        model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
        names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}

        def name_of(code):
            builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
            return code.customCode.decode() if code.customCode else names[builtin]

        kinds = [name_of(code) for code in model.operatorCodes]
        operators = [op for graph in model.subgraphs for op in graph.operators or []]
        return dict(Counter(kinds[op.opcodeIndex] for op in operators))

    def packing(self, groups, in_channels, out_channels, positions=None):
        """Packs groups until the wider side has 16 channels.

        Measured for pairs of 3x3 convolutions 2-4-2 and 2-6-2 at 32x32x64 to 2x2x512 on one core
        with AVX-512 (the other core was busy), packs of 1 to 32.
        """
        return largest_pack(groups, 16 // max(in_channels, out_channels))


FORMAT = LiteRT()
