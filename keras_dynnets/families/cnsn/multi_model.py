"""Training of several models for the same task on the same images."""

import threading
import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_dynnets.core import keras_private
from keras_dynnets.core.dynamic import DynamicModel
from keras_dynnets.families.cnsn.checks import checked_weights
from keras_dynnets.families.cnsn.metrics import for_each_model


class _Steps(threading.local):
    """The models whose own training or test step the current thread runs."""

    models: tuple[keras.Model, ...] = ()


_steps = _Steps()


class MultiModel(keras_private.Uncloned, DynamicModel, keras.Model):
    """A functional model, the base, that has other models for the same task beside it.

    A training step runs all models on the same batch and adds their losses (CNSN, section 2.3,
    eq. 1). Everything else runs the base. The others can learn from its predictions.

    Args:
        images: the symbolic input of all models.
        outputs: the symbolic logits of each model by its name, "base" first.
        **kwargs: arguments of `keras.Model`, such as `name`.

    Attributes:
        joint: the functional model of all models, whose outputs are the logits by name.
        names: names of the models, "base" first.
        loss_weights: weight of the loss of each model, in this order.
        distillation: weight of the cross-entropy with the softened predictions of the base.
        temperature: what logits are divided by to soften predictions.
    """

    names: tuple[str, ...]
    loss_weights: tuple[float, ...]
    distillation: float
    temperature: float

    joint: keras.Model
    _accuracy: tuple[tuple[str, float], ...] = ()

    def __init__(
        self, images: keras.KerasTensor, outputs: Mapping[str, keras.KerasTensor], **kwargs: Any
    ):
        joint = keras.Model(images, dict(outputs), name="joint")
        # Untracked, since its layers are tracked as those of this model, in the order of files.
        keras_private.set_untracked(self, "joint", joint)
        arguments = {"inputs": images, "outputs": outputs["base"], **kwargs}
        super().__init__(**arguments)
        self.names = tuple(outputs)
        self._notice = types.SimpleNamespace(given=False)

    @property
    def layers(self) -> list[keras.Layer]:
        """The layers of all models, with the last one of the base at the end.

        Files number the layers of each class in this order.
        """
        last = [op for op in self.operations if isinstance(op, keras.Layer)][-1]
        return [*(layer for layer in self.joint.layers if layer is not last), last]

    def why_not_cloned(self) -> str:
        return (
            f"clone_model copies layer by layer and would lose what the models of {self.name!r} "
            "share; make a whole copy by type(model).from_config(model.get_config()), or clone a "
            "part, clone_model(model.detach(i))"
        )

    def quantize(self, mode: Any = None, config: Any = None, **kwargs: Any) -> None:
        """Refuses, since Keras would change layers whose weights other layers use a part of.

        Args:
            mode: see `keras.Model.quantize`.
            config: see `keras.Model.quantize`.
            **kwargs: see `keras.Model.quantize`.

        Raises:
            ValueError: always; the message says what to do instead.
        """
        raise ValueError(
            f"the models of {self.name!r} share their weights and are not quantized in place; "
            "export one with export_model(model.detach(i), path, precision='int8', "
            "calibration=images), or quantize a copy, model.detach(i, copy=True)"
        )

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if any(model is self for model in _steps.models):
            return self.joint.call(inputs, training=training, mask=mask)
        if training and self.trainable_variables and not self._notice.given:
            self._notice.given = True
            warnings.warn(
                f"{self.name!r} is trained as a layer of another model or by a loop of your own, "
                f"which trains its base alone, not {', '.join(self.names[1:])}: train it by its "
                "own fit, with augmentation in the data or in the base before it is made "
                "detachable; or set trainable = False",
                stacklevel=2,
            )
        return super().call(inputs, training=training, mask=mask)

    @property
    def accuracy(self) -> dict[str, float]:
        """Validation accuracy of every model by name, in [0, 1]; empty before it is known.

        `fit` with validation data and the metric "accuracy" sets it; it can also be set by hand.

        Raises:
            ValueError: it is set for a name that no model has.
        """
        return dict(self._accuracy)

    @accuracy.setter
    def accuracy(self, values: Mapping[str, float]) -> None:
        if unknown := set(values) - set(self.names):
            raise ValueError(
                f"accuracies are of {', '.join(self.names)}, not of {', '.join(sorted(unknown))}"
            )
        self._accuracy = tuple((name, float(value)) for name, value in values.items())

    def train_step(self, *args: Any) -> Any:
        return self._own_step(super().train_step, args)

    def test_step(self, *args: Any) -> Any:
        return self._own_step(super().test_step, args)

    def _own_step(self, step: Callable, args: Sequence) -> Any:
        """Runs a step in which this thread's calls of this model give all logits by name."""
        before = _steps.models
        _steps.models = (*before, self)
        try:
            return step(*args)
        finally:
            _steps.models = before

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Mapping[str, float] | Sequence[float] | None = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """Configures the training, as `keras.Model.compile` does, for all models.

        Args:
            optimizer: as for `keras.Model.compile`.
            loss: one loss for every model, or a dict by name.
            loss_weights: list in the order of `names`, or dict by name; None for the weights
                that the model was made with.
            metrics: metrics for every model, or a dict by name.
            weighted_metrics: metrics that use sample weights, given as `metrics`.
            **kwargs: further arguments of `keras.Model.compile`.

        Raises:
            ValueError: a dict or list is not for exactly the models in `names`, or a metric
                cannot be copied for each of them.
        """
        weights = self.loss_weights if loss_weights is None else loss_weights
        weights = checked_weights(weights, self.names)
        super().compile(
            optimizer,
            None if loss is None else for_each_model(loss, self.names),
            metrics=metrics and for_each_model(metrics, self.names),
            weighted_metrics=weighted_metrics and for_each_model(weighted_metrics, self.names),
            loss_weights=dict(zip(self.names, weights, strict=True)),
            **kwargs,
        )

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles the model as it was when it was saved.

        Keras leaves that to a model with a `compile` of its own.

        Args:
            config: the arguments of `compile` as Keras serializes them.
        """
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Trains all models, as `keras.Model.fit` does, and records `accuracy`.

        Args:
            *args: arguments of `keras.Model.fit`.
            **kwargs: arguments of `keras.Model.fit`. With `validation_data` and the metric
                "accuracy", the validation accuracies of the last epoch go to `accuracy`.

        Returns:
            The `History` of Keras.
        """
        history = super().fit(*args, **kwargs)
        last = {name: history.history.get(f"val_{name}_accuracy") for name in self.names}
        if all(last.values()):
            self.accuracy = {name: values[-1] for name, values in last.items()}
        return history

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        logits, weights = self._by_name(y_pred), self._by_name(sample_weight)
        loss = super().compute_loss(x, self._by_name(y), logits, weights, training)
        if not (training and self.distillation):
            return loss
        t = self.temperature
        soft = ops.stop_gradient(ops.softmax(logits["base"] / t))
        # This loss scales itself under a `tf.distribute` strategy.
        entropy = keras.losses.CategoricalCrossentropy(from_logits=True)
        weights = weights or {}
        others = [
            entropy(soft, logits[name] / t, weights.get(name))
            for name in self.names
            if name != "base"
        ]
        return loss + self.distillation * t**2 * sum(others)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict:
        given = [self._by_name(value) for value in (y, y_pred, sample_weight)]
        return super().compute_metrics(x, *given)

    def _by_name(self, value: Any) -> Any:
        """Gives a value for every model by name; a dict or None unchanged."""
        if value is None or isinstance(value, dict):
            return value
        return dict.fromkeys(self.names, value)
