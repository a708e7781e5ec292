"""The sub-models of a network: their names, their places and their symbolic outputs."""

from collections.abc import Sequence

import keras

from keras_dynnets.core import graph
from keras_dynnets.families.cnsn.cuts import CutPoint, Cuts
from keras_dynnets.families.cnsn.sliced import Sliced, SlicedConv2D
from keras_dynnets.families.cnsn.slices import Slicer, all_channels
from keras_dynnets.families.cnsn.step_down_conv import StepDownConv2D

Outputs = dict[str, keras.KerasTensor]
Places = tuple[tuple[int, float], ...]


def build_sub_models(
    found: Cuts, points: Sequence[CutPoint], widths: Sequence[float], batch_norm: str
) -> tuple[Outputs, Places]:
    """Runs a network again from each cut and at each width.

    Args:
        found: the cuts of the network.
        points: the cut points to detach at, in running order.
        widths: shares of the filters, from the largest on, 1 first.
        batch_norm: "own" or "shared" statistics (see `CNSN`).

    Returns:
        The symbolic output of each model by its name, and for each model in this order the index
        of the sub-model (0 for the base) and the width.

    Raises:
        ValueError: a layer cannot run at a width, or two widths have the same name.
    """
    network = found.network
    step_downs = [_step_down(point, found, i) for i, point in enumerate(points, 1)]
    outputs: Outputs = {}
    places = []
    for width in widths:
        suffix = "" if width == 1 else f"_w{round(100 * width)}"
        made: dict[tuple, Sliced] = {}
        base = Slicer(network, width, f"base{suffix}", made)
        if width < 1:
            values: dict = dict(found.preprocessing.values)
            base.run(found.body(), values)
            outputs[base.name] = values[id(network.outputs[0])]
        else:
            outputs["base"] = network.outputs[0]
        places.append((0, width))
        for i, (point, step_down) in enumerate(zip(points, step_downs, strict=True), 1):
            part = Slicer(network, width, f"sub{i}{suffix}", made)
            entrance = step_down
            if width < 1:
                kept = base.kept[id(point.tensor)]
                part.kept[id(point.tensor)] = kept
                entrance = part.slice(SlicedConv2D, step_down, all_channels(found.images), kept)
            values = {id(point.tensor): entrance(found.images)}
            if width == 1 and batch_norm == "shared":
                graph.run_again(found.tail(point), values)
            else:
                part.run(found.tail(point), values)
            outputs[part.name] = values[id(network.outputs[0])]
            places.append((i, width))
    if len(outputs) < len(places):
        raise ValueError(
            f"widths are told apart by their hundredths, and those of {tuple(widths)} are not all "
            "different"
        )
    return outputs, tuple(places)


def _step_down(point: CutPoint, found: Cuts, index: int) -> StepDownConv2D:
    """Makes the step-down convolution of a cut, with the dtype policy of the layer before it."""
    policy = getattr(found.nodes[point.position].operation, "dtype_policy", None)
    return StepDownConv2D.between(
        found.images.shape[1:], point.shape, name=f"step_down{index}", dtype=policy
    )
