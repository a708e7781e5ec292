"""A family and a format of a stranger, made with public calls alone; see test_extending.py."""

import keras
import numpy as np
import pydantic
import tensorflow as tf
from keras import ops
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from keras_dynnets import zoo
from keras_dynnets.core.conditional import NetworkSwitch
from keras_dynnets.core.cost import model_macs
from keras_dynnets.core.dynamic import (
    ONE,
    CostPlan,
    Deployment,
    DynamicModel,
    PerImage,
    TrainingPlan,
    refuse_options,
)
from keras_dynnets.export import Format, deploy, register_format
from keras_dynnets.export.inference import inference_function


def branch(shape, classes, filters, name):
    """A network of one convolution."""
    images = keras.Input(shape)
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Conv2D(filters, 3, 2, "same", activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, keras.layers.Dense(classes)(x), name=name)


@keras.saving.register_keras_serializable("toy")
class ByBrightness(NetworkSwitch):
    """Sends bright images through the second network."""

    def place(self, images):
        return ops.cast(ops.mean(ops.cast(images, "float32"), (1, 2, 3)) > 127.5, "int32")

    def with_networks(self, networks, conditional):
        return ByBrightness(networks, conditional, name=self.name, dtype="float32")


class Section(pydantic.BaseModel, extra="forbid"):
    """The section `family` of its recipes."""

    warn_below: float = 0.0


class Bright(DynamicModel, keras.Model):
    """Few filters for dark images, many for bright ones."""

    def __init__(self, num_classes, input_shape, name="toy_bright"):
        networks = [branch(input_shape, num_classes, n, f"{name}_{n}") for n in (8, 32)]
        images = keras.Input(input_shape, name="images")
        self_switch = ByBrightness(networks, name="switch")
        super().__init__(inputs=images, outputs=self_switch(images), name=name)
        self.macs = tuple(model_macs(network) for network in networks)
        self.finished = False

    def inference_network(self):
        return keras.Model(self.input, self.output, name=self.name)

    def cost_plan(self):
        large = self.get_layer("switch").networks[1]
        return CostPlan(large, level_macs=self.macs)

    def run_images(self, images, batch_size):
        places = ops.convert_to_numpy(self.get_layer("switch").place(images))
        return PerImage(self.predict(images, verbose=0), np.array(self.macs)[places])

    def deployments(self, **options):
        refuse_options(self.name, options, ("network",))
        if "network" in options:
            return Deployment(
                self.name, {ONE: self.get_layer("switch").networks[options["network"]]}
            )
        return Deployment(self.name, {ONE: self.inference_network()})

    def training_plan(self, section, images):
        assert section.warn_below == 0.25
        return TrainingPlan(finish=lambda images: setattr(self, "finished", True))

    def summary_metrics(self, measured, accuracy, accuracy_of):
        return {"macs_mean": measured.mean_macs}


class FrozenGraph(Format):
    """TensorFlow's frozen graphs."""

    name, runtime, suffix, own_runtime = "frozen_graph", "TensorFlow 1", ".pb", True
    precisions, batch_sizes = ("fp32",), (None, 1)

    def write(self, network, path, job):
        module = inference_function(deploy(network), job.batch_size, outputs=job.outputs)
        frozen = convert_variables_to_constants_v2(module.call.get_concrete_function())
        path.write_bytes(frozen.graph.as_graph_def().SerializeToString())

    def _graph(self, path):
        return tf.compat.v1.GraphDef.FromString(path.read_bytes())

    def runner(self, path, threads=None, part=None):
        def imported():
            tf.graph_util.import_graph_def(self._graph(path), name="")

        graph = tf.compat.v1.wrap_function(imported, [])
        inputs = graph.graph.get_operations()[0].outputs[0]
        outputs = graph.graph.get_operations()[-1].outputs[0]
        run = graph.prune(inputs, outputs)
        return lambda images: {"logits": run(tf.constant(images)).numpy()}

    def operations(self, path):
        kinds = [node.op for node in self._graph(path).node]
        return {kind: kinds.count(kind) for kind in set(kinds)}


def plain(num_classes, input_shape, name):
    """The plain network that the dynamic one competes with."""
    return branch(input_shape, num_classes, 32, name)


def register():
    """Adds both to the library."""
    form = {"input_shape": (32, 32, 3), "num_classes": 10}
    zoo.register("toy_plain", "toy_baseline", plain, **form)
    zoo.register("toy_bright", "toy", Bright, **form, recipe_section=Section, rival="toy_plain")
    register_format(FrozenGraph())
