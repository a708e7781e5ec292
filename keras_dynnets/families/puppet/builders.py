"""Functions that make Puppet-CNNs: of any network, and of the zoo's plain networks."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_dynnets.baselines.convnet import WIDTHS, build_convnet
from keras_dynnets.core.registry import takes_options_of
from keras_dynnets.families.puppet.model import PuppetCNN


def puppeteer(model: keras.Model, adapt: str = "depth", **options: Any) -> PuppetCNN:
    """Makes a Puppet-CNN of a network: an ODE generates the kernels of its convolutions.

    The kernels are new and untrained; the other layers keep their weights.

    Args:
        model: a functional or `Sequential` Keras model from images in [0, 255] to one output, such
            as one of `keras.applications`.
        adapt: "none", "parameters" or "depth", see `PuppetCNN`.
        **options: the other arguments of `PuppetCNN`.

    Returns:
        The `PuppetCNN`. Layers that are not generated are shared with `model`.

    Raises:
        ValueError: see `PuppetCNN`.

    Example:
        >>> network = zoo.load("convnet_128", weights=None, num_classes=5)
        >>> model = puppeteer(network, "parameters", levels=4)

    Reference: Xing and Wang, Puppet-CNN, arXiv 2411.12876v1, section 3.2.
    """
    return PuppetCNN(model, adapt, **options)


@takes_options_of(PuppetCNN, supplied=("network",))
def puppet_cnn(
    network: str,
    num_classes: int,
    input_shape: Sequence[int],
    layers_per_width: int | None = None,
    name: str | None = None,
    **options: Any,
) -> PuppetCNN:
    """Builds a `PuppetCNN` of one of the plain networks of `baselines.convnet`.

    Args:
        network: name of the plain network, see `build_convnet`.
        num_classes: number of logits, at most the number of channels of the widest layer.
        input_shape: (height, width, 3) of the images, in [0, 255].
        layers_per_width: number of convolutions of each width at the full depth, for networks
            whose depth can be chosen; None for 3 if the depth adapts and 2, the mean of 1, 2 and
            3, if it does not.
        name: name of the model; None for `network`.
        **options: the arguments of `PuppetCNN` besides the network.

    Returns:
        The `PuppetCNN`, untrained.

    Raises:
        ValueError: there are more classes than channels in the widest layer, or see
            `build_convnet` and `PuppetCNN`.

    Example:
        >>> model = puppet_cnn("convnet_128", 10, (32, 32, 3), levels=4)

    Reference: Xing and Wang, Puppet-CNN, arXiv 2411.12876v1, section 3.5 and table 3.
    """
    if layers_per_width is None and network in WIDTHS:
        layers_per_width = 3 if options.get("adapt", "depth") == "depth" else 2
    plain = build_convnet(network, num_classes, input_shape, layers_per_width, name or network)
    widest = max(
        layer.filters
        for layer in plain.layers
        if layer.name != "logits" and hasattr(layer, "filters")
    )
    if num_classes > widest:
        raise ValueError(
            f"{plain.name} tells {widest} classes apart at most, the channels of its widest layer, "
            f"not {num_classes}: the kernels of its head come from a state with that many "
            "channels; take a wider network"
        )
    return PuppetCNN(plain, **options)
