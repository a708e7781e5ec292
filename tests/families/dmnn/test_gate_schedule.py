import keras
import numpy as np
import pytest
from helpers import compiled, images, labels, scatter_gates, settle, tiny
from pydantic import ValidationError

from keras_dynnets.families.dmnn.recipe import FollowSchedule, GateSchedule


def test_the_target_falls_in_equal_steps():
    schedule = GateSchedule(target_falls_from_epoch=2, target_reached_epoch=5)
    assert [schedule.target_share(epoch) for epoch in range(8)] == [0, 0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert [GateSchedule().target_share(epoch) for epoch in range(3)] == [1, 1, 1]


def test_a_target_reached_before_it_falls_falls_at_once():
    schedule = GateSchedule(target_falls_from_epoch=3, target_reached_epoch=1)
    assert [schedule.target_share(epoch) for epoch in range(5)] == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    "field, value",
    [
        ("target_falls_from_epoch", -1),
        ("target_reached_epoch", 0.5),
        ("noise_until_epoch", -1),
        ("levels", 3),
    ],
)
def test_a_bad_value_is_named(field, value):
    with pytest.raises(ValidationError, match=field):
        GateSchedule(**{field: value})


def test_a_schedule_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        GateSchedule().noise_until_epoch = 3


class Recorder(keras.callbacks.Callback):
    """Records the settings in each epoch, and the functions that Keras has traced for `fit`."""

    def __init__(self):
        super().__init__()
        self.settings, self.functions = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.settings.append((self.model.target_rate, self.model.gate_noise))
        self.functions.append(self.model.train_function)


def followed(schedule, epochs, **arguments):
    """Trains a model by the schedule; gives the model, its recorder and its history."""
    model = compiled(scatter_gates(settle(tiny(**arguments), images(8))), 0.0)
    recorder = Recorder()
    callbacks = [FollowSchedule(schedule), recorder]
    fit = model.fit(images(8), labels(8), epochs=epochs, callbacks=callbacks, verbose=0)
    return model, recorder, fit.history


def test_settings_follow_the_schedule_and_return():
    schedule = GateSchedule(target_falls_from_epoch=1, target_reached_epoch=2, noise_until_epoch=2)
    model, recorder, _ = followed(schedule, 4, target_rate=0.4, gate_noise=0.5)
    targets, noises = zip(*recorder.settings, strict=True)
    assert targets == pytest.approx((1, 0.7, 0.4, 0.4))
    assert noises == (0.5, 0.5, 0, 0)
    assert (model.target_rate, model.gate_noise) == (0.4, 0.5)


def test_the_target_acts_on_the_loss_of_its_epoch():
    """At a learning rate of zero without noise, only the target differs between the epochs."""
    schedule = GateSchedule(target_falls_from_epoch=1, target_reached_epoch=1)
    model, _, history = followed(schedule, 2, target_rate=0.01, gate_noise=0, resource_weight=100)
    gates = np.asarray(model.with_gates()(images(8))["gates"])
    by_block, share = gates.mean((0, 2)), model.macs_of(gates).mean() / model.macs_of(gates**0)[0]

    def resource(rate):
        return 100 * (((rate - by_block) ** 2).sum() + (rate - share) ** 2)

    first, second = history["loss"]
    assert second - first == pytest.approx(resource(0.01) - resource(1), rel=1e-2)


def test_equal_settings_are_not_traced_again():
    _, recorder, _ = followed(GateSchedule(target_falls_from_epoch=2), 5)
    assert len(set(map(id, recorder.functions))) == 2
