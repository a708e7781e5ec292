"""CNSN: a network that detaches into smaller ones, all of them on the same weights."""

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
from keras_dynnets.families.cnsn.earlier_files import as_in_0_1
from keras_dynnets.families.cnsn.multi_model import MultiModel
from keras_dynnets.families.cnsn.parts import plain_copy, with_own_layers
from keras_dynnets.families.cnsn.sliced import SliceOfLayer
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
            of blocks. A block is two layers or more that follow each other and whose names begin
            with its name and an underscore, such as "stage1" for "stage1_conv" and "stage1_pool";
            it is cut behind its last layer. Layers that are only numbered, such as "conv2d" and
            "conv2d_5", are no block. `cut_points` lists the legal cuts.
        widths: float or list of float, shares of the filters, in (0, 1]; 1 is always among them.
        batch_norm: str, "own" for statistics of its own for every model, or "shared" for those
            of the base in its sub-models at full width.
        loss_weights: list of float in the order of `names`, or dict by name, weights of the
            losses; None for 1 each.
        distillation: float, weight of a second loss of every model but the base: cross-entropy
            with the softened predictions of the base, times the square of the temperature; 0 for
            none.
        temperature: float, what logits are divided by to soften predictions.
        preprocessing: str, name of the layer or operation whose result the step-down convolutions
            read; that of the input stands for the images as they are. None for what the first
            layer with weights reads: all that stands before it, such as `Rescaling`, `x / 255`,
            `RandomFlip` or `Resizing`, then belongs to every model, and random layers draw once
            for all of them.
        **kwargs: arguments of `keras.Model`, such as `name`.

    Input shape: (batch, height, width, channels), the input shape of the base.

    Output shape: (batch, classes), the output shape of the base.

    Raises:
        ValueError: a cut is illegal (the message names the nearest legal cuts) or out of order, a
            width is outside (0, 1], leaves a layer no filters or is one that a layer cannot run
            at, or another argument is out of range; layers with weights read images that are
            prepared in different ways, and `preprocessing` names none of them.

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
        preprocessing: str | None = None,
        **kwargs: Any,
    ):
        if isinstance(cuts, str):
            raise ValueError(f"cuts are a list of names, not one: cuts=[{cuts!r}]")
        if not isinstance(cuts, Sequence):
            raise ValueError(f"cuts are a list of names, such as ['stage1'], not {cuts!r}")
        found = Cuts(base, preprocessing)
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
        super().__init__(network.inputs[0], outputs, **{"name": base.name, **kwargs})
        for layer in self.layers:
            if isinstance(layer, SliceOfLayer):
                layer.decides = False  # the layers of the base do
        self.base = network
        self.cuts = tuple(cuts)
        self.widths = widths
        self.batch_norm = batch_norm
        self.distillation = distillation
        self.temperature = temperature
        self.preprocessing = found.preprocessing.name_of(found.images) if points else None
        self.loss_weights = checked_weights(loss_weights, self.names)
        self._places = places

    # ---- detaching

    def detach(self, sub_model: int = 0, width: float = 1.0, copy: bool = False) -> keras.Model:
        """Gives a sub-model as a functional model.

        Its layers are its own, and its variables are those of this model: what trains one trains
        the other. Keras keeps in each variable whether it is trained, so that freezing a layer of
        either freezes its variables in both, but a batch norm keeps its statistics only in the
        model whose own layer is frozen.

        Args:
            sub_model: 0 for the base, i for what follows the i-th cut.
            width: one of `widths`.
            copy: whether to copy the weights that the sub-model uses, into plain layers of its
                own with the names that they have in the base. The result is independent of this
                model, and its file is as small as its weights.

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
        name = self.names[self._places.index((sub_model, width))]
        part = plain_copy(self._network(name)) if copy else self.part(name)
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
        return with_own_layers(self._network(name))

    def _network(self, name: str) -> keras.Model:
        """Gives a model on the layers that all models share."""
        logits = keras_private.structured_outputs(self.joint)[name]
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

    def inference_network(self) -> keras.Model:
        """Gives the base, which `predict` runs."""
        return self._network("base")

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
            {name: self._network(name) for name in self.names},
            precisions=("fp32", "fp16"),
            reason=f"int8 is for one network a file; export a part of {self.name}: model.detach(i)",
            class_names=names_of_classes(self),
        )

    def evaluated_parts(self) -> Mapping[str, keras.Model]:
        return {name: self.part(name) for name in self.names[1:]}

    def summary_metrics(
        self, measured: Any, accuracy: float, accuracy_of: Callable[[str], float]
    ) -> dict[str, dict[str, float]]:
        """Gives the accuracy of every model by name as the metric "sub_models"."""
        others = {name: accuracy_of(name) for name in self.names[1:]}
        return {"sub_models": {"base": accuracy, **others}}

    def take_metrics(self, validation: Mapping[str, Any]) -> None:
        if "sub_models" in validation:
            self.accuracy = validation["sub_models"]

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
        set_statistics((self._network(name) for name in self.names), x, batch_size)

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
            "preprocessing": self.preprocessing,
            "accuracy": self.accuracy,
            "name": self.name,
            "trainable": self.trainable,
            "frozen": [layer.name for layer in self.layers if not layer.trainable],
            "frozen_variables": [
                i for i, v in enumerate(self._learned_variables()) if not v.trainable
            ],
            **names_in_config(self),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "CNSN":
        """Makes a model from the result of `get_config`, with the same layers frozen."""
        config = dict(config)
        accuracy, frozen = config.pop("accuracy", {}), config.pop("frozen", ())
        frozen_variables = config.pop("frozen_variables", ())
        names = config.pop(ATTRIBUTE, None)
        base = keras.saving.deserialize_keras_object(config.pop("base"), custom_objects)
        if "preprocessing" not in config:
            config |= as_in_0_1(base, config["cuts"])
        model = cls(base, **config)
        model.accuracy = accuracy
        for layer in model.layers:
            if layer.name in frozen:
                layer.trainable = False
        learned = model._learned_variables()
        for i in frozen_variables:
            learned[i].trainable = False
        return names_from_config(model, names)

    def _learned_variables(self) -> list:
        """Lists the variables that training learns, frozen ones included."""
        variables = {id(v): v for v in keras_private.learned_variables(self.joint)}
        return list(variables.values())


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
