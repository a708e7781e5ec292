"""The section `family` of a training recipe for a DMNN, and the callback that follows it."""

from typing import Any

import keras
from pydantic import BaseModel, ConfigDict, Field


class GateSchedule(BaseModel):
    """Says when the gates of a DMNN start to close in a training, and when their noise ends.

    Epochs count from 0. Before `target_falls_from_epoch` the target rate is 1. From there it falls
    in equal steps, one at the start of each epoch, and from `target_reached_epoch` on it is the
    model's own. With the defaults it is the model's own from the start, and the noise stays. This
    is the paper's training; the schedule is an addition.

    Example:
        >>> schedule = GateSchedule(target_falls_from_epoch=2, target_reached_epoch=5)
        >>> [schedule.target_share(epoch) for epoch in range(7)]
        [0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    target_falls_from_epoch: int = Field(
        default=0, ge=0, description="before this epoch the target rate is 1"
    )
    target_reached_epoch: int = Field(
        default=0, ge=0, description="from this epoch on the target rate is that of the model"
    )
    noise_until_epoch: int | None = Field(
        default=None,
        ge=0,
        description="from this epoch on the gates have no noise; default: they always have noise",
    )

    def target_share(self, epoch: int) -> float:
        """Gives how far the target rate has fallen from 1 to the model's own.

        Args:
            epoch: number of the epoch, from 0.

        Returns:
            0 for a target rate of 1, 1 for the model's own, and values between them.
        """
        start, end = self.target_falls_from_epoch, self.target_reached_epoch
        return min(1.0, max(0.0, (epoch - start + 1) / (max(end, start) - start + 1)))


class FollowSchedule(keras.callbacks.Callback):
    """Sets the target rate and the gate noise of a DMNN before each epoch.

    When the training ends, both have the values again that they had before it.

    Args:
        schedule: a `GateSchedule`.

    Example:
        >>> schedule = GateSchedule(noise_until_epoch=8)
        >>> model.fit(images, labels, epochs=10, callbacks=[FollowSchedule(schedule)])
    """

    def __init__(self, schedule: GateSchedule):
        super().__init__()
        self.schedule = schedule

    def on_train_begin(self, logs: Any = None) -> None:
        self.target_rate, self.noise = self.model.target_rate, self.model.gate_noise

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        target = 1 + (self.target_rate - 1) * self.schedule.target_share(epoch)
        ends = self.schedule.noise_until_epoch
        noise = self.noise if ends is None or epoch < ends else 0.0
        if (self.model.target_rate, self.model.gate_noise) != (target, noise):
            self.model.target_rate, self.model.gate_noise = target, noise

    def on_train_end(self, logs: Any = None) -> None:
        self.model.target_rate, self.model.gate_noise = self.target_rate, self.noise
