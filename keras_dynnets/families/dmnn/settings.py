"""The settings of a DMNN that can change after it is made."""

import types
from collections.abc import Callable
from typing import Any

from keras_dynnets.families.dmnn.multi_path import MultiPath
from keras_dynnets.families.dmnn.path_controller import PathController


class GateSettings:
    """Gives a Keras model with gates settings that act on its next `fit`, `evaluate` or `predict`.

    `DMNN` inherits from it and from `keras.Model`, which has the attributes that are declared here.
    """

    layers: list
    make_train_function: Callable[..., Any]
    train_function: Any
    test_function: Any
    predict_function: Any
    _measured: types.SimpleNamespace  # its `network` is what `run_images` traced

    @property
    def execution(self) -> str:
        """How the blocks run: "auto", "masked", "sparse", "conditional" or "all".

        See `MultiPath`. All of these but "all" give the same logits.

        Raises:
            ValueError: it is set to another value.
        """
        return self._multi_paths()[0].execution

    @execution.setter
    def execution(self, value: str) -> None:
        for layer in self._multi_paths():
            layer.execution = value
        self._forget_traces()

    @property
    def gate_noise(self) -> float:
        """Scale of the Gumbel noise in training, 0 or more."""
        return self._controllers()[0].gate.noise

    @gate_noise.setter
    def gate_noise(self, value: float) -> None:
        for controller in self._controllers():
            controller.gate.noise = value
        self._forget_traces()

    @property
    def target_rate(self) -> float:
        """Share of the MACs and of the sub-blocks that the resource loss aims at, in (0, 1].

        Raises:
            ValueError: it is set to a value outside this range.
        """
        return self._target_rate

    @target_rate.setter
    def target_rate(self, value: float) -> None:
        if not 0 < value <= 1:
            raise ValueError(
                f"target_rate is the share of work to do, above 0 and at most 1, not {value}"
            )
        self._target_rate = value
        self._forget_traces()

    @property
    def resource_weight(self) -> float:
        """Weight of the resource loss."""
        return self._resource_weight

    @resource_weight.setter
    def resource_weight(self, value: float) -> None:
        self._resource_weight = value
        self._forget_traces()

    def _multi_paths(self) -> list[MultiPath]:
        return [layer for layer in self.layers if isinstance(layer, MultiPath)]

    def _controllers(self) -> list[PathController]:
        return [layer for layer in self.layers if isinstance(layer, PathController)]

    def _forget_traces(self) -> None:
        """Makes Keras trace its functions again, because they hold the settings as constants."""
        fitting = getattr(self, "train_function", None) is not None
        self.train_function = self.test_function = self.predict_function = None
        self._measured.network = None
        if fitting:  # a callback may change a setting in the middle of `fit`
            self.make_train_function(force=True)
