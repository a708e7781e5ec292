"""A progress bar of a training."""

import time
from typing import Any

import keras
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from keras_dynnets.cli.console import err


class EpochProgress(keras.callbacks.Callback):
    """Shows steps, epochs and the time left of a training, and a line for each epoch.

    Args:
        epochs: number of epochs.
    """

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs = epochs
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=err, transient=True)

    def on_train_begin(self, logs: Any = None) -> None:
        steps = self.params.get("steps") or 1
        self.steps = steps
        self.task = self.progress.add_task("training", total=steps * self.epochs)
        self.progress.start()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch, self.started = epoch, time.perf_counter()
        title = f"epoch {epoch + 1} of {self.epochs}"
        self.progress.update(self.task, completed=epoch * self.steps, description=title)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.progress.update(self.task, completed=self.epoch * self.steps + batch + 1)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        seconds = time.perf_counter() - self.started
        shown = ", ".join(f"{name} {value:.4g}" for name, value in (logs or {}).items())
        err.print(f"epoch {epoch + 1} of {self.epochs}: {seconds:.0f} s, {shown}")

    def on_train_end(self, logs: Any = None) -> None:
        self.progress.stop()
