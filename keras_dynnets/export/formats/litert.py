"""LiteRT (TensorFlow Lite): conditional execution, builtin operations only."""

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_dynnets.export.deployment import deploy, deploy_parts
from keras_dynnets.export.formats.base import Format, Run, WriteJob
from keras_dynnets.export.formats.litert_names import without_counters
from keras_dynnets.export.inference import inference_function, inference_functions
from keras_dynnets.export.requirements import require
from keras_dynnets.layers.grouped_conv import largest_pack

if TYPE_CHECKING:
    import tensorflow as tf


class LiteRT(Format):
    """A `.tflite` file for one image a call or, without conditions, for a fixed number.

    LiteRT skips the branch of an `IF` that is not taken. Its delegate for CPUs (XNNPACK) also
    works inside the branches, so that a closed gate costs no more than a copy of the shortcut.
    """

    name = "litert"
    aliases = ("tflite",)
    runtime = "LiteRT"
    suffix = ".tflite"
    precisions = ("fp32", "fp16", "int8")
    batch_sizes = (1,)
    fixed_batches = True
    packages = ("ai-edge-litert",)
    always_up_to = {1: 36_864}  # MACs, measured with `keras-dynnets bench-conditions`

    def write(self, network: keras.Model, path: Path, job: WriteJob) -> None:
        import tensorflow as tf

        deployed = deploy(network, "conditional", job.half, self, job.batch_size)
        module = inference_function(deployed, job.batch_size, outputs=job.outputs)
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [module.call.get_concrete_function()], module
        )
        self._configure(converter, job)
        path.write_bytes(without_counters(converter.convert()))

    def write_parts(self, parts: Mapping[str, keras.Model], path: Path, job: WriteJob) -> None:
        """Writes one file with a signature for each network and every weight once."""
        import tensorflow as tf

        deployed = deploy_parts(parts, "conditional", job.half, self, job.batch_size)
        module = inference_functions(deployed, job.batch_size)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            tf.saved_model.save(module, folder, signatures=module.calls)
            converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(parts))
            self._configure(converter, job)
            path.write_bytes(without_counters(converter.convert()))

    @staticmethod
    def _configure(converter: "tf.lite.TFLiteConverter", job: WriteJob) -> None:
        """Sets the operations and the precision of a conversion."""
        import tensorflow as tf

        # No Flex operations: phones do not have them.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if job.half:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        if (images := job.calibration) is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            size = job.batch_size or 1
            starts = range(0, max(1, len(images) + 1 - size), size)
            converter.representative_dataset = lambda: (
                [np.resize(images[start : start + size], (size, *images.shape[1:]))]
                for start in starts
            )

    def runner(self, path: Path, threads: int | None = None, part: str | None = None) -> Run:
        interpreter = require("ai_edge_litert.interpreter").Interpreter(
            str(path), num_threads=threads
        )
        run = interpreter.get_signature_runner(part)
        return lambda **inputs: {name: np.array(v) for name, v in run(**inputs).items()}

    def operations(self, path: Path) -> dict[str, int]:
        schema = require("tensorflow.lite.python.schema_py_generated")
        model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
        names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}

        def name_of(code):
            builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
            return code.customCode.decode() if code.customCode else names[builtin]

        kinds = [name_of(code) for code in model.operatorCodes]
        operators = [op for graph in model.subgraphs for op in graph.operators or []]
        return dict(Counter(kinds[op.opcodeIndex] for op in operators))

    def packing(
        self, groups: int, in_channels: int, out_channels: int, positions: int | None = None
    ) -> int:
        """Packs groups until the wider side has 16 channels.

        The rule is measured on pairs of 3x3 convolutions with units of 2-4-2 and 2-6-2 channels,
        at sizes from 32x32x64 to 2x2x512, in packs of 1 to 32 units, on one core with AVX-512
        while the other core was busy.

        Args:
            groups: number of groups.
            in_channels: input channels of one group.
            out_channels: output channels of one group.
            positions: height x width of the output; None if it is not known.

        Returns:
            A power of two that divides `groups`; 1 leaves the groups as they are.
        """
        return largest_pack(groups, 16 // max(in_channels, out_channels))


FORMAT = LiteRT()
