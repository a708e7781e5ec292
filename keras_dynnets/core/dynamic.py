"""The interface between a family of networks and the rest of the library.

Counting, measuring, training, evaluating and exporting ask a model through `interface(model)`.
A model of a family answers through the methods that it overrides; any other Keras model through
`PlainModel`, which gives the answers of a network that does the same work for every image.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_dynnets.core import keras_private
from keras_dynnets.core.class_names import names_of_classes

ONE = "serving"  # the name of a network that is the only one in its file


@dataclass(frozen=True)
class CostPlan:
    """What `count` reads to find the cost of a model.

    Attributes:
        network: the functional model whose calls are counted.
        generated: layers of it whose weights are computed when it runs, so that none are stored.
        generators: layers outside the network that store what those weights are computed from.
        level_macs: MACs for one image of each network that an image can be sent to, where the
            model chooses among several.
    """

    network: keras.Model
    generated: Collection[keras.Layer] = ()
    generators: Collection[keras.Layer] = ()
    level_macs: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class PerImage:
    """The results and the costs of n images.

    Attributes:
        logits: (n, classes).
        macs: MACs of each image, (n,); None where every image costs the same, or the cost is not
            known.
        gates: 1 for each sub-block that ran, (n, blocks, sub_blocks); None without gates.
    """

    logits: np.ndarray
    macs: np.ndarray | None = None
    gates: np.ndarray | None = None


@dataclass(frozen=True)
class Deployment:
    """What an exported file of a model holds.

    Attributes:
        name: name of the model.
        networks: functional models by the name of their signature. One network alone is
            called "serving".
        outputs: names of the outputs of the file.
        writers: for formats that the family writes itself, a function by the name of the format:
            `write(path, batch_size, tools)`, with what the format offers as `tools`.
        formats: names of the formats that the file can have; None for all.
        precisions: the precisions that the file can have; None for all that the format has.
        reason: the error message for another format or precision.
        class_names: names of the classes in the order of the logits; None where they are not
            known. A family passes `names_of_classes(model)`.
    """

    name: str
    networks: Mapping[str, keras.Model]
    outputs: tuple[str, ...] = ("logits",)
    writers: Mapping[str, Callable[..., None]] = field(default_factory=dict)
    formats: tuple[str, ...] | None = None
    precisions: tuple[str, ...] | None = None
    reason: str = ""
    class_names: tuple[str, ...] | None = None

    @property
    def single(self) -> keras.Model | None:
        """The network of a file with only one; None for a file with several."""
        return self.networks.get(ONE)

    @property
    def main(self) -> keras.Model:
        """The first network, whose input and logits describe the file."""
        return next(iter(self.networks.values()))


@dataclass(frozen=True)
class TrainingPlan:
    """What a family adds to a training by a recipe.

    Attributes:
        groups: a number for each training image; every batch then holds images of one number.
        callbacks: Keras callbacks.
        undecayed: variables without weight decay, besides biases and batch-norm parameters.
        finish: called with the training images when `fit` has ended.
    """

    groups: np.ndarray | None = None
    callbacks: Sequence[keras.callbacks.Callback] = ()
    undecayed: Sequence[Any] = ()
    finish: Callable[[Any], None] = lambda images: None


class DynamicModel:
    """What a family of networks tells the rest of the library; mixed into `keras.Model`.

    Every method has an answer that is right for a network with one output that does the same
    work for every image; a family overrides those that differ. Only `inference_network` has to
    be defined.

    Example:
        >>> class MyNetwork(DynamicModel, keras.Model):
        ...     def inference_network(self):
        ...         return keras.Model(self.input, self.output, name=self.name)
    """

    part_names: tuple[str, ...] = ()  # names of the networks that `part` gives
    name: str

    # ---- methods of `keras.Model` that cannot be right for a family

    def quantize(self, mode: Any = None, config: Any = None, **options: Any) -> None:
        """Refuses, because Keras would change some of the layers and not those that matter.

        Args:
            mode: see `keras.Model.quantize`.
            config: see there.
            **options: see there.

        Raises:
            ValueError: always, before anything changes.
        """
        raise ValueError(
            f"{self.name} is not quantized in place: Keras would change only some of its layers. "
            "Export it in a smaller precision instead: keras_dynnets.export.export_model(model, "
            "'model.tflite', precision='int8', calibration=images), or precision='fp16' for a "
            "network with gates or several networks"
        )

    def export(
        self, filepath: Any, format: str = "tf_saved_model", *args: Any, **options: Any
    ) -> Any:
        """Exports as `keras.Model.export` does, in the one format in which that is right.

        Args:
            filepath: see `keras.Model.export`.
            format: "tf_saved_model".
            *args: see `keras.Model.export`.
            **options: see there.

        Raises:
            ValueError: another format, before anything is written.
        """
        if format != "tf_saved_model":
            raise ValueError(
                f"Keras's own export to {format!r} does not write a file of {self.name} that gives "
                "the right answers; use keras_dynnets.export.export_model(model, path), which "
                "writes and verifies .tflite and .onnx files and SavedModels"
            )
        return super().export(filepath, format, *args, **options)  # pyright: ignore

    # ---- what families answer

    def keras_model(self) -> Any:
        """Gives the Keras model that this interface is of.

        A method and no property: Keras's saving follows every attribute of a model.
        """
        return self

    def inference_network(self) -> keras.Model:
        """Gives the functional model that inference runs, without what only training needs."""
        raise NotImplementedError(f"{type(self).__name__} must define inference_network()")

    @property
    def logits_tensor(self) -> keras.KerasTensor:
        """The symbolic output that is the logits."""
        # Keras gives no output of a `Sequential` that was never called.
        outputs = keras_private.functional_inside(self.keras_model()).output
        return outputs["logits"] if isinstance(outputs, dict) else outputs

    def head_layers(self) -> list[keras.Layer]:
        """Gives the layers that compute the logits: of each output the last ones with weights."""
        return keras_private.layers_with_weights_before(self.keras_model().outputs)

    def cost_plan(self) -> CostPlan:
        """Gives what `count` reads."""
        return CostPlan(self.inference_network())

    def run_images(self, images: np.ndarray, batch_size: int) -> PerImage:
        """Runs the model and says what each image costs.

        Args:
            images: (n, height, width, channels) in [0, 255].
            batch_size: number of images that run at once.
        """
        return PerImage(self.keras_model().predict(images, batch_size, verbose=0))

    def part(self, name: str) -> keras.Model:
        """Gives one of the networks `part_names` as a plain functional model.

        Args:
            name: one of `part_names`.

        Raises:
            ValueError: the model has no part of that name.
        """
        raise ValueError(f"{self.keras_model().name} has no parts, so none called {name!r}")

    @property
    def accuracy(self) -> Mapping[str, float]:
        """The recorded validation accuracy of each part, in [0, 1]; empty where none is."""
        return {}

    def place(self, name: str) -> tuple[int, float]:
        """Gives a part as a pair that `detach` takes: its number, and the share of the filters."""
        return self.part_names.index(name), 1.0

    def detach(self, **options: Any) -> keras.Model:
        """Gives the part that the `part_options` of a zoo entry ask for.

        Args:
            **options: values of these options.

        Raises:
            ValueError: the model has no such part.
        """
        raise ValueError(f"{self.keras_model().name} has no parts to detach")

    def deployments(self, **options: Any) -> Deployment:
        """Gives what an exported file holds.

        Args:
            **options: the family's own options of an export.

        Raises:
            ValueError: an option that the family does not have, or a wrong value.
        """
        name = getattr(self.keras_model(), "name", type(self.keras_model()).__name__)
        refuse_options(name, options)
        names = names_of_classes(self.keras_model())
        return Deployment(name, {ONE: self.inference_network()}, class_names=names)

    def training_plan(self, section: Any, images: Any) -> TrainingPlan:
        """Gives what the family adds to a training.

        Args:
            section: the recipe's section `family`, validated as its entry says; None if the
                family has no such section.
            images: the training images, (n, height, width, channels).
        """
        return TrainingPlan()

    def evaluated_parts(self) -> Mapping[str, keras.Model]:
        """Gives other networks by name that an evaluation runs on the same images."""
        return {}

    def summary_metrics(
        self, measured: Any, accuracy: float, accuracy_of: Callable[[str], float]
    ) -> dict:
        """Gives the metrics of an evaluation besides the accuracy.

        Args:
            measured: a `Measurement` of the evaluated images, without MACs where a cost is not
                known.
            accuracy: the model's accuracy on them, in [0, 1].
            accuracy_of: gives the accuracy of one of `evaluated_parts` by its name.
        """
        return {}

    def take_metrics(self, validation: Mapping[str, Any]) -> None:
        """Receives the validation metrics that were recorded with published weights.

        Args:
            validation: values by the names of the metrics.
        """


class PlainModel(DynamicModel):
    """The interface of a Keras model of no family."""

    def __init__(self, model: Any):
        self._model = model

    def keras_model(self) -> Any:
        return self._model

    def inference_network(self) -> keras.Model:
        return keras_private.functional_inside(self._model)


def interface(model: Any) -> DynamicModel:
    """Gives the interface of a Keras model.

    Args:
        model: any Keras model.

    Returns:
        `model` itself if it is a `DynamicModel`, otherwise a `PlainModel` around it.
    """
    return model if isinstance(model, DynamicModel) else PlainModel(model)


def logits_network(model: DynamicModel) -> keras.Model:
    """Gives the network of a model that inference runs, with the logits as its one output.

    Args:
        model: a model of a family.
    """
    network = model.inference_network()
    return keras.Model(network.input, interface(network).logits_tensor, name=network.name)


def refuse_options(name: str, options: Mapping[str, Any], known: Sequence[str] = ()) -> None:
    """Refuses options of an export that a model does not have.

    Args:
        name: name of the model, for the message.
        options: the user's options.
        known: names of the options that the model has.

    Raises:
        ValueError: an option is not known; the message names the options that the model has.
    """
    if unknown := [key for key in options if key not in known]:
        there = f"it has {', '.join(known)}" if known else "it has no options of its own"
        raise ValueError(f"an export of {name} has no option {', '.join(unknown)}; {there}")
