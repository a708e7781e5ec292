"""The optimiser, the learning rate and the loss of a recipe."""

from collections.abc import Collection, Sequence
from typing import Any

import keras

from keras_dynnets.core.devices import has_gpu
from keras_dynnets.training.recipe import Recipe


def compile_for(
    model: keras.Model, recipe: Recipe, steps: int, undecayed: Collection[Any] = ()
) -> None:
    """Compiles a model with the optimiser and the loss of a recipe.

    On a CPU, TensorFlow trains without XLA, whose convolutions are slower there than TensorFlow's
    own.

    Args:
        model: a model from images to logits (batch, classes).
        recipe: the recipe.
        steps: number of batches in an epoch.
        undecayed: variables that get no weight decay. Biases and the parameters of batch norm
            never get any.
    """
    schedule = _schedule(recipe, steps)
    decay = recipe.weight_decay or None
    if recipe.optimizer == "adam":
        kind = keras.optimizers.AdamW if decay else keras.optimizers.Adam
        optimizer = kind(schedule, weight_decay=decay, epsilon=recipe.epsilon)
    else:
        nesterov = recipe.momentum > 0
        optimizer = keras.optimizers.SGD(
            schedule, momentum=recipe.momentum, nesterov=nesterov, weight_decay=decay
        )
    if decay:
        optimizer.exclude_from_weight_decay(
            var_list=list(undecayed), var_names=["bias", "gamma", "beta"]
        )
    if recipe.label_smoothing:
        loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=recipe.label_smoothing
        )
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    on_cpu = keras.backend.backend() == "tensorflow" and not has_gpu()
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False if on_cpu else "auto")


def _schedule(recipe: Recipe, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Gives the learning rate of a recipe for each step."""
    warmup = round(recipe.warmup_epochs * steps)
    if recipe.drops:
        return StepDecay(recipe.learning_rate, warmup, [drop * steps for drop in recipe.drops])
    if not recipe.warmup_epochs:
        return keras.optimizers.schedules.CosineDecay(recipe.learning_rate, recipe.epochs * steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0,
        decay_steps=max(1, round((recipe.epochs - recipe.warmup_epochs) * steps)),
        warmup_target=recipe.learning_rate,
        warmup_steps=warmup,
    )


@keras.saving.register_keras_serializable(package="keras_dynnets")
class StepDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly and is then divided by ten at given steps.

    Args:
        learning_rate: learning rate at the end of the warm-up.
        warmup_steps: number of steps of the warm-up, during which the rate rises from 0; 0 for
            none.
        drops: steps at which the rate is divided by ten, counted from the start of the training.

    Example:
        >>> schedule = StepDecay(0.1, warmup_steps=0, drops=[1000])
        >>> schedule(1500)  # 0.01
    """

    def __init__(self, learning_rate: float, warmup_steps: int, drops: Sequence[int]):
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.drops = tuple(drops)

    def __call__(self, step: Any) -> Any:
        step = keras.ops.cast(step, "float32")
        drops = keras.ops.convert_to_tensor(self.drops, "float32")
        passed = keras.ops.sum(keras.ops.cast(step >= drops, "float32"))
        warm = 1.0
        if self.warmup_steps:
            warm = keras.ops.minimum(1.0, step / self.warmup_steps)
        return self.learning_rate * warm * keras.ops.power(0.1, passed)

    def get_config(self) -> dict[str, Any]:
        return {
            "learning_rate": self.learning_rate,
            "warmup_steps": self.warmup_steps,
            "drops": self.drops,
        }
