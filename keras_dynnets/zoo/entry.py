"""What the zoo knows of a network."""

import inspect
import numbers
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Entry:
    """A named network: how it is built and where it comes from.

    Attributes:
        name: its name in the zoo.
        family: "dmnn", "cnsn", "tissue", "puppet"; of the plain networks "resnet", "mobilenetv2", "vgg", "mlp", "convnet".
        builder: called with `arguments`, `num_classes`, `input_shape`, `name` and the user's options.
        arguments: what the name fixes.
        input_shape, num_classes: defaults, (height, width, channels) and an integer.
        paper: arXiv identifier.
        smallest: side in pixels of the smallest image that it takes.
    """

    name: str
    family: str
    builder: Callable
    input_shape: tuple
    num_classes: int
    paper: str
    arguments: dict = field(default_factory=dict)
    smallest: int = 16

    def options(self):
        """Names of the further options that `zoo.load` takes for this entry."""
        function = self.builder.__init__ if inspect.isclass(self.builder) else self.builder
        names = inspect.signature(function).parameters
        fixed = {*self.arguments, "self", "num_classes", "input_shape", "name", "kwargs"}
        return [name for name in names if name not in fixed]

    def build(self, num_classes=None, input_shape=None, **options):
        """The untrained network.

        Raises:
            TypeError: an option that the entry does not have.
            ValueError: `num_classes` or `input_shape` that no such network has.
        """
        if unknown := sorted(set(options) - set(self.options())):
            raise TypeError(
                f"{self.name} has no option {', '.join(unknown)}; it takes num_classes, input_shape"
                + "".join(f", {name}" for name in self.options())
            )
        num_classes = self.num_classes if num_classes is None else num_classes
        if not isinstance(num_classes, numbers.Integral) or isinstance(num_classes, bool) or num_classes < 1:
            raise ValueError(f"num_classes must be an integer of 1 or more, not {num_classes!r}")
        shape = self.input_shape if input_shape is None else input_shape
        shape = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
        channels = self.input_shape[-1]
        sides_fit = all(isinstance(n, int) and n >= self.smallest for n in shape[:2])
        if len(shape) != 3 or shape[-1] != channels or not sides_fit:
            raise ValueError(
                f"input_shape is (height, width, {channels}) with sides of at least {self.smallest} pixels, not {shape}; "
                f"{self.name} has {self.input_shape} by default"
            )
        return self.builder(
            **self.arguments, num_classes=int(num_classes), input_shape=shape, name=self.name, **options
        )


@dataclass(frozen=True)
class Info:
    """What `zoo.info` tells of an entry.

    Attributes:
        params: trainable values. macs: multiply-accumulates an image at most, of all paths together.
        weights: tags that `zoo.load(name, weights=tag)` takes.
    """

    name: str
    family: str
    input_shape: tuple
    num_classes: int
    params: int
    macs: int
    paper: str
    weights: tuple
