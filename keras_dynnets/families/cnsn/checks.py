"""What a CNSN refuses, with what it would take instead."""

import numbers

import keras

from keras_dynnets.core import graph, keras_private


def in_order(points, cuts):
    """The points of cuts, once each and in the order of the network."""
    positions = [point.position for point in points]
    if positions != sorted(set(positions)):
        raise ValueError(
            f"cuts are given once each, in the order of the network, not as {list(cuts)}"
        )
    return points


def checked_widths(widths):
    """Widths from the largest on, 1 among them."""
    widths = tuple(widths) if isinstance(widths, (list, tuple)) else (widths,)
    if not all(
        isinstance(w, numbers.Real) and not isinstance(w, bool) and 0 < w <= 1 for w in widths
    ):
        raise ValueError(f"widths are shares of the filters, above 0 and at most 1, not {widths}")
    return (1.0, *sorted({float(w) for w in widths} - {1.0}, reverse=True))


def checked_weights(weights, names):
    """One loss weight for each name, 1 where none are given."""
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


def check_distillation(distillation, temperature, network):
    """Refuses values that mean nothing, and networks whose outputs are no logits of several classes."""
    numbers_given = all(isinstance(v, numbers.Real) for v in (distillation, temperature))
    if not numbers_given or not distillation >= 0 or not temperature > 0:
        raise ValueError(
            f"distillation is 0 or more and temperature positive, not {distillation!r} and {temperature!r}"
        )
    if not distillation:
        return
    last = graph.nodes(network)[-1].operation
    activation = getattr(last, "activation", keras.activations.linear)
    if type(last).__name__ in ("Softmax", "Sigmoid") or activation is not keras.activations.linear:
        raise ValueError(
            "distillation takes logits, and this network ends in an activation (a softmax?); build it without"
        )
    if network.output_shape[-1] < 2:
        raise ValueError(
            "distillation compares two classes or more, and this network has a single output"
        )


def with_norms_inside(cuts):
    """The name of a model that the network holds as a layer and that has batch norms; None if there is none."""
    for node in cuts.nodes:
        inner = graph.inference(node.operation)
        if isinstance(inner, keras.Function) and any(
            isinstance(layer, keras.layers.BatchNormalization)
            for layer in keras_private.flattened_layers(inner)
        ):
            return node.operation.name
    return None
