"""ONNX: an `If` before every gated branch; for a batch, a `Scan` that runs image by image.

Measured in ONNX Runtime, running a batch image by image costs less than gathering the rows of
every branch: a convolution does not care, copies do.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import keras

from keras_dynnets.core import graph as graphs
from keras_dynnets.core.conditional import GatedBranches, NetworkSwitch, switch_of
from keras_dynnets.core.keras_private import structured_outputs
from keras_dynnets.export.deployment import deploy, deploy_parts
from keras_dynnets.export.formats.base import Format, Run, WriteJob
from keras_dynnets.export.formats.onnx import tools
from keras_dynnets.export.formats.onnx.conditions import Branch, add_gates
from keras_dynnets.export.inference import inference_function
from keras_dynnets.export.requirements import require
from keras_dynnets.layers.grouped_conv import largest_pack

if TYPE_CHECKING:
    from onnx import ModelProto

WEIGHTS = "weights.data"  # the file of weights that several networks in a folder share
ALIGNMENT = 64  # bytes; smaller values stay in the files of the networks


class ONNX(Format):
    """An `.onnx` file; for several networks that share weights, a folder with one for each."""

    name = "onnx"
    runtime = "ONNX Runtime"
    suffix = ".onnx"
    fixed_batches = True
    fixed_batches_with_conditions = True
    reaches_inside = False
    packages = ("onnx", "onnxruntime", "tf2onnx")
    tools = tools
    # MACs, measured with `keras-dynnets bench-conditions`. In a `Scan` conditions do not pay for
    # features of 4x4 either, whatever their channels; a number of MACs cannot say that.
    always_up_to = {None: 147_456, 1: 0}

    def write(self, network: keras.Model, path: Path, job: WriteJob) -> None:
        """Writes a file; half precision is stored with a cast that the runtime unfolds."""
        require("onnx")
        if any(isinstance(layer, GatedBranches) for layer in network.layers):
            proto = self._with_conditions(network, job)
        elif switch := switch_of(network):
            proto = self._with_choice(network, switch, job)
        else:
            deployed = deploy(network, "auto", job.half, self, job.batch_size)
            proto = self._convert(deployed, job.batch_size, job.outputs)
        if job.half:
            tools.store_half(proto.graph)
        tools.save(proto, path)

    def _with_conditions(self, network: keras.Model, job: WriteJob) -> "ModelProto":
        """Converts a network with gated branches; the cheap ones get no condition."""
        deployed = deploy(_with_gates(network), "all", job.half, self, job.batch_size)
        branches = _branches(deployed)
        by_image = not all(branch.always for branch in branches)
        outputs = {*job.outputs, *(branch.gates for branch in branches)}
        proto = self._convert(deployed, 1 if by_image else job.batch_size, outputs)
        add_gates(proto.graph, branches)
        tools.keep_outputs(proto.graph, job.outputs)
        if by_image and job.batch_size != 1:
            tools.scan_over_batch(proto.graph, job.batch_size)
        return proto

    def _with_choice(
        self, network: keras.Model, switch: NetworkSwitch, job: WriteJob
    ) -> "ModelProto":
        """Converts a network that chooses among several."""
        proto = tools.chooser_of(network, switch)
        choices = [deploy(inner, "auto", job.half, self, 1) for inner in switch.networks]
        converted = [self._convert(inner, 1, ("logits",)) for inner in choices]
        tools.choose_with_if(proto.graph, converted)
        if job.batch_size != 1:
            tools.scan_over_batch(proto.graph, job.batch_size)
        return proto

    @staticmethod
    def _convert(
        deployed: keras.Model, batch_size: int | None, outputs: Collection[str]
    ) -> "ModelProto":
        return tools.convert_function(
            inference_function(deployed, batch_size, outputs=outputs).call
        )

    def write_parts(self, parts: Mapping[str, keras.Model], path: Path, job: WriteJob) -> None:
        """Writes a folder: a file for each network, `NAME.onnx`, and one with all weights.

        ONNX Runtime finds the weights beside the file that it loads.
        """
        onnx = require("onnx")
        path.mkdir()
        places, size = {}, 0
        with open(path / WEIGHTS, "wb") as weights:
            deployed = deploy_parts(parts, "auto", job.half, self, job.batch_size)
            for name, part in deployed.items():
                proto = self._convert(part, job.batch_size, ("logits",))
                if job.half:
                    tools.store_half(proto.graph)
                tools.finish(proto)
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

    def runner(self, path: Path, threads: int | None = None, part: str | None = None) -> Run:
        path = path / f"{part}.onnx" if part else path
        ort = require("onnxruntime")
        options = ort.SessionOptions()
        if threads:
            options.intra_op_num_threads = threads
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return lambda **inputs: dict(zip(names, session.run(names, inputs), strict=True))

    def operations(self, path: Path) -> dict[str, int]:
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

    def packing(
        self, groups: int, in_channels: int, out_channels: int, positions: int | None = None
    ) -> int:
        """Packs groups until the narrower side has 16 channels; none above 16x16 positions.

        16 channels are the block of ONNX Runtime's convolutions. The rule is measured on pairs of
        3x3 convolutions with units of 2-4-2 and 2-6-2 channels, at sizes from 32x32x64 to
        2x2x512, in packs of 1 to 32 units, on one core with AVX-512 while the other core was busy.

        Args:
            groups: number of groups.
            in_channels: input channels of one group.
            out_channels: output channels of one group.
            positions: height x width of the output; None if it is not known.

        Returns:
            A power of two that divides `groups`; 1 leaves the groups as they are.
        """
        small = positions is not None and positions <= 256
        return largest_pack(groups, 16 // min(in_channels, out_channels) if small else 1)

    def marker(self, several: bool) -> str | None:
        return "base.onnx" if several else None


def _gates_of(layer: keras.Layer) -> str:
    """Names the output that gives the gates of a layer."""
    return f"gates_of_{layer.name}"


def _with_gates(network: keras.Model) -> keras.Model:
    """Gives the network with the gates of each gated layer, (batch, branches), as more outputs."""
    outputs = structured_outputs(network)
    outputs = dict(outputs) if isinstance(outputs, dict) else {"logits": outputs}
    for node in graphs.nodes(network):
        if isinstance(node.operation, GatedBranches):
            outputs[_gates_of(node.operation)] = node.arguments.args[1]
    return keras.Model(network.inputs, outputs, name=network.name)


def _branches(deployed: keras.Model) -> list[Branch]:
    """Lists the gated branches of a deployed network."""
    outputs = structured_outputs(deployed)
    return [
        Branch(layer.branch_scope(index), _gates_of(layer), index, index in layer.always)
        for layer in deployed.layers
        if isinstance(layer, GatedBranches)
        for index in range(outputs[_gates_of(layer)].shape[-1])
    ]


FORMAT = ONNX()
