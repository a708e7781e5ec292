"""The part of a training recipe that only a DMNN has."""

from typing import Any

import keras
from pydantic import BaseModel, ConfigDict, Field


class GateSchedule(BaseModel):
    """When the gates of a DMNN start to close in a training, and when their noise ends."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target_falls_from_epoch: int = Field(
        default=0, ge=0, description="before this epoch the target rate is 1"
    )
    target_reached_epoch: int = Field(
        default=0, ge=0, description="from this epoch on the target rate is that of the model"
    )
    noise_until_epoch: int | None = Field(
        default=None, ge=0, description="from this epoch on the gates have no noise"
    )

    def target_share(self, epoch: int) -> float:
        """Gives how far the target rate has fallen from 1 to its own value, in [0, 1]."""
        start, end = self.target_falls_from_epoch, self.target_reached_epoch
        return min(1.0, max(0.0, (epoch - start + 1) / (max(end, start) - start + 1)))


class FollowSchedule(keras.callbacks.Callback):
    """Sets the target rate and the gate noise of a DMNN before every epoch.

    Both are those of the model again when the training has ended.

    Args:
        schedule: a `GateSchedule`.
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
