"""The DMNNs that the zoo has by name."""

from keras_dynnets.baselines.entries import CIFAR10, CIFAR100, IMAGENET
from keras_dynnets.core.registry import register

MODULES = ("gumbel_gate", "path_controller", "multi_path", "model")

NETWORKS = {  # name: backbone, number of sub-blocks in each block, data set
    "dmnn20": ("resnet20", 2, CIFAR10),
    "dmnn18_cifar": ("resnet18_cifar", 2, CIFAR10),
    "dmnn50_cifar": ("resnet50_cifar", 2, CIFAR100),
    "dmnn50": ("resnet50", 2, IMAGENET),
    "dmnn50_n3": ("resnet50", 3, IMAGENET),
    "dmnn50_n4": ("resnet50", 4, IMAGENET),
    "dmnn101": ("resnet101", 2, IMAGENET),
    "dmnn_mobilenetv2": ("mobilenetv2", 2, IMAGENET),
    "dmnn_mobilenetv2_140": ("mobilenetv2_140", 2, IMAGENET),
}

for name, (backbone, sub_blocks, data) in NETWORKS.items():
    register(
        name,
        "dmnn",
        "keras_dynnets.families.dmnn.model:DMNN",
        **data,
        paper="1902.10949",
        arguments={"backbone": backbone, "sub_blocks": sub_blocks},
        recipe_section="keras_dynnets.families.dmnn.recipe:GateSchedule",
        rival=backbone,
    )
