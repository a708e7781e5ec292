"""CNSN: a network that detaches into smaller ones, all of them on the same weights."""

import functools

import keras
import numpy as np
from keras import ops

from keras_dynnets.baselines.resnet import build_resnet
from keras_dynnets.baselines.vgg import build_vgg
from keras_dynnets.core import graph, keras_private
from keras_dynnets.core.dynamic import Deployment, DynamicModel, refuse_options
from keras_dynnets.core.registry import takes_options_of
from keras_dynnets.families.cnsn.checks import (
    check_distillation,
    checked_weights,
    checked_widths,
    in_order,
    with_norms_inside,
)
from keras_dynnets.families.cnsn.cuts import Cuts
from keras_dynnets.families.cnsn.sliced import SlicedConv2D
from keras_dynnets.families.cnsn.slices import Slicer
from keras_dynnets.families.cnsn.step_down_conv import StepDownConv2D


@keras.saving.register_keras_serializable(package="keras_dynnets")
class CNSN(DynamicModel, keras.Model):
    """A CNN whose tail detaches into smaller CNNs behind step-down convolutions.

    Sub-model i is what follows the i-th cut, with a `StepDownConv2D` that makes the feature map at
    the cut from the image; all other weights are the base's own. At a width below 1 every
    layer runs on the first so many of its filters; depth and width combine. `self.names` lists the
    models: "base", "sub1", ..., then "base_w75", ... for each further width.

    `model(x)`, `predict` give the base's logits. `fit` and `evaluate` run all models on the same batch under plain
    `compile` and labels as usual (the multi-model loss of section 2.3: a linear combination of the models'
    losses) and report "base_accuracy", "sub1_accuracy", ... A loss or metrics for each may be given
    as a dict by name. The validation accuracies of a `fit` stay with the model as `accuracy`.

    Deviations from the paper: batch-norm statistics of each model's own by default, where the
    paper shares them; `distillation`, widths.

    Args:
        base: a functional Keras model from images of a fixed size to logits.
        cuts: names of layers behind which it is cut, or of blocks (the common start of their layers'
            names), in running order. See `cut_points`.
        widths: shares of the filters, in (0, 1]; 1 is always among them.
        batch_norm: "own" statistics for every model, or those of the base "shared" by its sub-models at full width.
        loss_weights: of the models' losses, in the order of `names`. Default: 1 each.
        distillation: weight of a second loss of every model but the base: cross-entropy with the base's
            softened predictions, times the square of the temperature (Hinton et al., arXiv 1503.02531). 0: none.
        temperature: which softens them.

    Input shape: that of the base.

    Output shape: that of the base.

    Raises:
        ValueError: an illegal cut, with the nearest legal ones; cuts out of order; a width outside (0, 1], that
            leaves a layer no filters, or that a layer cannot run at; loss weights of another number.

    Example:
        >>> model = CNSN(base, cuts=["stage1_pool", "stage3_pool"])
        >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
        >>> model.fit(images, labels, validation_data=(more, their_labels))
        >>> small = model.detach(2)

    Reference: Fuengfusin and Tamukoh, A Sub-Model Detachable Convolutional Neural Network, JRNAL 8(1), 2021,
    doi 10.2991/jrnal.k.210521.012. Widths: Yu et al., Slimmable Neural Networks, arXiv 1812.08928.
    """

    # ---- layers and functional model

    def __init__(
        self,
        base,
        cuts=(),
        widths=(1.0,),
        batch_norm="own",
        loss_weights=None,
        distillation=0.0,
        temperature=3.0,
        **kwargs,
    ):
        if isinstance(cuts, str):
            raise ValueError(f"cuts are a list of names, not one: cuts=[{cuts!r}]")
        found = Cuts(base)
        points = in_order([found.find(cut) for cut in cuts], cuts)
        widths = checked_widths(widths)
        if batch_norm not in ("own", "shared"):
            raise ValueError(f"batch_norm is 'own' or 'shared', not {batch_norm!r}")
        if len(points) + len(widths) < 2:
            raise ValueError("nothing would detach: give cuts, or widths below 1")
        network = found.network
        step_downs = [_step_down(point, found, i) for i, point in enumerate(points, 1)]
        outputs, places = {}, []
        for width in widths:
            suffix = "" if width == 1 else f"_w{round(100 * width)}"
            made = {}
            whole = Slicer(network, width, f"base{suffix}", made)
            if width < 1:
                values = {id(found.images): found.images}
                whole.run(_behind(found), values)
                outputs[f"base{suffix}"] = values[id(network.outputs[0])]
            else:
                outputs["base"] = network.outputs[0]
            places.append((0, width))
            for i, (point, step_down) in enumerate(zip(points, step_downs, strict=True), 1):
                name = f"sub{i}{suffix}"
                values = {id(point.tensor): step_down(found.images)}
                if width == 1 and batch_norm == "shared":
                    graph.run_again(found.tail(point), values)
                else:
                    part = Slicer(network, width, name, made)
                    if width < 1:
                        writes = whole.kept[id(point.tensor)]
                        entrance = part.slice(
                            SlicedConv2D, step_down, part.all_of(found.images), writes
                        )
                        values = {id(point.tensor): entrance(found.images)}
                        part.kept[id(point.tensor)] = writes
                    part.run(found.tail(point), values)
                outputs[name] = values[id(network.outputs[0])]
                places.append((i, width))
        if len(outputs) < len(places):
            raise ValueError(
                f"widths are told apart by their hundredths, and those of {widths} are not all different"
            )
        check_distillation(distillation, temperature, network)
        if batch_norm == "own" and (inside := with_norms_inside(found)):
            raise ValueError(
                f"model {inside!r} inside {network.name} has batch norms, which cannot have statistics for every sub-model; "
                "put its layers into the network itself, or give batch_norm='shared'"
            )
        super().__init__(inputs=network.inputs[0], outputs=outputs, **{"name": base.name, **kwargs})

        # ---- functional attributes
        self.base = network
        self.cuts = tuple(cuts)
        self.widths = widths
        self.batch_norm = batch_norm
        self.distillation = distillation
        self.temperature = temperature
        self.names = tuple(outputs)
        self.loss_weights = checked_weights(loss_weights, self.names)
        self._places = tuple(places)
        self._accuracy = ()

    # ---- detaching

    def detach(self, sub_model=0, width=1.0):
        """A sub-model as a plain functional Keras model that shares its variables with this one.

        Args:
            sub_model: 0 for the base, i for what follows the i-th cut.
            width: one of `widths`.

        Raises:
            ValueError: there is no such sub-model or width.
        """
        if (sub_model, width) not in self._places:
            raise ValueError(
                f"there is no sub-model {sub_model!r} at width {width!r}; sub-models go from 0, the base, to "
                f"{len(self.cuts)}, widths are {', '.join(map(str, self.widths))}"
            )
        return self.part(self.names[self._places.index((sub_model, width))])

    def part(self, name):
        """The same by its name, one of `names`."""
        if name not in self.names:
            raise ValueError(f"there is no model {name!r}; there are {', '.join(self.names)}")
        return keras.Model(
            self.input, keras_private.structured_outputs(self)[name], name=f"{self.name}_{name}"
        )

    def place(self, name):
        """Sub-model and width that a name stands for."""
        return self._places[self.names.index(name)]

    # ---- the interface to the rest of the library

    @property
    def part_names(self):
        """Names of the models, the base first."""
        return self.names

    @property
    def logits_tensor(self):
        return self.output["base"]

    def inference_network(self):
        """Gives the base, which `predict` runs."""
        return self.part("base")

    def deployments(self, **options):
        """Gives what an exported file holds: every model as a signature, every weight once."""
        refuse_options(self.name, options)
        return Deployment(
            self.name,
            {name: self.part(name) for name in self.names},
            precisions=("fp32", "fp16"),
            reason=f"int8 is for one network a file; export a part of {self.name}: model.detach(i)",
        )

    def summary_metrics(self, measured, accuracy, accuracy_of):
        others = {name: accuracy_of(self.part(name)) for name in self.names[1:]}
        return {"sub_models": {"base": accuracy, **others}}

    def take_metrics(self, validation):
        if "sub_models" in validation:
            self.accuracy = validation["sub_models"]

    @functools.cached_property
    def _base_part(self):
        return self.inference_network()

    @property
    def accuracy(self):
        """Validation accuracy of every model by its name, as the last `fit` with validation data recorded it."""
        return dict(self._accuracy)

    @accuracy.setter
    def accuracy(self, values):
        if unknown := set(values) - set(self.names):
            raise ValueError(
                f"accuracies are of {', '.join(self.names)}, not of {', '.join(sorted(unknown))}"
            )
        self._accuracy = tuple((name, float(value)) for name, value in values.items())

    # ---- running

    _all_parts = False

    def call(self, inputs, training=None, mask=None):
        if self._all_parts:
            return super().call(inputs, training=training, mask=mask)
        return self._base_part(inputs, training=training)

    def compute_output_spec(self, inputs, training=None, mask=None):
        return super().compute_output_spec(inputs, training=training, mask=mask)["base"]

    def train_step(self, *args):
        return self._with_all_parts(super().train_step, args)

    def test_step(self, *args):
        return self._with_all_parts(super().test_step, args)

    def _with_all_parts(self, step, args):
        self._all_parts = True
        try:
            return step(*args)
        finally:
            self._all_parts = False

    # ---- training

    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        loss_weights=None,
        metrics=None,
        weighted_metrics=None,
        **kwargs,
    ):
        """As of `keras.Model`; a loss and metrics that are no dict by name are those of every model.

        `loss_weights`: in the order of `names` or a dict by name; default: those that the model was made with.
        """
        weights = checked_weights(
            self.loss_weights if loss_weights is None else loss_weights, self.names
        )
        super().compile(
            optimizer,
            None if loss is None else self._for_each(loss),
            metrics=metrics and self._for_each(metrics),
            weighted_metrics=weighted_metrics and self._for_each(weighted_metrics),
            loss_weights=dict(zip(self.names, weights, strict=True)),
            **kwargs,
        )

    def _for_each(self, given):
        if isinstance(given, dict):
            if set(given) != set(self.names):
                raise ValueError(
                    f"losses and metrics by name are for all of {', '.join(self.names)}, not for {', '.join(map(str, given))}"
                )
            return given
        return {name: keras.tree.map_structure(_copied, given) for name in self.names}

    def compile_from_config(self, config):
        """Compiles as the model that was saved; Keras leaves that to models with a `compile` of their own."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def fit(self, *args, **kwargs):
        """As of `keras.Model`; keeps the validation accuracies of the last epoch in `accuracy`."""
        history = super().fit(*args, **kwargs)
        last = {name: history.history.get(f"val_{name}_accuracy") for name in self.names}
        if all(last.values()):
            self.accuracy = {name: values[-1] for name, values in last.items()}
        return history

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        logits = self._by_name(y_pred)
        loss = super().compute_loss(
            x, self._by_name(y), logits, self._by_name(sample_weight), training
        )
        if not (training and self.distillation):
            return loss
        t = self.temperature
        soft = ops.stop_gradient(ops.softmax(logits["base"] / t))
        entropy = keras.losses.CategoricalCrossentropy(
            from_logits=True
        )  # scales itself under a strategy
        weights = self._by_name(sample_weight) or {}
        students = [
            entropy(soft, logits[name] / t, weights.get(name))
            for name in self.names
            if name != "base"
        ]
        return loss + self.distillation * t**2 * sum(students)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(
            x, self._by_name(y), self._by_name(y_pred), self._by_name(sample_weight)
        )

    def _by_name(self, value):
        """The same value for every model, if it is not one for each."""
        if value is None or isinstance(value, dict):
            return value
        return dict.fromkeys(self.names, value)

    def calibrate(self, x, batch_size=100):
        """Sets all batch-norm statistics by one pass over images, each model's by what it computes of them.

        The means over all batches, by their sizes, take the place of the moving averages. Statistics that models share
        become the mean over these models. Worth doing for widths, and with `batch_norm="own"`.

        Args:
            x: images as for `fit`, (n, height, width, channels). batch_size: images a pass.

        Raises:
            ValueError: no images.
        """
        if not len(x):
            raise ValueError("calibration needs images, some hundred of the kind that will be seen")
        seen, momenta = {}, {}

        def operation(node):
            layer = node.operation
            if not isinstance(layer, keras.layers.BatchNormalization):
                return (
                    layer if not isinstance(layer, keras.layers.Dropout) else lambda x, **unused: x
                )
            momenta.setdefault(layer, layer.momentum)
            before, seen[layer] = seen.get(layer, 0), seen.get(layer, 0) + len(images)
            layer.momentum = before / seen[layer]
            return functools.partial(layer, training=True)

        try:
            for name in self.names:
                part = self.part(name)
                nodes = [node for node in graph.nodes(part) if not node.is_input]
                for i in range(0, len(x), batch_size):
                    images = ops.convert_to_tensor(np.asarray(x[i : i + batch_size], "float32"))
                    graph.run_again(nodes, {id(part.inputs[0]): images}, operation, training=False)
        finally:
            for layer, momentum in momenta.items():
                layer.momentum = momentum

    # ---- config

    def get_config(self):
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
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """A model from `get_config`, with the same layers frozen."""
        config = dict(config)
        accuracy, frozen = config.pop("accuracy", {}), config.pop("frozen", ())
        base = keras.saving.deserialize_keras_object(config.pop("base"), custom_objects)
        model = cls(base, **config)
        model.accuracy = accuracy
        for layer in model.layers:
            layer.trainable = layer.name not in frozen
        return model


def detachable(base_model, cuts=(), widths=(1.0,), **options):
    """Makes a CNN detachable at named places: a `CNSN` on its layers and their present weights.

    Args:
        base_model: a functional or `Sequential` Keras model, such as one of `keras.applications`.
        cuts: names of layers or blocks (see `CNSN`); `cut_points(base_model)` lists what there is.
        widths: shares of the filters at which it can run too.
        **options: the others of `CNSN`.

    Returns:
        The `CNSN`. It shares the base's variables; the step-down convolutions are new and untrained.

    Raises:
        ValueError: see `CNSN`.

    Example:
        >>> base = keras.applications.ResNet50(weights=None, classifier_activation=None)
        >>> model = cnsn.detachable(base, ["conv2_block3_out", "conv3_block4_out"])
    """
    return CNSN(base_model, cuts, widths, **options)


NETWORKS = {  # name of the base: its builder, the places where it is cut
    "vgg16_cnsn": (build_vgg, ("stage1_pool", "stage3_pool")),
    "vgg16_cnsn_half": (build_vgg, ("stage1_pool", "stage3_pool")),
    "resnet18_cifar": (build_resnet, ("stage1", "stage2")),
}


@takes_options_of(CNSN, supplied=("base", "cuts"))
def detachable_network(network, num_classes, input_shape, name=None, **options):
    """Builds a network of the zoo that detaches into smaller ones.

    Args:
        network: "vgg16_cnsn", the paper's, with its two sub-models (behind two and seven
            convolutions); "vgg16_cnsn_half", half as wide; "resnet18_cifar", with step-down
            convolutions before stages 2 and 3.
        num_classes: size of the logits.
        input_shape: (height, width, 3); images in [0, 255].
        name: name of the model.
        **options: `widths`, `batch_norm`, `loss_weights`, `distillation` and `temperature` of
            `CNSN`.
    """
    builder, cuts = NETWORKS[network]
    return CNSN(builder(network, num_classes, input_shape), cuts, name=name, **options)


def _behind(cuts):
    """The calls of a network behind its preprocessing."""
    first = next(
        i for i, node in enumerate(cuts.nodes) if cuts.images in node.arguments.keras_tensors
    )
    return cuts.nodes[first:]


def _step_down(point, cuts, index):
    policy = getattr(cuts.nodes[point.position].operation, "dtype_policy", None)
    return StepDownConv2D.between(
        cuts.images.shape[1:], point.shape, name=f"step_down{index}", dtype=policy
    )


def _copied(metric):
    """Metrics count, so every model needs its own."""
    return (
        type(metric).from_config(metric.get_config())
        if isinstance(metric, keras.Metric)
        else metric
    )
