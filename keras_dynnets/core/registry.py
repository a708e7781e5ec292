"""The entries of the zoo: what each named network is and how it is built.

The file imports no Keras, and a builder can be given as text, so that the names of all networks
are known in milliseconds.
"""

import difflib
import importlib
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from keras_dynnets.core.arguments import is_truth, plain, whole_number

ENTRIES: dict[str, "Entry"] = {}
NUMBERS = (int, float, int | None, float | None)  # annotations of what is a number


@dataclass(frozen=True)
class Entry:
    """A named network of the zoo.

    Attributes:
        name: its name.
        family: the family that it belongs to, such as "resnet".
        builder: a function, or its place as "package.module:function". It is called with
            `arguments`, `num_classes`, `input_shape`, `name` and the user's options.
        input_shape: default shape of an image, (height, width, channels).
        num_classes: default number of classes.
        paper: arXiv number or DOI; empty for none.
        arguments: what the name fixes.
        smallest: side in pixels of the smallest image that it takes.
        part_options: options of `zoo.load` that ask for a part of the network; they go to its
            method `detach`.
        recipe_section: pydantic model (or its place) of a recipe's section `family`.
        rival: name of the plain network that this one competes with; None for plain networks.
    """

    name: str
    family: str
    builder: Callable | str
    input_shape: tuple[int, int, int]
    num_classes: int
    paper: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    smallest: int = 16
    part_options: tuple[str, ...] = ()
    recipe_section: type | str | None = None
    rival: str | None = None

    def options(self) -> list[str]:
        """Lists the further options that `zoo.load` takes for this entry."""
        fixed = {*self.arguments, "self", "num_classes", "input_shape", "name", "kwargs"}
        return [name for name in self._parameters() if name not in fixed]

    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        builder = resolved(self.builder)
        function = builder.__init__ if inspect.isclass(builder) else builder
        return inspect.signature(function).parameters

    def build(
        self,
        num_classes: int | None = None,
        input_shape: Collection[int] | None = None,
        **options: Any,
    ) -> Any:
        """Builds the network with random weights.

        Args:
            num_classes: size of the logits; None for the default.
            input_shape: (height, width, channels); None for the default.
            **options: see `options()`.

        Returns:
            A `keras.Model`.

        Raises:
            TypeError: an option is given that the entry does not have.
            ValueError: the network cannot have this `num_classes` or `input_shape`.
        """
        if unknown := sorted(set(options) - set(self.options())):
            known = ", ".join(["num_classes", "input_shape", *self.options()])
            raise TypeError(f"{self.name} has no option {', '.join(unknown)}; it takes {known}")
        for name in options:
            if is_truth(options[name]) and self._parameters()[name].annotation in NUMBERS:
                raise ValueError(f"{name} of {self.name} is a number, not {options[name]!r}")
        return resolved(self.builder)(
            **self.arguments,
            num_classes=self._checked_classes(num_classes),
            input_shape=self._checked_shape(input_shape),
            name=self.name,
            **plain(options),
        )

    def _checked_classes(self, given: int | None) -> int:
        return whole_number("num_classes", self.num_classes if given is None else given)

    def _checked_shape(self, given: Collection[int] | None) -> tuple:
        shape = plain(self.input_shape if given is None else given)
        shape = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
        channels = self.input_shape[-1]
        whole = all(type(n) is int for n in shape)
        sides_fit = whole and all(n >= self.smallest for n in shape[:2])
        if len(shape) != 3 or shape[-1] != channels or not sides_fit:
            raise ValueError(
                f"input_shape is (height, width, {channels}) with sides of at least "
                f"{self.smallest} pixels, not {shape}; {self.name} has {self.input_shape} by "
                "default"
            )
        return shape


def register(
    name: str,
    family: str,
    builder: Callable | str | None = None,
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    **details: Any,
) -> Any:
    """Adds a network to the zoo, so that it loads, trains, exports and is listed by its name.

    Args:
        name: its name.
        family: the family that it belongs to.
        builder: called with `num_classes`, `input_shape`, `name`, the fixed `arguments` and the
            user's options; gives a `keras.Model` from images in [0, 255] to logits. Its place
            as "package.module:function" will do. None to use `register` as a decorator.
        input_shape: default shape of an image, (height, width, channels).
        num_classes: default number of classes.
        **details: the other attributes of `Entry`.

    Returns:
        The `Entry`; as a decorator, the builder.

    Raises:
        ValueError: there is an entry of that name.

    Example:
        >>> @zoo.register("my_net", "mine", input_shape=(32, 32, 3), num_classes=10)
        ... def build_my_net(num_classes, input_shape, name):
        ...     ...
        >>> zoo.load("my_net", weights=None)
    """
    if builder is None:

        def decorate(function: Callable) -> Callable:
            register(
                name, family, function, input_shape=input_shape, num_classes=num_classes, **details
            )
            return function

        return decorate
    if name in ENTRIES:
        raise ValueError(f"the zoo has an entry {name!r} already; choose another name")
    height, width, channels = input_shape
    entry = Entry(name, family, builder, (height, width, channels), num_classes, **details)
    ENTRIES[name] = entry
    return entry


def find(name: str) -> Entry:
    """Gives the entry called `name`.

    Raises:
        ValueError: there is none; the message lists names close to it.
    """
    if name in ENTRIES:
        return ENTRIES[name]
    close = difflib.get_close_matches(str(name), ENTRIES, n=4, cutoff=0.4)
    hint = f"did you mean {', '.join(close)}?" if close else "zoo.list_models() lists all names"
    raise ValueError(f"no model {name!r} in the zoo; {hint}")


def resolved(place: Any) -> Any:
    """Gives the object that a place "package.module:name" stands for; other objects unchanged."""
    if not isinstance(place, str):
        return place
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def takes_options_of(source: type, supplied: Collection[str]) -> Callable[[Callable], Callable]:
    """Makes a decorator that adds the parameters of a class to the signature of a builder.

    The builder passes its `**options` on to the class, and `Entry.options` lists them by this
    signature.

    Args:
        source: the class.
        supplied: parameters of its constructor for which the builder gives the values.
    """

    def decorate(builder: Callable) -> Callable:
        own = inspect.signature(builder)
        names = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        theirs = inspect.signature(source.__init__).parameters.values()
        taken = {"self", *supplied, *own.parameters}
        added = [
            p.replace(kind=p.KEYWORD_ONLY)
            for p in theirs
            if p.name not in taken and p.kind is not p.VAR_KEYWORD
        ]
        builder.__signature__ = own.replace(parameters=[*names, *added])
        return builder

    return decorate
