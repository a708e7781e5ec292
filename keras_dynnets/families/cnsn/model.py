"""CNSN: a network that detaches into smaller ones, all of them on the same weights."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_dynnets.core import keras_private
from keras_dynnets.core.arguments import is_truth, plain
from keras_dynnets.core.class_names import (
    ATTRIBUTE,
    name_classes,
    names_from_config,
    names_in_config,
    names_of_classes,
)
from keras_dynnets.core.dynamic import Deployment, refuse_options
from keras_dynnets.families.cnsn.calibration import set_statistics
from keras_dynnets.families.cnsn.checks import (
    check_distillation,
    check_norms,
    check_order,
    checked_weights,
    checked_widths,
)
from keras_dynnets.families.cnsn.cuts import Cuts
from keras_dynnets.families.cnsn.multi_model import MultiModel
from keras_dynnets.families.cnsn.sub_models import build_sub_models


@keras.saving.register_keras_serializable(package="keras_dynnets")
class CNSN(MultiModel):
    """A CNN whose tail detaches into smaller CNNs behind step-down convolutions.

    Sub-model i is what follows the i-th cut, with a `StepDownConv2D` that makes the feature map
    at the cut from the image. All its other weights are those of the base. At a width below 1
    every layer runs on the first of its filters; every sub-model is there at every width. `names`
    lists the models: "base", "sub1", ..., then "base_w75", "sub1_w75", ... for a width of 0.75.

    `model(x)` and `predict` give the logits of the base. `fit` and `evaluate` run all models on
    the same batch, with a plain `compile` and labels as usual, and report "base_accuracy",
    "sub1_accuracy" and so on. The loss is a linear combination of the losses of the models
    (section 2.3, eq. 1). A dict by name gives each model a loss or metrics of its own. `accuracy`
    keeps the validation accuracies of a `fit`.

    Deviations from the paper: each model has batch-norm statistics of its own by default, where
    the paper shares them (section 2). The loss weights of eq. 1 are not printed in the paper and
    are 1 here. Distillation and widths are future work in the paper (section 5).

    Args:
        base: keras.Model, functional or `Sequential`, from images of a fixed size to logits.
        cuts: list of str, names of the layers behind which the base is cut, in running order, or
            of blocks, whose layers have names that start with the name of the block (see
            `cut_points`).
        widths: float or list of float, shares of the filters, in (0, 1]; 1 is always among them.
        batch_norm: str, "own" for statistics of its own for every model, or "shared" for those
            of the base in its sub-models at full width.
        loss_weights: list of float in the order of `names`, or dict by name, weights of the
            losses; None for 1 each.
        distillation: float, weight of a second loss of every model but the base: cross-entropy
            with the softened predictions of the base, times the square of the temperature; 0 for
            none.
        temperature: float, what logits are divided by to soften predictions.
        **kwargs: arguments of `keras.Model`, such as `name`.

    Input shape: (batch, height, width, channels), the input shape of the base.

    Output shape: (batch, classes), the output shape of the base.

    Raises:
        ValueError: a cut is illegal (the message names the nearest legal cuts) or out of order, a
            width is outside (0, 1], leaves a layer no filters or is one that a layer cannot run
            at, or another argument is out of range.

    Example:
        >>> model = CNSN(base, cuts=["stage1_pool", "stage3_pool"])
        >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        >>> model.compile("sgd", loss, metrics=["accuracy"])
        >>> model.fit(images, labels, validation_data=(other_images, other_labels))
        >>> small = model.detach(2)

    Reference: Fuengfusin and Tamukoh, A Sub-Model Detachable Convolutional Neural Network, JRNAL
    8(1), 2021, doi 10.2991/jrnal.k.210521.012. Widths: Yu et al., Slimmable Neural Networks, arXiv
    1812.08928. Distillation: Hinton et al., arXiv 1503.02531, section 2.
    """

    def __init__(
        self,
        base: keras.Model,
        cuts: Sequence[str] = (),
        widths: float | Sequence[float] = (1.0,),
        batch_norm: str = "own",
        loss_weights: Mapping[str, float] | Sequence[float] | None = None,
        distillation: float = 0.0,
        temperature: float = 3.0,
        **kwargs: Any,
    ):
        if isinstance(cuts, str):
            raise ValueError(f"cuts are a list of names, not one: cuts=[{cuts!r}]")
        found = Cuts(base)
        points = [found.find(cut) for cut in cuts]
        check_order(points, cuts)
        widths, distillation = checked_widths(plain(widths)), plain(distillation)
        if batch_norm not in ("own", "shared"):
            raise ValueError(f"batch_norm is 'own' or 'shared', not {batch_norm!r}")
        if len(points) + len(widths) < 2:
            raise ValueError("nothing would detach: give cuts, or widths below 1")
        network = found.network
        outputs, places = build_sub_models(found, points, widths, batch_norm)
        check_distillation(distillation, temperature, network)
        if batch_norm == "own":
            check_norms(found)
        arguments = {"name": base.name, **kwargs, "inputs": network.inputs[0], "outputs": outputs}
        super().__init__(**arguments)
        self.base = network
        self.cuts = tuple(cuts)
        self.widths = widths
        self.batch_norm = batch_norm
        self.distillation = distillation
        self.temperature = temperature
        self.names = tuple(outputs)
        self.loss_weights = checked_weights(loss_weights, self.names)
        self._places = places

    # ---- detaching

    def detach(self, sub_model: int = 0, width: float = 1.0) -> keras.Model:
        """Gives a sub-model as a plain functional model that shares its variables with this one.

        Args:
            sub_model: 0 for the base, i for what follows the i-th cut.
            width: one of `widths`.

        Raises:
            ValueError: there is no such sub-model or width.
        """
        sub_model, width = plain((sub_model, width))
        named = not (is_truth(sub_model) or is_truth(width))
        if not named or (sub_model, width) not in self._places:
            raise ValueError(
                f"there is no sub-model {sub_model!r} at width {width!r}; sub-models go from 0, "
                f"the base, to {len(self.cuts)}, widths are {', '.join(map(str, self.widths))}"
            )
        part = self.part(self.names[self._places.index((sub_model, width))])
        return name_classes(part, names_of_classes(self))

    def part(self, name: str) -> keras.Model:
        """Gives the same as `detach` for one of `names`.

        Args:
            name: one of `names`.

        Raises:
            ValueError: there is no model of that name.
        """
        if name not in self.names:
            raise ValueError(f"there is no model {name!r}; there are {', '.join(self.names)}")
        logits = keras_private.structured_outputs(self)[name]
        return keras.Model(self.input, logits, name=f"{self.name}_{name}")

    def place(self, name: str) -> tuple[int, float]:
        """Gives the sub-model and the width that a name stands for, as `detach` takes them.

        Args:
            name: one of `names`.
        """
        return self._places[self.names.index(name)]

    # ---- the interface to the rest of the library

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the models, the base first."""
        return self.names

    @property
    def logits_tensor(self) -> keras.KerasTensor:
        return self.output["base"]

    def inference_network(self) -> keras.Model:
        """Gives the base, which `predict` runs."""
        return self.part("base")

    def deployments(self, **options: Any) -> Deployment:
        """Gives what an exported file holds: every model as a signature, every weight once.

        Args:
            **options: none; a CNSN has no export options of its own.

        Raises:
            ValueError: an option is given.
        """
        refuse_options(self.name, options)
        return Deployment(
            self.name,
            {name: self.part(name) for name in self.names},
            precisions=("fp32", "fp16"),
            reason=f"int8 is for one network a file; export a part of {self.name}: model.detach(i)",
            class_names=names_of_classes(self),
        )

    def summary_metrics(
        self, measured: Any, accuracy: float, accuracy_of: Callable[[Any], float]
    ) -> dict[str, dict[str, float]]:
        """Gives the accuracy of every model by name as the metric "sub_models"."""
        others = {name: accuracy_of(self.part(name)) for name in self.names[1:]}
        return {"sub_models": {"base": accuracy, **others}}

    def take_metrics(self, validation: Mapping[str, Any]) -> None:
        if "sub_models" in validation:
            self.accuracy = validation["sub_models"]

    # ---- running

    @functools.cached_property
    def _base_part(self) -> keras.Model:
        return self.inference_network()

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if self._all_parts:
            return super().call(inputs, training=training, mask=mask)
        return self._base_part(inputs, training=training)

    def compute_output_spec(
        self, inputs: Any, training: bool | None = None, mask: Any = None
    ) -> keras.KerasTensor:
        return super().compute_output_spec(inputs, training=training, mask=mask)["base"]

    def calibrate(self, x: np.ndarray, batch_size: int = 100) -> None:
        """Sets all batch-norm statistics by one pass of every model over images.

        The mean over all batches, weighted by their sizes, takes the place of a moving average.
        Statistics that models share become the mean over these models. This is worth doing after
        a training with widths or with `batch_norm="own"`.

        Args:
            x: images as for `fit`, (n, height, width, channels).
            batch_size: images in a batch.

        Raises:
            ValueError: there are no images.

        Reference: Yu and Huang, Universally Slimmable Networks, arXiv 1903.05134 (post-statistics
        of batch normalization).
        """
        set_statistics((self.part(name) for name in self.names), x, batch_size)

    # ---- config

    def get_config(self) -> dict[str, Any]:
        return {
            "base": keras.saving.serialize_keras_object(self.base),
            "cuts": self.cuts,
            "widths": self.widths,
            "batch_norm": self.batch_norm,
            "loss_weights": self.loss_weights,
            "distillation": self.distillation,
            "temperature": self.temperature,
            "accuracy": self.accuracy,
            "name": self.name,
            "frozen": [layer.name for layer in self.layers if not layer.trainable],
            **names_in_config(self),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "CNSN":
        """Makes a model from the result of `get_config`, with the same layers frozen."""
        config = dict(config)
        accuracy, frozen = config.pop("accuracy", {}), config.pop("frozen", ())
        names = config.pop(ATTRIBUTE, None)
        base = keras.saving.deserialize_keras_object(config.pop("base"), custom_objects)
        model = cls(base, **config)
        model.accuracy = accuracy
        for layer in model.layers:
            layer.trainable = layer.name not in frozen
        return names_from_config(model, names)


def detachable(
    base_model: keras.Model,
    cuts: Sequence[str] = (),
    widths: float | Sequence[float] = (1.0,),
    **options: Any,
) -> CNSN:
    """Makes a CNN of your own detachable at named places.

    Args:
        base_model: keras.Model, functional or `Sequential`, such as one of `keras.applications`,
            from images of a fixed size to logits.
        cuts: list of str, names of layers or blocks (see `CNSN`); `cut_points(base_model)` lists
            the legal ones.
        widths: float or list of float, shares of the filters at which the model can run too.
        **options: further arguments of `CNSN`.

    Returns:
        A `CNSN` that shares the variables of the base. Its step-down convolutions are new and
        untrained.

    Raises:
        ValueError: as for `CNSN`.

    Example:
        >>> base = keras.applications.ResNet50(weights=None, classifier_activation=None)
        >>> model = cnsn.detachable(base, ["conv2_block3_out", "conv3_block4_out"])

    Reference: Fuengfusin and Tamukoh, JRNAL 8(1), 2021, doi 10.2991/jrnal.k.210521.012.
    """
    return CNSN(base_model, cuts, widths, **options)
