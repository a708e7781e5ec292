"""The networks that a puppet can be, from the one for simple images to that for complex ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keras import ops

from keras_dynnets.families.puppet.plan import Plan

ADAPT = ("none", "parameters", "depth")


@dataclass(frozen=True)
class Branch:
    """One of the networks that a puppet can be.

    Attributes:
        depth: number of convolutions that run.
        dropped: number of segments that are dropped.
        complexity: complexity from which the kernels are generated, as a rank in [0, 1]; None if
            each image has its own kernels.
    """

    depth: int
    dropped: int
    complexity: float | None


def branches_of(plan: Plan, adapt: str, levels: int | None) -> tuple[Branch, ...]:
    """Gives the branches of a puppet, from the one for the least complex images on.

    The number of segments that run grows linearly with the rank of the complexity. The paper
    defines the depth in equation 10, whose exact form we could not read.

    Args:
        plan: the plan of the network.
        adapt: one of `ADAPT`, see `PuppetCNN`.
        levels: number of levels; None for kernels generated for each image.

    Returns:
        One branch for "none"; otherwise one for each level or, without levels, for each depth.
    """
    droppable = plan.droppable if adapt == "depth" else 0

    def branch(rank: float, complexity: float | None) -> Branch:
        dropped = droppable - int(rank * (droppable + 1))
        return Branch(len(plan.running(dropped)), dropped, complexity)

    if adapt == "none":
        return (branch(0.5, 0.5),)
    count = droppable + 1 if levels is None else levels
    middles = [(i + 0.5) / count for i in range(count)]
    return tuple(branch(middle, None if levels is None else middle) for middle in middles)


def value_of(branches: Sequence[Branch], index: Any, name: str, dtype: str) -> Any:
    """Gives an attribute of one branch.

    Args:
        branches: all branches.
        index: index of the branch, an integer or a scalar tensor.
        name: name of the attribute.
        dtype: data type of the result for an index that is a tensor.

    Returns:
        A number for an integer index, so that a network of one branch has no conditions;
        otherwise a scalar tensor.
    """
    if isinstance(index, int):
        return getattr(branches[index], name)
    values = [getattr(branch, name) for branch in branches]
    return ops.take(ops.convert_to_tensor(values, dtype), index)
