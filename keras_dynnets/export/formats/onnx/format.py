"""ONNX: an `If` before every gated branch; for a batch, a `Scan` that runs image by image.

Measured in ONNX Runtime, running a batch image by image costs less than gathering the rows of
every branch: a convolution does not care, copies do.
"""

from collections import Counter

import keras

from keras_dynnets.core import graph as graphs
from keras_dynnets.core.conditional import GatedBranches, switch_of
from keras_dynnets.export.deployment import deploy, deploy_parts
from keras_dynnets.export.formats.base import Format
from keras_dynnets.export.formats.onnx import tools
from keras_dynnets.export.inference import inference_function
from keras_dynnets.export.requirements import require
from keras_dynnets.layers.grouped_conv import largest_pack

WEIGHTS = "weights.data"  # the file of weights that several networks in a folder share
ALIGNMENT = 64  # bytes; smaller values stay in the files of the networks


class ONNX(Format):
    """An `.onnx` file; for several networks that share weights, a folder with one for each."""

    name = "onnx"
    runtime = "ONNX Runtime"
    suffix = ".onnx"
    reaches_inside = False
    tools = tools

    def write(self, network, path, job):
        """Writes a file; half precision is stored with a cast that the runtime unfolds."""
        from keras_dynnets.export.formats.onnx import conditions

        if any(isinstance(layer, GatedBranches) for layer in network.layers):
            deployed = deploy(_with_gates(network), "all", job.half, self)
            proto = self._convert(deployed, 1, {*job.outputs, "gates"})
            conditions.gate_with_if(proto.graph)
            tools.keep_outputs(proto.graph, job.outputs)
            by_image = True
        elif switch := switch_of(network):
            proto = tools.chooser_of(network, switch)
            choices = [deploy(inner, half=job.half, target=self) for inner in switch.networks]
            converted = [self._convert(inner, 1, ("logits",)) for inner in choices]
            tools.choose_with_if(proto.graph, converted)
            by_image = True
        else:
            deployed = deploy(network, half=job.half, target=self)
            proto = self._convert(deployed, job.batch_size, job.outputs)
            by_image = False
        if by_image and job.batch_size is None:
            tools.scan_over_batch(proto.graph)
        if job.half:
            tools.store_half(proto.graph)
        tools.save(proto, path)

    @staticmethod
    def _convert(deployed, batch_size, outputs):
        return tools.convert_function(
            inference_function(deployed, batch_size, outputs=outputs).call
        )

    def write_parts(self, parts, path, job):
        """Writes a folder: a file for each network, `NAME.onnx`, and one with all weights.

        ONNX Runtime finds the weights beside the file that it loads.
        """
        onnx = require("onnx")
        path.mkdir()
        places, size = {}, 0
        with open(path / WEIGHTS, "wb") as weights:
            for name, part in deploy_parts(parts, half=job.half, target=self).items():
                proto = self._convert(part, job.batch_size, ("logits",))
                if job.half:
                    tools.store_half(proto.graph)
                onnx.checker.check_model(proto)
                for tensor in proto.graph.initializer:
                    content = onnx.numpy_helper.to_array(tensor).tobytes()
                    if len(content) < ALIGNMENT:
                        continue
                    if content not in places:
                        padding = -size % ALIGNMENT
                        weights.write(b"\0" * padding + content)
                        places[content] = size + padding
                        size = places[content] + len(content)
                    tools.store_outside(tensor, WEIGHTS, places[content], len(content))
                (path / f"{name}.onnx").write_bytes(proto.SerializeToString())

    def runner(self, path, threads=None, part=None):
        """Loads a file, or the file `part` of a folder with several."""
        path = path / f"{part}.onnx" if part else path
        ort = require("onnxruntime")
        options = ort.SessionOptions()
        if threads:
            options.intra_op_num_threads = threads
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return lambda **inputs: dict(zip(names, session.run(names, inputs), strict=True))

    def operations(self, path):
        onnx = require("onnx")
        files = sorted(path.glob("*.onnx")) if path.is_dir() else [path]

        def count(graph):
            total = Counter(node.op_type for node in graph.node)
            for node in graph.node:
                for attribute in node.attribute:
                    if attribute.type == onnx.AttributeProto.GRAPH:
                        total += count(attribute.g)
            return total

        loaded = [onnx.load(str(file), load_external_data=False) for file in files]
        return dict(sum((count(model.graph) for model in loaded), Counter()))

    def packing(self, groups, in_channels, out_channels, positions=None):
        """Packs groups until the narrower side has 16 channels, above 16x16 positions none.

        16 channels are the block of ONNX Runtime's convolutions. Measured for pairs of 3x3
        convolutions 2-4-2 and 2-6-2 at 32x32x64 to 2x2x512 on one core with AVX-512 (the other
        core was busy), packs of 1 to 32.
        """
        small = positions is not None and positions <= 256
        return largest_pack(groups, 16 // min(in_channels, out_channels) if small else 1)

    def marker(self, several):
        return "base.onnx" if several else None


def _with_gates(network):
    """Gives the network with its gates as an output, also where a new head gives only logits."""
    if isinstance(network.output, dict):
        return network
    gates = [
        node.arguments.args[1]
        for node in graphs.nodes(network)
        if isinstance(node.operation, GatedBranches)
    ]
    outputs = {"logits": network.output, "gates": keras.ops.stack(gates, axis=1)}
    return keras.Model(network.input, outputs)


FORMAT = ONNX()
