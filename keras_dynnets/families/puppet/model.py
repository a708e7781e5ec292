"""Puppet-CNN: an ODE generates the kernels of a CNN, and its depth, from the image's complexity."""

import numbers
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_dynnets.core import cost, graph, keras_private
from keras_dynnets.core.arguments import plain
from keras_dynnets.core.class_names import ATTRIBUTE, names_from_config, names_in_config
from keras_dynnets.core.dynamic import (
    CostPlan,
    Deployment,
    DynamicModel,
    PerImage,
    TrainingPlan,
    refuse_options,
)
from keras_dynnets.core.freezing import freeze_positions, frozen_positions
from keras_dynnets.core.images import first
from keras_dynnets.families.puppet.branches import ADAPT
from keras_dynnets.families.puppet.deployment import deployment_of
from keras_dynnets.families.puppet.levelled_model import LevelledModel
from keras_dynnets.families.puppet.materialise import PlainNetworks, materialised
from keras_dynnets.families.puppet.plan import Plan
from keras_dynnets.families.puppet.puppet_layer import Puppet

CALIBRATION = 5000  # training images that set the batch-norm statistics after a training


@keras.saving.register_keras_serializable(package="keras_dynnets")
class PuppetCNN(DynamicModel, LevelledModel):
    """A CNN (the puppet) whose kernels an ODE (the puppeteer) generates from the image.

    Kernels and depth follow from one number, the complexity of the image. The complexity is
    quantised to `levels` that have equal numbers of training images, so that the model is a family
    of a few networks. `fit` forms batches of one level and generates the kernels once a batch.
    `predict` runs the images of each level in a plain CNN with constant kernels, which is built
    anew when the weights have changed (see `materialise`). `call` runs every image at its own
    level; in training it runs the whole batch at the median level of its images.

    A saved model holds the puppeteer, the complexities of the training images at 65 ranks, and the
    batch-norm statistics of every level.

    Every step of the ODE makes a state of C x C x k x k values, with C the largest number of
    channels and k the largest kernel side of the network, and training keeps all steps in memory:
    a network as wide as ResNet-50 (C = 2048, k = 7) is out of reach.

    Deviations from the paper:

    - Levels: the paper generates kernels for every image; `levels=None` does so.
    - Depth and step (equation 10, whose exact form we could not read): the complexity is replaced
      by its rank among the training images, in [0, 1]. The depth grows linearly with the rank,
      from the network without all segments that can be dropped to the whole network. All networks
      integrate the ODE over the same horizon, deeper ones in more and smaller steps.
    - Initial state (equation 11): see `KernelODE`.
    - Scale of kernels (section 3.3): see `kernel_of`.
    - Batch norm (section 3.5) has statistics for each level and no parameters.

    Args:
        network: a functional or `Sequential` Keras model from images in [0, 255] of a fixed size
            to one output; it gives the puppet's layers at full depth. Its `Conv2D` and
            `DepthwiseConv2D` layers get generated kernels and lose their biases and regularisers.
            Its batch norms lose their parameters, and their momentum is 0.9. Other layers stay,
            with their weights. `plan` lists them.
        adapt: "none": one network for all images. "parameters": the kernels depend on the
            complexity. "depth": the layers that run depend on it, too. A segment of layers can be
            dropped if all paths through the network lead through the feature map before it and
            the one behind it, both of the same shape, and its convolutions run nowhere else.
        levels: number of levels; None for kernels of each image's own, which the levels
            approximate.
        state: see `KernelODE`.
        method: see `KernelODE`.
        horizon: see `KernelODE`.
        normalise_kernels: see `kernel_of`.
        seed: see `KernelODE`.

    Input shape: that of the network, (batch, height, width, channels).

    Output shape: that of the network, for classifiers (batch, classes).

    Raises:
        ValueError: a network without a convolution, `levels` below 1, an unknown `adapt`.

    Example:
        >>> network = zoo.load("resnet18_conv", weights=None, num_classes=5)
        >>> model = PuppetCNN(network)
        >>> model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> model.fit(images, labels)
        >>> plain = model.materialise(0)

    Reference: Xing and Wang, Puppet-CNN: Input-Adaptive Convolutional Neural Networks with Model
    Compression using Ordinary Differential Equation, arXiv 2411.12876v1, section 3. A later
    version is called Continuous Parameter Dynamics for Input-Adaptive Convolutional Networks.
    """

    def __init__(
        self,
        network: keras.Model,
        adapt: str = "depth",
        levels: int | None = 8,
        state: str = "noise",
        method: str = "euler",
        horizon: float = 1.0,
        normalise_kernels: bool = True,
        seed: int = 0,
        **kwargs: Any,
    ):
        if adapt not in ADAPT:
            raise ValueError(f"adapt is one of {', '.join(ADAPT)}, not {adapt!r}")
        levels, horizon, seed = plain((levels, horizon, seed))
        whole = isinstance(levels, numbers.Integral) and not isinstance(levels, bool)
        if levels is not None and not (whole and levels >= 1):
            raise ValueError(
                f"levels is 1 or more, or None for kernels of each image's own, not {levels!r}"
            )
        network = graph.functional(network, "puppeteer")
        ode = dict(state=state, method=method, horizon=horizon, seed=seed)
        puppet = Puppet(network, adapt, levels, normalise_kernels, ode, name="puppet")
        images = keras.Input(network.input_shape[1:], name="images")
        arguments = {"name": network.name, **kwargs, "inputs": images, "outputs": puppet(images)}
        super().__init__(**arguments)
        self.puppet = puppet
        self._networks = PlainNetworks()

    def get_layer(self, name: str | None = None, index: int | None = None) -> keras.Layer:
        """Gives a layer of the model, as `keras.Model.get_layer` does.

        Args:
            name: name of the layer.
            index: its index in `layers`.

        Raises:
            ValueError: the model has no such layer. One of the network that it was made of has no
                kernels, and no results, outside a level.
        """
        own, inner = (
            {x.name for x in layers} for layers in (self.layers, self.plan.network.layers)
        )
        if name in inner - own:
            raise ValueError(
                f"{name!r} of {self.name} has other kernels at every level; it is a layer of the "
                "plain network of one level, model.materialise(level)"
            )
        return super().get_layer(name, index)

    @property
    def plan(self) -> Plan:
        """Which layers of the network are generated, and which segments can be dropped."""
        return self.puppet.plan

    @property
    def level_macs(self) -> tuple[int, ...]:
        """MACs for one image at each level."""
        return tuple(self.plan.macs(branch.dropped) for branch in self.puppet.branches)

    # ---- the interface to the rest of the library

    def inference_network(self) -> keras.Model:
        """Gives the plain network of the deepest level, without levels for an image of rank 0.5."""
        return materialised(self.puppet, len(self.depths) - 1, self.name)

    def head_layers(self) -> list[keras.Layer]:
        """Gives the layers that compute the logits, unless the puppeteer generates them."""
        heads = keras_private.layers_with_weights_before(self.plan.network.outputs)
        return [layer for layer in heads if layer in self.plan.kept]

    def cost_plan(self) -> CostPlan:
        generated = {*self.plan.convolutions, *self.plan.norms}
        return CostPlan(self.plan.network, generated, [self.puppet.ode], self.level_macs)

    def run_images(self, images: np.ndarray, batch_size: int) -> PerImage:
        logits = self.predict(images, batch_size, verbose=0)
        try:
            level_macs = self.level_macs
        except cost.UnknownCost:  # of a layer of the user's, which only an evaluation lets pass
            return PerImage(logits)
        return PerImage(logits, np.array(level_macs)[self.levels_of(images)])

    def deployments(self, **options: Any) -> Deployment:
        """Gives what an exported file holds: plain networks and the choice among them.

        Args:
            **options: `levels`, a list of indices into `depths`, gives the levels that the file
                has; None for all. An image of another level goes to the nearest one. `kernels`
                is "materialised" for constant kernels, or "generator" for a file with the
                puppeteer in their place, which ONNX Runtime runs once when it loads the file.

        Raises:
            ValueError: another option, or a value that the model does not have.

        Example:
            >>> export_model(model.deployments(levels=[0, 3]), "model.tflite")
        """
        refuse_options(self.name, options, ("levels", "kernels"))
        return deployment_of(self, options.get("levels"), options.get("kernels", "materialised"))

    def training_plan(self, section: Any, images: np.ndarray) -> TrainingPlan:
        """Ranks the training images, forms batches of one level, and calibrates at the end."""
        self.rank(images)
        return TrainingPlan(
            groups=self.levels_of(images),
            finish=lambda images: self.calibrate(first(images, CALIBRATION)),
        )

    def summary_metrics(
        self, measured: Any, accuracy: float, accuracy_of: Callable[[str], float]
    ) -> dict[str, Any]:
        if measured.macs is None:
            return {}
        return {
            "macs_mean": measured.mean_macs,
            "macs_all_on": measured.worst_macs,
            "macs_share": measured.mean_macs_share,
        }

    def get_config(self) -> dict[str, Any]:
        return {
            "network": keras.saving.serialize_keras_object(self.plan.network),
            "adapt": self.puppet.adapt,
            "levels": self.puppet.levels,
            **self.puppet.ode_options,
            "normalise_kernels": self.puppet.normalise_kernels,
            "name": self.name,
            "frozen": frozen_positions(self),
            **names_in_config(self),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "PuppetCNN":
        config = dict(config)
        frozen, names = config.pop("frozen", ()), config.pop(ATTRIBUTE, None)
        network = keras.saving.deserialize_keras_object(config.pop("network"), custom_objects)
        model = cls(network, **config)
        freeze_positions(model, frozen)
        return names_from_config(model, names)
