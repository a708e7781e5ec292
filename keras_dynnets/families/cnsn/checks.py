"""Checks of the arguments of a CNSN."""

import numbers
from collections.abc import Mapping, Sequence

import keras

from keras_dynnets.core import graph, keras_private
from keras_dynnets.families.cnsn.cuts import CutPoint, Cuts


def check_order(points: Sequence[CutPoint], cuts: Sequence[str]) -> None:
    """Refuses cuts that are given twice or not in the order of the network.

    Args:
        points: the cut points that `cuts` stand for.
        cuts: names that the user gave.

    Raises:
        ValueError: a cut is repeated, or comes after a later one.
    """
    positions = [point.position for point in points]
    if positions != sorted(set(positions)):
        raise ValueError(
            f"cuts are given once each, in the order of the network, not as {list(cuts)}"
        )


def checked_widths(widths: float | Sequence[float]) -> tuple[float, ...]:
    """Gives the widths from the largest on, with 1 among them.

    Args:
        widths: one share of the filters or several.

    Raises:
        ValueError: a width is no number above 0 and at most 1.
    """
    given: tuple = tuple(widths) if isinstance(widths, (list, tuple)) else (widths,)
    if not all(_is_share(width) for width in given):
        raise ValueError(f"widths are shares of the filters, above 0 and at most 1, not {given}")
    return (1.0, *sorted({float(width) for width in given} - {1.0}, reverse=True))


def _is_share(value: float) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and 0 < value <= 1


def checked_weights(
    weights: Mapping[str, float] | Sequence[float] | None, names: Sequence[str]
) -> tuple[float, ...]:
    """Gives one loss weight for each model, in the order of `names`.

    Args:
        weights: weights in this order, or by name; None for 1 each.
        names: names of the models.

    Raises:
        ValueError: there is not exactly one weight for each name.
    """
    weights = [1.0] * len(names) if weights is None else weights
    if isinstance(weights, dict):
        if set(weights) != set(names):
            raise ValueError(
                f"loss_weights are for {', '.join(names)}, not for {', '.join(map(str, weights))}"
            )
        weights = [weights[name] for name in names]
    if not isinstance(weights, (list, tuple)):
        raise ValueError(f"loss_weights are one for each of {', '.join(names)}, not {weights!r}")
    if len(weights) != len(names):
        raise ValueError(
            f"{len(weights)} loss_weights do not go with {len(names)} models: {', '.join(names)}"
        )
    return tuple(float(weight) for weight in weights)


def check_distillation(distillation: float, temperature: float, network: keras.Model) -> None:
    """Refuses a distillation that has no meaning for a network.

    Args:
        distillation: weight of the distillation loss; 0 for none.
        temperature: temperature that softens the predictions.
        network: the functional model whose predictions are the targets.

    Raises:
        ValueError: a value is out of range, or the outputs of the network are not the logits of
            two classes or more.
    """
    numbers_given = all(isinstance(value, numbers.Real) for value in (distillation, temperature))
    if not numbers_given or not distillation >= 0 or not temperature > 0:
        raise ValueError(
            "distillation is 0 or more and temperature positive, not "
            f"{distillation!r} and {temperature!r}"
        )
    if not distillation:
        return
    last = graph.nodes(network)[-1].operation
    activation = getattr(last, "activation", keras.activations.linear)
    if type(last).__name__ in ("Softmax", "Sigmoid") or activation is not keras.activations.linear:
        raise ValueError(
            "distillation takes logits, and this network ends in an activation (a softmax?); "
            "build it without"
        )
    if network.output_shape[-1] < 2:
        raise ValueError(
            "distillation compares two classes or more, and this network has a single output; "
            "leave out distillation"
        )


def check_norms(cuts: Cuts) -> None:
    """Refuses batch norms inside a model that the network holds as a layer.

    Such a batch norm is one layer for all sub-models and cannot have statistics for each. Before
    the first convolution it need not.

    Raises:
        ValueError: there are such batch norms.
    """
    for node in cuts.body():
        inner = graph.inference(node.operation)
        if isinstance(inner, keras.Function) and any(
            isinstance(layer, keras.layers.BatchNormalization)
            for layer in keras_private.flattened_layers(inner)
        ):
            raise ValueError(
                f"model {node.operation.name!r} inside {cuts.network.name} has batch norms, which "
                "cannot have statistics for every sub-model; put its layers into the network "
                "itself, or give batch_norm='shared'"
            )
