"""What an exported file of a Puppet-CNN holds."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_dynnets.core.class_names import names_of_classes
from keras_dynnets.core.conditional import switch_of
from keras_dynnets.core.dynamic import ONE, Deployment
from keras_dynnets.families.puppet import onnx_generator
from keras_dynnets.families.puppet.level_switch import switching

if TYPE_CHECKING:
    from keras_dynnets.families.puppet.model import PuppetCNN

KERNELS = ("materialised", "generator")


def deployment_of(model: "PuppetCNN", levels: Sequence[int] | None, kernels: str) -> Deployment:
    """Gives the deployment of some levels of a model.

    Args:
        model: a `PuppetCNN` with levels.
        levels: the levels that the file has, indices into `model.depths`; None for all.
        kernels: "materialised" or "generator", see `PuppetCNN.deployments`.

    Raises:
        ValueError: unknown kernels, or levels that the model does not have.
    """
    if kernels not in KERNELS:
        raise ValueError(f"kernels are {' or '.join(KERNELS)}, not {kernels!r}")
    network, names = switching(model, levels), names_of_classes(model)
    if kernels == "generator":

        def write(path: Path, batch_size: int | None, tools: Any) -> None:
            onnx_generator.write(model, levels, path, batch_size, tools)

        return Deployment(
            model.name,
            {ONE: network},
            class_names=names,
            writers={"onnx": write},
            formats=("onnx",),
            precisions=("fp32",),
            reason="a file with the generator is for format='onnx' and precision='fp32'; other "
            "runtimes would generate the kernels for every image; give kernels='materialised'",
        )
    if switch_of(network):
        return Deployment(
            model.name,
            {ONE: network},
            class_names=names,
            precisions=("fp32", "fp16"),
            reason="int8 is for one network a file; give levels=[k], or export "
            f"model.materialise(k) of {model.name}",
        )
    return Deployment(model.name, {ONE: network}, class_names=names)
