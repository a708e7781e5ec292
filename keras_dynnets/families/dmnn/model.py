"""DMNN: residual networks whose blocks are divided into gated sub-blocks."""

import contextvars
import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_dynnets.core import cost, keras_private
from keras_dynnets.core.arguments import plain
from keras_dynnets.core.class_names import (
    ATTRIBUTE,
    names_from_config,
    names_in_config,
    names_of_classes,
)
from keras_dynnets.core.dynamic import (
    ONE,
    Deployment,
    DynamicModel,
    PerImage,
    TrainingPlan,
    refuse_options,
)
from keras_dynnets.core.freezing import freeze_positions, frozen_positions
from keras_dynnets.families.dmnn import losses
from keras_dynnets.families.dmnn.network import BACKBONES, check_arguments, gated_network
from keras_dynnets.families.dmnn.path_controller import with_resource_loss
from keras_dynnets.families.dmnn.recipe import FollowSchedule, GateSchedule
from keras_dynnets.families.dmnn.settings import GateSettings

__all__ = ["BACKBONES", "DMNN"]

# The model whose own training or evaluation step runs. A context variable is each thread's own, so
# that a `predict` in one thread is not changed by a `fit` in another.
_STEPPING: contextvars.ContextVar = contextvars.ContextVar("stepping", default=None)


@keras.saving.register_keras_serializable(package="keras_dynnets")
class DMNN(GateSettings, DynamicModel, keras.Model):
    """Dynamic Multi-path Neural Network: decides for each image which sub-blocks run.

    Every residual block is divided into sub-blocks beside its shortcut. A `PathController` reads
    the input of the block and opens or closes a gate for each of them, and a `MultiPath` runs
    those that are open.

    The model gives logits and trains by plain `compile` and `fit(x, y)`. To the loss that it is
    compiled with it adds the resource loss L_exec + L_flops (equations 11 to 15), both towards
    `target_rate`, and, if `categories` are given, the category loss (equations 9 and 10). `fit`
    reports two metrics of the training batches besides: `execution_rate`, the share of the
    sub-blocks that ran, and `macs_share`, the MACs of the whole network in parts of those with all
    sub-blocks on. Under a `tf.distribute` strategy both are those of the global batch.

    `evaluate`, and the validation in `fit`, report the same two of the images that they see.

    A `.keras` file keeps everything but `execution`. To copy a model, use `copy.deepcopy(model)`,
    or `DMNN.from_config(model.get_config())` for new weights: `keras.models.clone_model` gives the
    bare functional network, which gives the same logits and trains without the losses.

    Deviations from the paper:

    - f and f_total of equations 13 and 14 are the MACs of the whole network, with its stem,
      shortcuts, controllers and head, so that the target is what the user's device does.
    - Equation 9 lacks the minus sign of a cross-entropy; the loss here has it.
    - The weights alpha_l of equation 10 go from 1e-4 in the first stage to 1e-1 in the last in
      equal ratios, whatever the number of stages. For four stages they are the paper's.
    - alpha_2 of equation 16 is `resource_weight`. alpha_1 is 1, as in the paper.

    Args:
        backbone: the plain network that is divided: "resnet20", "resnet18_cifar", "resnet34",
            "resnet50_cifar", "resnet50", "resnet101", "mobilenetv2" or "mobilenetv2_140".
        sub_blocks: number of sub-blocks in each block, the paper's N: 2, 3 or 4.
        num_classes: size of the logits, an integer of 1 or more.
        input_shape: (height, width, 3) of the images, which are floats in [0, 255].
        target_rate: share of the MACs and of the sub-blocks to run, the paper's r and e, in
            (0, 1].
        categories: a coarse category for each class, `num_classes` integers from 0; None for no
            category loss. In training each controller learns to predict the category of an image.
            Inference leaves out these predictions.
        resource_weight: weight of the resource loss. The paper's value is 1.
        gate_noise: scale of the Gumbel noise in training. The paper's value is 1.
        logits_stddev: standard deviation of the controllers' last weights at the start, see
            `PathController`.
        seed: seed of the Gumbel noise. With an integer, a training repeats exactly.

    Input shape: (batch, height, width, 3).

    Output shape: (batch, num_classes).

    Raises:
        ValueError: the backbone is unknown, its blocks do not divide into `sub_blocks`,
            `target_rate` lies outside (0, 1], `num_classes` is below 1, `gate_noise` is negative,
            or `categories` does not have a category from 0 for each class.

    Example:
        >>> model = DMNN("resnet20", num_classes=10, input_shape=(32, 32, 3))
        >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> model.fit(images, labels)

    Reference: Su et al., Dynamic Multi-path Neural Network, arXiv 1902.10949.
    """

    def __init__(
        self,
        backbone: str = "resnet50",
        sub_blocks: int = 2,
        num_classes: int = 1000,
        input_shape: Sequence[int] = (224, 224, 3),
        target_rate: float = 0.7,
        categories: Sequence[int] | None = None,
        resource_weight: float = 1.0,
        gate_noise: float = 1.0,
        logits_stddev: float = 0.001,
        seed: int | None = None,
        **kwargs: Any,
    ):
        sub_blocks, num_classes, seed = plain((sub_blocks, num_classes, seed))
        check_arguments(backbone, sub_blocks, num_classes, categories)
        categories = None if categories is None else tuple(int(c) for c in categories)
        gated = gated_network(
            backbone,
            sub_blocks,
            num_classes,
            input_shape,
            max(categories) + 1 if categories else 0,
            gate_noise,
            logits_stddev,
            seed,
        )
        # The model's one output is its logits. Training and counting need the other results too, of
        # a second network with the same layers, which the namespace hides from Keras's saving.
        self._hidden = types.SimpleNamespace(
            everything=keras.Model(gated.images, gated.outputs), outputs=gated.outputs
        )
        super().__init__(inputs=gated.images, outputs=gated.outputs["logits"], **kwargs)  # pyright: ignore
        self._measured = types.SimpleNamespace(
            network=None, warned=False
        )  # hidden from Keras's saving
        self.backbone = backbone
        self.sub_blocks = sub_blocks
        self.num_classes = num_classes
        self.target_rate = target_rate
        self.categories = categories
        self.resource_weight = resource_weight
        self.logits_stddev = logits_stddev
        self.seed = seed
        self.path_macs = gated.path_macs
        self.fixed_macs = cost.model_macs(self.with_gates()) - int(self.path_macs.sum())
        self.category_weights = losses.category_weights(gated.stages)
        self._rates = [
            keras.metrics.Mean(name="execution_rate"),
            keras.metrics.Mean(name="macs_share"),
        ]

    # ---- running

    @property
    def layers(self) -> list:
        """All layers, those that only training needs among them, in the order of saved files."""
        return self._hidden.everything.layers

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        own_step = _STEPPING.get() is self
        if not training and not own_step:
            return super().call(inputs, training=training, mask=mask)
        with with_resource_loss():
            outputs = self._hidden.everything(inputs, training=training, mask=mask)
        if own_step:
            return outputs  # for compute_loss and compute_metrics
        # Inside another model or in the user's own training loop the caller gets plain logits, and
        # finds the resource loss in `losses`.
        keras_private.add_loss(self, self.resource_weight * self._resource_loss(outputs["gates"]))
        self._update_rates(outputs["gates"])
        self._warn_of_lost_categories()
        return outputs["logits"]

    def _warn_of_lost_categories(self) -> None:
        """Says once that a training by another model's `fit` has no category loss."""
        if self.categories is None or not self.trainable or self._measured.warned:
            return
        self._measured.warned = True
        warnings.warn(
            f"{self.name} trains inside another model or loop, which gives it no labels, so "
            "without its category loss; train it by its own compile and fit to have it",
            stacklevel=2,
        )

    def with_gates(self) -> keras.Model:
        """Gives the network of inference with its gates as a second output.

        Returns:
            A functional model that shares the layers of this one. Its outputs are "logits",
            (batch, num_classes), and "gates", (batch, blocks, sub_blocks) of 0 and 1.
        """
        outputs = self._hidden.outputs
        return keras.Model(
            self.input, {name: outputs[name] for name in ("logits", "gates")}, name=self.name
        )

    def training_network(self) -> keras.Model:
        """Gives the network that a training step runs.

        Returns:
            A functional model that shares the layers of this one. Its outputs are those of
            `with_gates` and, where there are categories, "categories": the logits of each
            controller for them, a list of (batch, number of categories).
        """
        return self._hidden.everything

    def macs_of(self, gates: np.ndarray) -> np.ndarray:
        """Counts the MACs that images need.

        Args:
            gates: 1 for each sub-block that runs, (..., blocks, sub_blocks).

        Returns:
            MACs of each image, (...), as floats.
        """
        return self.fixed_macs + (np.asarray(gates, "float64") * self.path_macs).sum((-2, -1))

    # ---- the interface to the rest of the library

    def inference_network(self) -> keras.Model:
        return self.with_gates()

    def run_images(self, images: np.ndarray, batch_size: int) -> PerImage:
        if self._measured.network is None:  # made once, so that Keras traces it once
            self._measured.network = self.with_gates()
        outputs = self._measured.network.predict(images, batch_size, verbose=0)
        gates = outputs["gates"].astype("uint8")
        return PerImage(outputs["logits"], np.rint(self.macs_of(gates)).astype("int64"), gates)

    def deployments(self, **options: Any) -> Deployment:
        """Gives what an exported file holds: the network, with its gates or with all of them open.

        Args:
            **options: `gates`, True for a second output "gates" of the file, (batch, blocks,
                sub_blocks); "open" for a file without conditions and controllers in which every
                sub-block runs, for runtimes without conditions. Its logits are those of the model
                with all gates open, which are not those of the model. False by default.

        Raises:
            ValueError: another option, or another value of `gates`.

        Example:
            >>> export_model(model.deployments(gates=True), "model.tflite")
        """
        from keras_dynnets.families.dmnn.forced_gates import without_gates

        refuse_options(self.name, options, ("gates",))
        gates = options.get("gates", False)
        names = names_of_classes(self)
        if isinstance(gates, str) and gates == "open":
            network = without_gates(self)
            return Deployment(network.name, {ONE: network}, class_names=names)
        if not isinstance(gates, bool):
            raise ValueError(
                'gates is True for the gates as an output of the file, "open" for a file in which '
                f"all gates are open and no conditions are left, or False, not {gates!r}"
            )
        return Deployment(
            self.name,
            {ONE: self.with_gates()},
            ("logits", "gates") if gates else ("logits",),
            precisions=("fp32", "fp16"),
            reason=f"{self.name} has gates, and int8 takes networks without; give "
            "precision='fp16', or model.deployments(gates='open') for a file with all gates open",
            class_names=names,
        )

    def training_plan(self, section: GateSchedule | None, images: Any) -> TrainingPlan:
        """Gives the callback that follows the schedule, and the controllers as undecayed.

        Weight decay would shrink the logits of a controller until its gates depend on nothing but
        noise.
        """
        return TrainingPlan(
            callbacks=[FollowSchedule(section or GateSchedule())],
            undecayed=[w for layer in self._controllers() for w in layer.trainable_weights],
        )

    def summary_metrics(
        self, measured: Any, accuracy: float, accuracy_of: Callable[[str], float]
    ) -> dict[str, Any]:
        """Gives the mean MACs, how many sub-blocks ran, and how many gates never changed.

        A gate that is open or closed for every image decides nothing.
        """
        rates = measured.gates.mean(0)
        return {
            "macs_mean": measured.mean_macs,
            "macs_all_on": measured.worst_macs,
            "macs_share": measured.mean_macs_share,
            "execution_rate": measured.mean_execution_rate,
            "gates": rates.size,
            "gates_always_open": int((rates == 1).sum()),
            "gates_always_closed": int((rates == 0).sum()),
        }

    # ---- training

    def train_step(self, *args: Any) -> Any:
        return self._own_step(super().train_step, args)

    def test_step(self, *args: Any) -> Any:
        return self._own_step(super().test_step, args)

    def _own_step(self, step: Callable, args: tuple) -> Any:
        """Runs a step of Keras's in which `call` gives all outputs."""
        token = _STEPPING.set(self)
        try:
            return step(*args)
        finally:
            _STEPPING.reset(token)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        if not isinstance(y_pred, dict):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        loss = super().compute_loss(x, y, y_pred["logits"], sample_weight, training)
        if not training:
            return loss
        # `add_loss` will not do, because the replicas of a tf.distribute strategy share its list.
        resources = self.resource_weight * self._resource_loss(y_pred["gates"])
        loss += keras_private.scaled_for_replicas(self, resources)
        if self.categories is not None:
            heads = y_pred["categories"]
            loss += losses.category_loss(
                y, heads, self.categories, self.category_weights, sample_weight
            )
        return loss

    def _resource_loss(self, gates: Any) -> Any:
        return losses.resource_loss(gates, self.fixed_macs, self.path_macs, self.target_rate)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        if isinstance(y_pred, dict):
            self._update_rates(y_pred["gates"])
            return super().compute_metrics(x, y, y_pred["logits"], sample_weight)
        results = super().compute_metrics(x, y, y_pred, sample_weight)
        own = [metric.name for metric in self._rates]
        return {name: value for name, value in results.items() if name not in own}

    def _update_rates(self, gates: Any) -> None:
        rates = keras.ops.mean(keras.ops.cast(gates, "float32"), axis=0)
        shares = losses.work_shares(rates, self.fixed_macs, self.path_macs)
        for metric, share in zip(self._rates, shares, strict=True):
            metric.update_state(share)

    # ---- config

    def get_config(self) -> dict[str, Any]:
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
            "frozen": frozen_positions(self),
            **names_in_config(self),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> "DMNN":
        """Makes a model from what `get_config` gives.

        The model has the same dtype policy, and the layers at the same positions are frozen.

        Args:
            config: the configuration.
            custom_objects: not used; Keras passes it.
        """
        config = dict(config)
        frozen, names = config.pop("frozen", ()), config.pop(ATTRIBUTE, None)
        policy = keras.config.dtype_policy()
        try:
            keras.config.set_dtype_policy(keras.dtype_policies.get(config.pop("dtype", policy)))
            model = cls(**config)
        finally:
            keras.config.set_dtype_policy(policy)
        freeze_positions(model, frozen)
        return names_from_config(model, names)
