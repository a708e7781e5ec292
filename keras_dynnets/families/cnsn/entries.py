"""The CNSNs of the zoo."""

from keras_dynnets.baselines.entries import CIFAR10
from keras_dynnets.core.registry import register

MODULES = ("step_down_conv", "sliced", "model")

NETWORKS = {  # name: the base network, side in pixels of the smallest image
    "cnsn_vgg16": ("vgg16_cnsn", 32),
    "cnsn_vgg16_half": ("vgg16_cnsn_half", 32),
    "cnsn_resnet18": ("resnet18_cifar", 16),
}

for name, (network, smallest) in NETWORKS.items():
    register(
        name,
        "cnsn",
        "keras_dynnets.families.cnsn.networks:detachable_network",
        **CIFAR10,
        paper="10.2991/jrnal.k.210521.012",
        arguments={"network": network},
        smallest=smallest,
        part_options=("sub_model", "width"),
        rival=network,
    )
