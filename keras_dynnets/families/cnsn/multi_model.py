"""Training of several models that are outputs of one network."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_dynnets.core.dynamic import DynamicModel
from keras_dynnets.families.cnsn.checks import checked_weights


class MultiModel(DynamicModel, keras.Model):
    """A functional model whose outputs, by name, are the logits of models for the same task.

    A training step runs all models on the same batch and adds their losses (CNSN, section 2.3,
    eq. 1). The first model is "base"; the others can learn from its predictions too.

    Attributes:
        names: names of the models, "base" first.
        loss_weights: weight of the loss of each model, in this order.
        distillation: weight of the cross-entropy with the softened predictions of the base.
        temperature: what logits are divided by to soften predictions.
    """

    names: tuple[str, ...]
    loss_weights: tuple[float, ...]
    distillation: float
    temperature: float

    _all_parts = False  # whether a call gives the logits of all models by name
    _accuracy: tuple[tuple[str, float], ...] = ()

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
        return self._with_all_parts(super().train_step, args)

    def test_step(self, *args: Any) -> Any:
        return self._with_all_parts(super().test_step, args)

    def _with_all_parts(self, step: Callable, args: Sequence) -> Any:
        """Runs a step in which a call of this model gives the logits of all models by name."""
        self._all_parts = True
        try:
            return step(*args)
        finally:
            self._all_parts = False

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
            ValueError: a dict or list is not for exactly the models in `names`.
        """
        weights = self.loss_weights if loss_weights is None else loss_weights
        weights = checked_weights(weights, self.names)
        super().compile(
            optimizer,
            None if loss is None else self._for_each(loss),
            metrics=metrics and self._for_each(metrics),
            weighted_metrics=weighted_metrics and self._for_each(weighted_metrics),
            loss_weights=dict(zip(self.names, weights, strict=True)),
            **kwargs,
        )

    def _for_each(self, given: Any) -> dict[str, Any]:
        """Gives losses or metrics by name; every model gets a metric object of its own."""
        if not isinstance(given, dict):
            return {name: keras.tree.map_structure(_copied, given) for name in self.names}
        if set(given) != set(self.names):
            raise ValueError(
                f"losses and metrics by name are for all of {', '.join(self.names)}, not for "
                f"{', '.join(map(str, given))}"
            )
        return given

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


def _copied(metric: Any) -> Any:
    """Gives a copy of a metric, which counts for one model; other objects unchanged."""
    if isinstance(metric, keras.Metric):
        return type(metric).from_config(metric.get_config())
    return metric
