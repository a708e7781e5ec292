"""The plain networks of the zoo."""

from keras_dynnets.core.registry import register

IMAGENET = {"input_shape": (224, 224, 3), "num_classes": 1000}
CIFAR10 = {"input_shape": (32, 32, 3), "num_classes": 10}
CIFAR100 = {"input_shape": (32, 32, 3), "num_classes": 100}
TINY_IMAGENET = {"input_shape": (64, 64, 3), "num_classes": 200}
MNIST = {"input_shape": (28, 28, 1), "num_classes": 10}

BASELINES = "keras_dynnets.baselines"
NETWORKS = {  # family: its builder, its paper, the smallest image, the data set of each network
    "resnet": (
        f"{BASELINES}.resnet:build_resnet",
        "1512.03385",
        16,
        {
            "resnet20": CIFAR10,
            "resnet18_cifar": CIFAR10,
            "resnet34": IMAGENET,
            "resnet50_cifar": CIFAR100,
            "resnet50": IMAGENET,
            "resnet101": IMAGENET,
        },
    ),
    "mobilenetv2": (
        f"{BASELINES}.mobilenet_v2:build_mobilenet_v2",
        "1801.04381",
        16,
        {"mobilenetv2": IMAGENET, "mobilenetv2_140": IMAGENET, "mobilenetv2_cifar": CIFAR10},
    ),
    "vgg": (
        f"{BASELINES}.vgg:build_vgg",
        "1409.1556",
        32,
        {
            "vgg16_cifar": CIFAR10,
            "vgg16_cnsn": CIFAR10,
            "vgg16_cnsn_half": CIFAR10,
            "vgg19": TINY_IMAGENET,
        },
    ),
    "convnet": (
        f"{BASELINES}.convnet:build_convnet",
        "2411.12876",
        16,
        dict.fromkeys(
            ("convnet", "convnet_128", "alexnet_conv", "vgg16_conv", "resnet18_conv"), CIFAR10
        ),
    ),
}

for family, (builder, paper, smallest, networks) in NETWORKS.items():
    for name, data in networks.items():
        details = {"paper": paper, "smallest": smallest, "arguments": {"network": name}}
        register(name, family, builder, **data, **details)

register("mlp", "mlp", f"{BASELINES}.mlp:build_mlp", **MNIST, paper="2205.01508")
register("lenet5", "mlp", f"{BASELINES}.mlp:build_lenet5", **MNIST, paper="10.1109/5.726791")
