"""The networks that the benchmark of a DMNN times, as functions in each runtime."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_dynnets.export.formats.base import WriteJob, format_named
from keras_dynnets.families.dmnn.forced_gates import with_forced_gates, without_gates
from keras_dynnets.families.dmnn.model import DMNN
from keras_dynnets.families.dmnn.path_controller import PathController
from keras_dynnets.measure.latency import TENSORFLOW, TRAINING

# The network of keras.applications that is a DMNN's backbone, where there is one.
APPLICATIONS = {"resnet50": "ResNet50", "resnet101": "ResNet101", "mobilenetv2": "MobileNetV2"}

Call = Callable[[np.ndarray, Any], Any]  # images and forced gates to logits, None in training


@dataclass(frozen=True)
class Contenders:
    """The networks to time beside each other in one runtime.

    Attributes:
        gated: the DMNN, with gates that are forced.
        reference: the same layers without gates; in training, the DMNN in the masked form.
        application: the network of keras.applications; None if there is none.
    """

    gated: Call
    reference: Call
    application: Call | None = None


def contenders(runtime: str, model: DMNN, batch: int, threads: int, folder: Path) -> Contenders:
    """Makes the networks that a DMNN is timed against, in one runtime.

    Args:
        runtime: "tensorflow", "tensorflow_training" or the name of a format.
        model: the DMNN.
        batch: number of images in a call.
        threads: number of threads of the runtime of a file.
        folder: where files are written.
    """
    if runtime == TRAINING:
        return Contenders(_training_step(model, "sparse"), _training_step(model, "masked"))
    forced, plain, application = (
        with_forced_gates(model),
        without_gates(model),
        _application(model),
    )
    if runtime == TENSORFLOW:

        def predict(network: keras.Model, *inputs: Any) -> Any:
            return network.predict(*inputs, batch_size=batch, verbose=0)

        return Contenders(
            lambda images, gates: predict(forced, [images, gates])["logits"],
            lambda images, gates: predict(plain, images),
            application and (lambda images, gates: predict(application, images)),
        )
    target = format_named(runtime)
    job = WriteJob(None if batch > 1 else batch)

    def runner(network: keras.Model) -> Callable[..., dict[str, np.ndarray]]:
        path = folder / f"{network.name}_{batch}{target.suffix}"
        target.write(network, path, job)
        return target.runner(path, threads)

    run, run_plain = runner(forced), runner(plain)
    run_application = application and runner(application)
    return Contenders(
        lambda images, gates: run(images=images, forced=gates)["logits"],
        lambda images, gates: run_plain(images=images)["logits"],
        run_application and (lambda images, gates: run_application(images=images)["logits"]),
    )


def _application(model: DMNN) -> keras.Model | None:
    if model.backbone not in APPLICATIONS:
        return None
    network = getattr(keras.applications, APPLICATIONS[model.backbone])
    return network(
        weights=None,
        input_shape=model.input_shape[1:],
        classes=model.num_classes,
        classifier_activation=None,
    )


def _training_step(model: DMNN, execution: str) -> Call:
    """Gives a training step of a copy of the model whose controllers are frozen.

    Frozen controllers are the case for which a training may run as "sparse".
    """
    copy = DMNN.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    copy.execution = execution
    for layer in copy.layers:
        layer.trainable = not isinstance(layer, PathController)
    network = with_forced_gates(copy)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(
        keras.optimizers.SGD(1e-3, momentum=0.9), {"logits": loss, "gates": None}, jit_compile=False
    )

    def step(images: np.ndarray, gates: Any) -> None:
        network.train_on_batch([images, gates], {"logits": np.zeros(len(images), "int32")})

    return step
