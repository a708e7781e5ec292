"""DMNN: residual networks whose blocks are split into gated sub-blocks."""

import types

import keras
import numpy as np
from keras import ops

from keras_dynnets.baselines import mobilenet_v2, resnet
from keras_dynnets.baselines.skeleton import apply, assemble
from keras_dynnets.core import cost, keras_private
from keras_dynnets.core.dynamic import (
    ONE,
    Deployment,
    DynamicModel,
    PerImage,
    TrainingPlan,
    refuse_options,
)
from keras_dynnets.families.dmnn.multi_path import MultiPath
from keras_dynnets.families.dmnn.path_controller import PathController
from keras_dynnets.families.dmnn.recipe import FollowSchedule, GateSchedule

BACKBONES = {**resnet.NETWORKS, **mobilenet_v2.NETWORKS}


@keras.saving.register_keras_serializable(package="keras_dynnets")
class DMNN(DynamicModel, keras.Model):
    """Dynamic Multi-path Neural Network: a controller picks the sub-blocks of every block per image.

    Gives logits. Trains with plain `compile` and `fit(x, y)`: the model adds its
    resource loss (eq. 11-15: `L_exec + L_flops`, both towards `target_rate`) itself
    and, where `categories` are given, the category loss (eq. 9-10), and reports the
    metrics `execution_rate` (share of sub-blocks that ran) and `macs_share` (MACs
    done / MACs with all paths on, whole network) of the training batches. Under a
    `tf.distribute` strategy the rates are those of the global batch.

    `keras.models.clone_model` gives the bare network, with gates and without the losses; to copy a DMNN, use
    `DMNN.from_config(model.get_config())`. A `.keras` file keeps everything but `execution`.

    Deviations from the paper: f and f_total of eq. 13-14 are the MACs of the whole
    network, stem, shortcuts, controllers and head included, so that the target is what
    the user's device does; category weights go from 1e-4 at the first stage to 1e-1 at the
    last in equal ratios whatever the number of stages (the paper's, for four).

    Args:
        backbone: "resnet20", "resnet50_cifar", "resnet50", "resnet101", "mobilenetv2"
            or "mobilenetv2_140".
        sub_blocks: N, sub-blocks per block: 2, 3 or 4.
        num_classes: size of the logits.
        input_shape: (height, width, 3) of the images, float in [0, 255].
        target_rate: r (and e), the share of MACs and of sub-blocks to run, in (0, 1].
        categories: optional coarse category of every class, `num_classes` integers
            from 0. Every controller then learns to predict it; inference does without.
        resource_weight: weight of the resource loss. 1 in the paper.
        gate_noise: scale of the Gumbel noise in training. 1 in the paper.
        logits_stddev: deviation of the controllers' last weights at the start (see `PathController`).
        seed: seed of the gate noise.

    Input shape: (batch, height, width, 3).

    Output shape: (batch, num_classes).

    Raises:
        ValueError: an unknown backbone, an N that does not split its blocks,
            `target_rate` outside (0, 1], `num_classes` below 1, a category table of another length.

    Example:
        >>> model = DMNN("resnet20", num_classes=10, input_shape=(32, 32, 3))
        >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> model.fit(images, labels)

    Reference: Su et al., Dynamic Multi-path Neural Network, arXiv 1902.10949.
    """

    # ---- layers and functional model

    def __init__(
        self,
        backbone="resnet50",
        sub_blocks=2,
        num_classes=1000,
        input_shape=(224, 224, 3),
        target_rate=0.7,
        categories=None,
        resource_weight=1.0,
        gate_noise=1.0,
        logits_stddev=0.001,
        seed=None,
        **kwargs,
    ):
        _check(backbone, sub_blocks, num_classes, categories)
        categories = None if categories is None else tuple(int(c) for c in categories)
        images = keras.Input(input_shape, name="images")
        gates, states, stages, state = [], [], [], None
        path_macs = []

        def branch(block, x):
            nonlocal state
            # one seed a controller, or all of them would draw the same noise
            own_seed = None if seed is None else seed + len(gates)
            controller = PathController(
                sub_blocks,
                noise=gate_noise,
                logits_stddev=logits_stddev,
                seed=own_seed,
                name=f"{block.name}_controller",
            )
            gate, state = controller(x, state)
            paths = [
                keras.Sequential(block.path(sub_blocks, n), name=f"{block.name}_path{n + 1}")
                for n in range(sub_blocks)
            ]
            multi_path = MultiPath(paths, name=f"{block.name}_paths")
            output = multi_path(x, gate, apply(block.shortcut(), x))
            gates.append(gate)
            states.append(state)
            stages.append(block.stage)
            path_macs.append(multi_path.optional_macs(x.shape))
            return output

        logits = assemble(BACKBONES[backbone], images, num_classes, branch)
        outputs = {"logits": logits, "gates": ops.stack(gates, axis=1)}
        if categories is not None:
            outputs["categories"] = [
                keras.layers.Dense(max(categories) + 1, dtype="float32", name=f"category{i + 1}")(s)
                for i, s in enumerate(states)
            ]
        super().__init__(inputs=images, outputs=outputs, **kwargs)

        # ---- functional attributes
        self._measured = types.SimpleNamespace(network=None)  # hidden from Keras's saving
        self.backbone = backbone
        self.sub_blocks = sub_blocks
        self.num_classes = num_classes
        self.target_rate = target_rate
        self.categories = categories
        self.resource_weight = resource_weight
        self.logits_stddev = logits_stddev
        self.seed = seed
        self.path_macs = np.array(path_macs)
        self.fixed_macs = cost.model_macs(self.with_gates()) - int(self.path_macs.sum())
        self.category_weights = np.geomspace(1e-4, 1e-1, max(stages) + 1)[stages].tolist()
        self._rates = [
            keras.metrics.Mean(name="execution_rate"),
            keras.metrics.Mean(name="macs_share"),
        ]

    # ---- running

    @property
    def execution(self):
        """How the blocks run: "auto", "masked", "sparse" or "conditional" (see `MultiPath`)."""
        return self._multi_paths()[0].execution

    @execution.setter
    def execution(self, value):
        for layer in self._multi_paths():
            layer.execution = value
        self._forget_traces()

    @property
    def gate_noise(self):
        """Scale of the Gumbel noise in training."""
        return self._controllers()[0].gate.noise

    @gate_noise.setter
    def gate_noise(self, value):
        for controller in self._controllers():
            controller.gate.noise = value
        self._forget_traces()

    @property
    def target_rate(self):
        """Share of the work to do, which the resource loss aims at."""
        return self._target_rate

    @target_rate.setter
    def target_rate(self, value):
        if not 0 < value <= 1:
            raise ValueError(
                f"target_rate is the share of work to do, above 0 and at most 1, not {value}"
            )
        self._target_rate = value
        self._forget_traces()

    @property
    def resource_weight(self):
        """Weight of the resource loss."""
        return self._resource_weight

    @resource_weight.setter
    def resource_weight(self, value):
        self._resource_weight = value
        self._forget_traces()

    def _multi_paths(self):
        return [layer for layer in self.layers if isinstance(layer, MultiPath)]

    def _controllers(self):
        return [layer for layer in self.layers if isinstance(layer, PathController)]

    def _forget_traces(self):
        """Has `fit`, `evaluate` and `predict` traced anew: they hold Python values as constants."""
        fitting = getattr(self, "train_function", None) is not None
        self.train_function = self.test_function = self.predict_function = None
        self._measured.network = None
        if fitting:  # a callback may have set the value in the middle of `fit`
            self.make_train_function(force=True)

    def call(self, inputs, training=None, mask=None):
        outputs = super().call(inputs, training=training, mask=mask)
        if not training:
            return outputs["logits"]
        if self._in_train_step:
            return outputs  # for compute_loss and compute_metrics
        # Inside another model, or in the user's own loop: plain logits, and the resource loss among the losses.
        keras_private.add_loss(self, self.resource_weight * self._resource_loss(outputs["gates"]))
        return outputs["logits"]

    def compute_output_spec(self, inputs, training=None, mask=None):
        return super().compute_output_spec(inputs, training=training, mask=mask)["logits"]

    def with_gates(self):
        """The network of inference, sharing this one's layers, with outputs "logits" and "gates" (batch, blocks, N)."""
        outputs = keras_private.structured_outputs(self)
        return keras.Model(
            self.input, {name: outputs[name] for name in ("logits", "gates")}, name=self.name
        )

    # ---- the interface to the rest of the library

    recipe_section = GateSchedule

    def inference_network(self):
        return self.with_gates()

    def run_images(self, images, batch_size):
        if self._measured.network is None:  # made once, so that it is traced once
            self._measured.network = self.with_gates()
        outputs = self._measured.network.predict(images, batch_size, verbose=0)
        gates = outputs["gates"].astype("uint8")
        return PerImage(outputs["logits"], np.rint(self.macs_of(gates)).astype("int64"), gates)

    def deployments(self, **options):
        """Gives what an exported file holds: the network, with its gates as an output on request.

        Args:
            gates: whether the file has a second output "gates", (batch, blocks, sub_blocks).
        """
        refuse_options(self.name, options, ("gates",))
        gates = options.get("gates", False)
        if not isinstance(gates, bool):
            raise ValueError(
                f"gates says whether the file gives the gates, True or False, not {gates!r}"
            )
        outputs = ("logits", "gates") if gates else ("logits",)
        return Deployment(self.name, {ONE: self.with_gates()}, outputs)

    def training_plan(self, section, images):
        """Follows the schedule of the gates; controllers train without weight decay.

        Decay would shrink a controller's logits until its gates depend on nothing but noise.
        """
        return TrainingPlan(
            callbacks=[FollowSchedule(section or GateSchedule())],
            undecayed=[w for layer in self._controllers() for w in layer.trainable_weights],
        )

    def summary_metrics(self, measured, accuracy, accuracy_of):
        return {
            "macs_mean": measured.mean_macs,
            "macs_all_on": measured.worst_macs,
            "macs_share": measured.mean_macs_share,
            "execution_rate": measured.mean_execution_rate,
        }

    # ---- training

    _in_train_step = False

    def train_step(self, *args):
        self._in_train_step = True
        try:
            return super().train_step(*args)
        finally:
            self._in_train_step = False

    def macs_of(self, gates):
        """MACs each image needs, given its gates (batch, blocks, sub_blocks)."""
        return self.fixed_macs + (np.asarray(gates, "float64") * self.path_macs).sum((-2, -1))

    def _shares(self, rates):
        """Share of sub-blocks run and of MACs done, from the rate of every sub-block (blocks, sub_blocks)."""
        total = self.fixed_macs + self.path_macs.sum()
        macs = self.fixed_macs / total + ops.sum(
            rates * ops.convert_to_tensor(self.path_macs / total, rates.dtype)
        )
        return ops.mean(rates), macs

    def _resource_loss(self, gates):
        rates = _global_mean(ops.cast(gates, "float32"))
        _, macs_share = self._shares(rates)
        exec_loss = ops.sum(ops.square(self.target_rate - ops.mean(rates, axis=1)))
        return exec_loss + ops.square(macs_share - self.target_rate)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if not isinstance(y_pred, dict):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        loss = super().compute_loss(x, y, y_pred["logits"], sample_weight, training)
        # Not by add_loss: the replicas of a tf.distribute strategy share the list of losses.
        resources = self.resource_weight * self._resource_loss(y_pred["gates"])
        loss += keras_private.scaled_for_replicas(self, resources)
        if self.categories is not None:
            classes = (
                ops.argmax(y, -1)
                if len(y.shape) == 2 and y.shape[-1] == self.num_classes > 1
                else ops.reshape(y, (-1,))
            )
            coarse = ops.take(
                ops.convert_to_tensor(self.categories, "int32"), ops.cast(classes, "int32")
            )
            entropy = keras.losses.SparseCategoricalCrossentropy(
                from_logits=True
            )  # scales itself under a strategy
            heads = zip(self.category_weights, y_pred["categories"], strict=True)
            loss += sum(weight * entropy(coarse, head, sample_weight) for weight, head in heads)
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        if isinstance(y_pred, dict):
            rates = ops.mean(ops.cast(y_pred["gates"], "float32"), axis=0)
            for metric, share in zip(self._rates, self._shares(rates), strict=True):
                metric.update_state(share)
            return super().compute_metrics(x, y, y_pred["logits"], sample_weight)
        results = super().compute_metrics(x, y, y_pred, sample_weight)
        return {
            name: value
            for name, value in results.items()
            if name not in [m.name for m in self._rates]
        }

    # ---- config

    def get_config(self):
        return {
            "backbone": self.backbone,
            "sub_blocks": self.sub_blocks,
            "num_classes": self.num_classes,
            "input_shape": self.input_shape[1:],
            "target_rate": self.target_rate,
            "categories": self.categories,
            "resource_weight": self.resource_weight,
            "gate_noise": self.gate_noise,
            "logits_stddev": self.logits_stddev,
            "seed": self.seed,
            "name": self.name,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "frozen": [
                i
                for i, layer in enumerate(keras_private.flattened_layers(self))
                if not layer.trainable
            ],
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """A model from `get_config`, of its dtype policy and with the same layers frozen (by their positions)."""
        config = dict(config)
        frozen = config.pop("frozen", ())
        policy = keras.config.dtype_policy()
        try:
            keras.config.set_dtype_policy(keras.dtype_policies.get(config.pop("dtype", policy)))
            model = cls(**config)
        finally:
            keras.config.set_dtype_policy(policy)
        for i, layer in enumerate(keras_private.flattened_layers(model)):
            layer.trainable = i not in frozen  # outermost first: a model freezes what is in it
        return model


def _check(backbone, sub_blocks, num_classes, categories):
    if backbone not in BACKBONES:
        raise ValueError(f"backbone {backbone!r} is unknown; it is one of {', '.join(BACKBONES)}")
    if sub_blocks not in (2, 3, 4):
        raise ValueError(f"sub_blocks (N) is 2, 3 or 4, not {sub_blocks}")
    if num_classes < 1:
        raise ValueError(f"num_classes must be 1 or more, not {num_classes}")
    if categories is not None and (len(categories) != num_classes or min(categories) < 0):
        raise ValueError(
            f"categories gives every class its category: {num_classes} integers from 0, not {len(categories)} values "
            f"from {min(categories, default=None)}"
        )


def _global_mean(gates):
    """Mean over the batch: over that of all replicas under a tf.distribute strategy, which need not have equal parts."""
    total, images = ops.sum(gates, axis=0), ops.cast(ops.shape(gates)[0], gates.dtype)
    if keras.backend.backend() == "tensorflow":  # JAX computes on the global batch
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            total, images = context.all_reduce(tf.distribute.ReduceOp.SUM, [total, images])
    return total / images
