"""The TissueNets of the zoo."""

from keras_dynnets.baselines.entries import CIFAR10, IMAGENET, MNIST, TINY_IMAGENET
from keras_dynnets.core.registry import register

MODULES = ("stacked_units",)

PLACE = "keras_dynnets.families.tissue.networks"
NETWORKS = {  # name: builder, data set, what the name fixes, the plain network
    "tissue_mlp": ("tissue_mlp", MNIST, {}, "mlp"),
    "tissue_lenet5": ("tissue_lenet5", MNIST, {}, "lenet5"),
    "tissue_vgg16": ("tissue_vgg16", CIFAR10, {}, "vgg16_cifar"),
    "tissue_vgg19": ("tissue_vgg19", TINY_IMAGENET, {"keep_ends": False}, "vgg19"),
    "tissue_vgg19_r": ("tissue_vgg19", TINY_IMAGENET, {"keep_ends": True}, "vgg19"),
    "tissue_resnet18": ("tissue_resnet", CIFAR10, {"network": "resnet18"}, "resnet18_cifar"),
    "tissue_resnet18_r": ("tissue_resnet", CIFAR10, {"network": "resnet18_r"}, "resnet18_cifar"),
    "tissue_resnet34_r": ("tissue_resnet", IMAGENET, {"network": "resnet34_r"}, "resnet34"),
    "tissue_mobilenetv2_r": ("tissue_mobilenet_v2", CIFAR10, {}, "mobilenetv2_cifar"),
}

for name, (builder, data, arguments, rival) in NETWORKS.items():
    register(
        name,
        "tissue",
        f"{PLACE}:{builder}",
        **data,
        paper="2205.01508",
        arguments=arguments,
        smallest=32 if "vgg" in name else 16,
        rival=rival,
    )
