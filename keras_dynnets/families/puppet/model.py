"""Puppet-CNN: an ODE generates all kernels of a CNN, and its depth, from the complexity of the image."""

import numbers

import keras
import numpy as np
from keras import ops

from keras_dynnets.baselines.convnet import WIDTHS, build_convnet
from keras_dynnets.core import graph
from keras_dynnets.core.conditional import switch_of
from keras_dynnets.core.dynamic import (
    ONE,
    CostPlan,
    Deployment,
    DynamicModel,
    PerImage,
    TrainingPlan,
    refuse_options,
)
from keras_dynnets.core.images import checked_shape
from keras_dynnets.core.registry import takes_options_of
from keras_dynnets.families.puppet import onnx_generator
from keras_dynnets.families.puppet.input_complexity import complexity
from keras_dynnets.families.puppet.level_batches import LevelBatches
from keras_dynnets.families.puppet.level_switch import switching
from keras_dynnets.families.puppet.levels import RANKS, level_of, rank_of
from keras_dynnets.families.puppet.materialise import materialised
from keras_dynnets.families.puppet.puppet_layer import ADAPT, Puppet

PREDICTED = 32  # images a call, where nothing else is said
CALIBRATION = 5000  # training images that set the batch-norm statistics after a training
KERNELS = ("materialised", "generator")


@keras.saving.register_keras_serializable(package="keras_dynnets")
class PuppetCNN(DynamicModel, keras.Model):
    """A CNN (the puppet) whose kernels an ODE (the puppeteer) generates from the complexity of the image.

    Everything follows from one number, the image's complexity. Here it is quantised to `levels`, each with as many of
    the training images, so that the family is a handful of networks: `fit` groups images by their level and
    generates once for a batch; `predict` groups rows likewise and runs a plain CNN with
    constant kernels for each level (see `materialise`), made again whenever the weights have changed.

    A stored model is the puppeteer, the complexities of the training images at 65 ranks, and the
    batch-norm statistics of every level.

    Deviations from the paper, which prints no formula for depth and step: complexity acts by its rank among the training
    images, in [0, 1]; the depth grows linearly with the rank from the network without any layer that can go to
    all of it, and all networks integrate over the same horizon, in smaller steps where they are deeper. See
    `KernelODE` for the initial state, `kernel_of` for the scale of kernels. Batch norm has statistics for each
    level and no parameters.

    A training batch runs at one level, the median of its images: give `fit` arrays, or a data set
    from `by_level`. Elsewhere every image runs at its own.

    Args:
        network: a functional Keras model from images in [0, 255] of a fixed size to one output; the shape of the puppet, at its deepest.
            Its Conv2D and DepthwiseConv2D are generated, without biases and regularisers, and its batch norms lose their
            parameters and momentum (it is 0.9 here); other layers stay, with their weights. `plan` says which.
        adapt: "none": one network; "parameters": kernels follow the complexity; "depth": so do the layers that run. A layer
            can go where every way leads through two feature maps of the same shape round it,
            and it runs nowhere else.
        levels: how many; None for kernels of each image's own, the form that the levelled one comes near to.
        state, method, horizon, seed: of the `KernelODE`.
        normalise_kernels: see `kernel_of`.

    Input shape: that of the network.

    Output shape: that of the network.

    Raises:
        ValueError: a network without a convolution, levels below 1, an unknown way to adapt.

    Every step of the equation makes a state of C x C x k x k values, with C the widest and k the largest of the network's
    convolutions, and a training keeps all steps: a network as wide as ResNet-50 (C = 2048, k = 7) is out of reach.

    Example:
        >>> network = zoo.load("resnet18_conv", weights=None, num_classes=5)
        >>> model = puppeteer(network)
        >>> model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> model.fit(images, labels)
        >>> plain = model.materialise(0)

    Reference: Ma et al., Puppet-CNN: Continuous Parameter Dynamics for Input-Adaptive Convolutional Networks,
    arXiv 2411.12876.
    """

    # ---- layers and functional model

    def __init__(
        self,
        network,
        adapt="depth",
        levels=8,
        state="noise",
        method="euler",
        horizon=1.0,
        normalise_kernels=True,
        seed=0,
        **kwargs,
    ):
        if adapt not in ADAPT:
            raise ValueError(f"adapt is one of {', '.join(ADAPT)}, not {adapt!r}")
        if levels is not None and (
            not isinstance(levels, numbers.Integral) or isinstance(levels, bool) or levels < 1
        ):
            raise ValueError(
                f"levels is 1 or more, or None for kernels of each image's own, not {levels!r}"
            )
        network = graph.functional(network, "puppeteer")
        ode = dict(state=state, method=method, horizon=horizon, seed=seed)
        puppet = Puppet(network, adapt, levels, normalise_kernels, ode, name="puppet")
        images = keras.Input(network.input_shape[1:], name="images")
        super().__init__(inputs=images, outputs=puppet(images), **{"name": network.name, **kwargs})

        # ---- functional attributes
        self.puppet = puppet
        self._networks = _Networks()

    @property
    def plan(self):
        """What of the network is generated and what can go: a `Plan`."""
        return self.puppet.plan

    @property
    def depths(self):
        """Convolutions that run in each of the networks, from the least complex images' on."""
        return tuple(branch.depth for branch in self.puppet.branches)

    @property
    def level_macs(self):
        """MACs an image of each of them."""
        return tuple(self.plan.macs(branch.dropped) for branch in self.puppet.branches)

    # ---- levels

    def levels_of(self, images):
        """The place in `depths` of the network that each image is for.

        Args:
            images: (n, height, width, channels) in [0, 255].

        Returns:
            (n,) integers.

        Raises:
            ValueError: images of another shape, or with pixels that are no number.
        """
        images = checked_shape(images, self.input_shape[1:])
        ranks = rank_of(ops.convert_to_tensor(complexity(images)), self.puppet.quantiles)
        return ops.convert_to_numpy(level_of(ranks, len(self.depths)))

    def rank(self, images):
        """Takes the complexities that ranks refer to from images, of the training set; `fit` does so the first time."""
        quantiles = np.quantile(
            complexity(checked_shape(images, self.input_shape[1:])), np.linspace(0, 1, RANKS)
        )
        self.puppet.quantiles.assign(quantiles.astype("float32"))

    @property
    def ranked(self):
        """Whether they have been taken."""
        return not np.allclose(
            ops.convert_to_numpy(self.puppet.quantiles), np.linspace(0, 1, RANKS)
        )

    def calibrate(self, images, batch_size=100):
        """Sets the batch-norm statistics of every network by one pass over images for it.

        Args:
            images: as for `fit`. batch_size: images a pass.

        Raises:
            ValueError: no images.
        """
        if not len(images):
            raise ValueError("calibration needs images, some hundred of the kind that will be seen")
        if not self.ranked:
            self.rank(images)
        places, puppet = self.levels_of(images), self.puppet
        statistics = ops.convert_to_numpy(puppet.statistics).copy()
        for i in range(len(puppet.branches)):
            rows = np.flatnonzero(places == i)
            total, seen = 0.0, 0
            for start in range(0, len(rows), batch_size):
                part = ops.convert_to_tensor(
                    np.asarray(images)[rows[start : start + batch_size]].astype("float32")
                )
                _, found = puppet.run(part, puppet.rank(part), i)
                total = total + len(part) * ops.convert_to_numpy(found)
                seen += len(part)
            if seen:
                statistics[i] = total / seen
        puppet.statistics.assign(statistics)

    # ---- running

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        validation_split=0.0,
        validation_data=None,
        shuffle=True,
        class_weight=None,
        sample_weight=None,
        **kwargs,
    ):
        """As of `keras.Model`. Arrays are put into batches of one level each.

        Its batch-norm statistics are averages of the last batches of each level; `calibrate` makes better ones.
        """
        kwargs |= {
            "epochs": epochs,
            "verbose": verbose,
            "callbacks": callbacks,
            "class_weight": class_weight,
        }
        if hasattr(x, "__array__"):
            arrays = [np.asarray(a) for a in (x, y, sample_weight) if a is not None]
            if len({len(a) for a in arrays}) > 1:
                raise ValueError(
                    f"images, labels and sample weights are as many, not {', '.join(str(len(a)) for a in arrays)}"
                )
            held_out = int(len(x) * validation_split)
            if held_out:
                validation_data = tuple(a[-held_out:] for a in arrays)
                arrays = [a[:-held_out] for a in arrays]
            if not self.ranked:
                self.rank(arrays[0])
            seed = np.random.randint(
                2**31
            )  # of numpy's own, which keras.utils.set_random_seed sets
            batches = LevelBatches(
                arrays, self.levels_of(arrays[0]), batch_size or PREDICTED, shuffle, seed
            )
            return super().fit(batches, validation_data=validation_data, **kwargs)
        if not self.ranked:
            raise ValueError(
                f"{self.name} does not know the complexities of your training images: model.rank(some_thousand_images) "
                "once, then batches of one level, by puppet.by_level(dataset, model, batch_size)"
            )
        kwargs |= {
            "batch_size": batch_size,
            "validation_split": validation_split,
            "sample_weight": sample_weight,
        }
        return super().fit(x, y, validation_data=validation_data, shuffle=shuffle, **kwargs)

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        """As of `keras.Model`. Rows of a level run together, in a plain CNN."""
        exact = self.puppet.levels is None and self.puppet.adapt != "none"
        if not hasattr(x, "__array__") or exact or steps is not None or callbacks:
            return super().predict(x, batch_size, verbose, steps, callbacks)
        images = checked_shape(x, self.input_shape[1:])
        levels = self.levels_of(images)
        outputs = np.zeros((len(images), *self.output_shape[1:]), "float32")
        size = batch_size or PREDICTED
        for level in np.unique(levels):
            rows = np.flatnonzero(levels == level)
            network = self._networks.of(self, int(level))
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                outputs[part] = network.predict_on_batch(images[part].astype("float32"))
        return outputs

    # ---- plain networks

    def materialise(self, level):
        """The network of a level as a plain Keras CNN, with constant kernels and batch norms folded.

        Args:
            level: place in `depths`.

        Returns:
            A functional `keras.Model` with its own copies of all weights.

        Raises:
            ValueError: there is no such level, or levels are None.
        """
        branches = self.puppet.branches
        if (
            not isinstance(level, numbers.Integral)
            or not 0 <= level < len(branches)
            or branches[level].complexity is None
        ):
            levels = (
                "no levels: kernels are each image's own"
                if self.puppet.levels is None
                else f"levels 0 to {len(branches) - 1}"
            )
            raise ValueError(f"{self.name} has no level {level!r}; it has {levels}")
        return materialised(self.puppet, level, f"{self.name}_level{level}")

    # ---- the interface to the rest of the library

    def inference_network(self):
        """Gives the deepest of the networks."""
        return materialised(self.puppet, len(self.depths) - 1, self.name)

    def cost_plan(self):
        plan = self.plan
        generated = {*plan.convolutions, *plan.norms}
        return CostPlan(plan.network, generated, [self.puppet.ode], tuple(self.level_macs))

    def run_images(self, images, batch_size):
        macs = np.array(self.level_macs)[self.levels_of(images)]
        return PerImage(self.predict(images, batch_size, verbose=0), macs)

    def deployments(self, **options):
        """Gives what an exported file holds: the plain networks of levels and the choice among them.

        Args:
            levels: the levels that the file has, indices into `depths`; None for all. An image of
                another level goes to the nearest one.
            kernels: "materialised" for constant kernels; "generator" for a file with the puppeteer
                in their place, which the runtime unfolds when it loads it (ONNX alone).
        """
        refuse_options(self.name, options, ("levels", "kernels"))
        levels, kernels = options.get("levels"), options.get("kernels", "materialised")
        if kernels not in KERNELS:
            raise ValueError(f"kernels are {' or '.join(KERNELS)}, not {kernels!r}")
        network = switching(self, levels)
        if kernels == "generator":

            def write(path, batch_size, tools):
                onnx_generator.write(self, levels, path, batch_size, tools)

            return Deployment(
                self.name,
                {ONE: network},
                writers={"onnx": write},
                formats=("onnx",),
                precisions=("fp32",),
                reason="a file with the generator is for format='onnx' and precision='fp32': other "
                "runtimes would generate the kernels for every image; give kernels='materialised'",
            )
        if switch_of(network):
            return Deployment(
                self.name,
                {ONE: network},
                precisions=("fp32", "fp16"),
                reason="int8 is for one network a file; give levels=[k], or export "
                f"model.materialise(k) of {self.name}",
            )
        return Deployment(self.name, {ONE: network})

    def training_plan(self, section, images):
        """Ranks the training images, forms batches of one level, and calibrates at the end."""
        self.rank(images)
        return TrainingPlan(
            groups=self.levels_of(images),
            finish=lambda images: self.calibrate(images[:CALIBRATION]),
        )

    def summary_metrics(self, measured, accuracy, accuracy_of):
        return {
            "macs_mean": measured.mean_macs,
            "macs_all_on": measured.worst_macs,
            "macs_share": measured.mean_macs_share,
        }

    # ---- config

    def get_config(self):
        return {
            "network": keras.saving.serialize_keras_object(self.plan.network),
            "adapt": self.puppet.adapt,
            "levels": self.puppet.levels,
            **self.puppet.ode_options,
            "normalise_kernels": self.puppet.normalise_kernels,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        return cls(
            keras.saving.deserialize_keras_object(config.pop("network"), custom_objects), **config
        )


class _Networks:
    """Plain networks by their level, as long as the weights that they were made of are the same."""

    def __init__(self):
        self.made, self.weights = {}, None

    def of(self, model, level):
        weights = [ops.convert_to_numpy(v).copy() for v in model.puppet.variables]
        if self.weights is None or not all(map(np.array_equal, weights, self.weights)):
            self.made, self.weights = {}, weights
        if level not in self.made:
            self.made[level] = model.materialise(level)
        return self.made[level]


def puppeteer(model, adapt="depth", **options):
    """Turns the convolutions of a CNN into generated ones: a `PuppetCNN` of its shape, with new, untrained kernels.

    Args:
        model: a functional or `Sequential` Keras model of images in [0, 255], such as one of `keras.applications`.
        adapt: "none", "parameters" or "depth".
        **options: the others of `PuppetCNN`.

    Returns:
        The `PuppetCNN`. Layers that are not generated are the model's own, with their weights.
    """
    return PuppetCNN(model, adapt, **options)


@takes_options_of(PuppetCNN, supplied=("network",))
def puppet_cnn(network, num_classes, input_shape, layers_per_width=None, name=None, **options):
    """Builds a `PuppetCNN` of one of the plain networks of `baselines.convnet`.

    Args:
        network: name of the plain network, see `build_convnet`.
        num_classes: size of the logits, at most the channels of the widest layer.
        input_shape: (height, width, 3); images in [0, 255].
        layers_per_width: convolutions of each width, at the network's deepest, where its name
            leaves them open; default: 3 where the depth adapts, else 2 (the mean of 1, 2 and 3).
        name: name of the model.
        **options: the arguments of `PuppetCNN` besides the network.

    Raises:
        ValueError: more classes than the widest layer has channels.
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
