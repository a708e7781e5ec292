"""The functional network of a DMNN: a residual network with a controller in front of each block."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_dynnets.baselines import mobilenet_v2, resnet
from keras_dynnets.baselines.skeleton import Block, apply, assemble
from keras_dynnets.families.dmnn.multi_path import MultiPath
from keras_dynnets.families.dmnn.path_controller import PathController

BACKBONES = {**resnet.NETWORKS, **mobilenet_v2.NETWORKS}


@dataclass(frozen=True, eq=False)
class GatedNetwork:
    """The symbolic tensors of a network with gates, and what is known about its blocks.

    Attributes:
        images: input, (batch, height, width, 3).
        outputs: "logits" (batch, num_classes); "gates" (batch, blocks, sub_blocks); and, where
            there are categories, "categories", a list of logits for each block.
        stages: index of the stage of each block, from 0.
        path_macs: MACs of every sub-block, (blocks, sub_blocks).
    """

    images: Any
    outputs: dict[str, Any]
    stages: list[int]
    path_macs: np.ndarray


def gated_network(
    backbone: str,
    sub_blocks: int,
    num_classes: int,
    input_shape: Sequence[int],
    category_count: int = 0,
    gate_noise: float = 1.0,
    logits_stddev: float = 0.001,
    seed: int | None = None,
) -> GatedNetwork:
    """Makes the layers of a DMNN and connects them.

    Args:
        backbone: one of `BACKBONES`.
        sub_blocks: number of sub-blocks of each block.
        num_classes: size of the logits.
        input_shape: (height, width, 3) of the images, in [0, 255].
        category_count: number of categories that each controller predicts; 0 for none.
        gate_noise: see `GumbelGate`.
        logits_stddev: see `PathController`.
        seed: seed of the gate noise of the first controller; the others count on from it.
    """
    images = keras.Input(input_shape, name="images")
    gates, states, stages, path_macs = [], [], [], []

    def branch(block: Block, x: Any) -> Any:
        controller = PathController(
            sub_blocks,
            noise=gate_noise,
            logits_stddev=logits_stddev,
            # With one seed for all, every controller would draw the same noise.
            seed=None if seed is None else seed + len(gates),
            name=f"{block.name}_controller",
        )
        gate, state = controller(x, states[-1] if states else None)
        paths = [
            keras.Sequential(block.path(sub_blocks, n), name=f"{block.name}_path{n + 1}")
            for n in range(sub_blocks)
        ]
        multi_path = MultiPath(paths, name=f"{block.name}_paths")
        output = multi_path(x, gate, apply(block.shortcut(), x))
        gates.append(gate)
        states.append(state)
        stages.append(block.stage)
        path_macs.append(multi_path.optional_macs(x.shape))
        return output

    logits = assemble(BACKBONES[backbone], images, num_classes, branch)
    outputs = {"logits": logits, "gates": ops.stack(gates, axis=1)}
    if category_count:
        outputs["categories"] = [
            keras.layers.Dense(category_count, dtype="float32", name=f"category{i + 1}")(state)
            for i, state in enumerate(states)
        ]
    return GatedNetwork(images, outputs, stages, np.array(path_macs))


def check_arguments(
    backbone: str, sub_blocks: int, num_classes: int, categories: Sequence[int] | None
) -> None:
    """Checks the arguments of a DMNN.

    Raises:
        ValueError: one of them is not as `DMNN` describes it.
    """
    if backbone not in BACKBONES:
        raise ValueError(f"backbone {backbone!r} is unknown; it is one of {', '.join(BACKBONES)}")
    if sub_blocks not in (2, 3, 4):
        raise ValueError(f"sub_blocks (N) is 2, 3 or 4, not {sub_blocks}")
    if num_classes < 1:
        raise ValueError(f"num_classes must be 1 or more, not {num_classes}")
    if categories is None:
        return
    if len(categories) != num_classes or min(categories) < 0:
        raise ValueError(
            f"categories gives the category of each class: {num_classes} integers from 0, not "
            f"{len(categories)} values from {min(categories, default=None)}"
        )
