"""The networks of the zoo that detach into smaller ones."""

from collections.abc import Sequence
from typing import Any

from keras_dynnets.baselines.resnet import build_resnet
from keras_dynnets.baselines.vgg import build_vgg
from keras_dynnets.core.registry import takes_options_of
from keras_dynnets.families.cnsn.model import CNSN

NETWORKS = {  # name of the base: its builder, the places where it is cut
    "vgg16_cnsn": (build_vgg, ("stage1_pool", "stage3_pool")),
    "vgg16_cnsn_half": (build_vgg, ("stage1_pool", "stage3_pool")),
    "resnet18_cifar": (build_resnet, ("stage1", "stage2")),
}


@takes_options_of(CNSN, supplied=("base", "cuts", "preprocessing"))
def detachable_network(
    network: str,
    num_classes: int,
    input_shape: Sequence[int],
    name: str | None = None,
    **options: Any,
) -> CNSN:
    """Builds a network of the zoo that detaches into smaller ones, with random weights.

    Args:
        network: "vgg16_cnsn", the paper's, cut behind two and behind seven convolutions;
            "vgg16_cnsn_half", half as wide; "resnet18_cifar", cut behind stages 1 and 2.
        num_classes: number of logits.
        input_shape: (height, width, 3) of the images, in [0, 255].
        name: name of the model.
        **options: `widths`, `batch_norm`, `loss_weights`, `distillation` and `temperature` of
            `CNSN`.

    Returns:
        A `CNSN`.

    Reference: Fuengfusin and Tamukoh, JRNAL 8(1), 2021, doi 10.2991/jrnal.k.210521.012, section 3.
    """
    builder, cuts = NETWORKS[network]
    return CNSN(builder(network, num_classes, input_shape), cuts, name=name, **options)
