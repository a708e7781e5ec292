"""The Puppet-CNNs of the zoo."""

from keras_dynnets.baselines.entries import CIFAR10
from keras_dynnets.core.registry import register

MODULES = (
    "input_complexity",
    "kernel_ode",
    "generated_conv",
    "level_normalization",
    "puppet_layer",
    "model",
)

# By the name of the entry, the plain network whose kernels are generated.
NETWORKS = {
    "puppet_cnn": "convnet",
    "puppet_cnn_128": "convnet_128",
    "puppet_alexnet": "alexnet_conv",
    "puppet_vgg16": "vgg16_conv",
    "puppet_resnet18": "resnet18_conv",
}

for name, network in NETWORKS.items():
    register(
        name,
        "puppet",
        "keras_dynnets.families.puppet.builders:puppet_cnn",
        **CIFAR10,
        paper="2411.12876",
        arguments={"network": network},
        rival=network,
    )
