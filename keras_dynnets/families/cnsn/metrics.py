"""Losses and metrics for several models, each with objects of its own."""

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import keras


def for_each_model(given: Any, names: Sequence[str]) -> dict[str, Any]:
    """Gives losses or metrics by the names of models.

    Args:
        given: what is for every model, or a dict by name. A `keras.Metric` counts for one model,
            so that every model after the first gets a copy.
        names: names of the models.

    Raises:
        ValueError: a dict is not for exactly these models, or a metric cannot be copied.
    """
    if not isinstance(given, dict):
        given = dict.fromkeys(names, given)
    if set(given) != set(names):
        raise ValueError(
            f"losses and metrics by name are for all of {', '.join(names)}, not for "
            f"{', '.join(map(str, given))}"
        )
    taken: list[keras.Metric] = []

    def own(value: Any) -> Any:
        if not isinstance(value, keras.Metric):
            return value
        if any(value is other for other in taken):
            return _copied(value, names)
        taken.append(value)
        return value

    return {name: keras.tree.map_structure(own, given[name]) for name in names}


def _copied(metric: keras.Metric, names: Sequence[str]) -> keras.Metric:
    """Gives another metric that counts the same.

    Raises:
        ValueError: its class does not say how it is made, and Python cannot copy it either.
    """
    kind = type(metric)
    try:
        if _config_is_complete(metric):
            return kind.from_config(metric.get_config())
        other = _deep_copy(metric)
        other.reset_state()
        return other
    except Exception as error:
        raise ValueError(
            f"metric {metric.name!r} must be copied for each of {', '.join(names)}, and "
            f"{kind.__name__} cannot be ({error}): define its get_config() with all arguments of "
            f"__init__, or give objects by name, {{{names[0]!r}: [{kind.__name__}(...)], ...}}"
        ) from error


def _config_is_complete(metric: keras.Metric) -> bool:
    """Says whether `get_config` gives all arguments of `__init__`.

    It does where it is defined together with `__init__` or in a class derived from that one, or
    where it names all of them.
    """
    order = type(metric).__mro__
    defined = {
        name: next(i for i, base in enumerate(order) if name in vars(base))
        for name in ("__init__", "get_config")
    }
    if defined["get_config"] <= defined["__init__"]:
        return True
    parameters = inspect.signature(type(metric).__init__).parameters.values()
    named = all(p.kind is p.POSITIONAL_OR_KEYWORD or p.kind is p.KEYWORD_ONLY for p in parameters)
    return named and {p.name for p in parameters} - {"self"} <= set(metric.get_config())


def _deep_copy(metric: keras.Metric) -> keras.Metric:
    """Copies a metric with variables of its own; `copy.deepcopy` alone goes through its config."""
    other = object.__new__(type(metric))
    memo: dict[int, Any] = {id(metric): other}
    vars(other).update({key: copy.deepcopy(value, memo) for key, value in vars(metric).items()})
    return other
