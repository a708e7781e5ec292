"""One run of images through one branch of a puppet."""

import functools
from typing import TYPE_CHECKING, Any

from keras import ops

from keras_dynnets.core import graph
from keras_dynnets.families.puppet.branches import value_of
from keras_dynnets.families.puppet.kernels import kernel_for
from keras_dynnets.families.puppet.segments import Segment

if TYPE_CHECKING:
    from keras_dynnets.families.puppet.puppet_layer import Puppet


class BranchRun:
    """Runs images through one branch of a puppet and generates the kernels on the way.

    Args:
        puppet: the layer whose branch runs.
        index: index of the branch, an integer or a scalar tensor that is known at run time.
        statistics: mean and variance for all norms, (2, channels of all norms); None for those
            of the batch.
        training: whether the layers that are not generated are told that this is a training.
    """

    def __init__(self, puppet: "Puppet", index: Any, statistics: Any, training: bool):
        self.puppet = puppet
        self.index = index
        self.statistics = statistics
        self.training = training
        self.stored = (
            ops.take(puppet.statistics, index, axis=0) if statistics is None else statistics
        )
        self.step = puppet.ode.horizon / value_of(puppet.branches, index, "depth", "float32")

    def __call__(self, images: Any, ranks: Any) -> tuple[Any, Any]:
        """Runs the branch.

        Args:
            images: (batch, height, width, channels).
            ranks: ranks of their complexities, (batch,).

        Returns:
            The output, and the statistics that it was normalised with, (2, channels of all
            norms); those of norms that did not run are the stored ones.
        """
        puppet, network = self.puppet, self.puppet.plan.network
        state = puppet.ode.initial(self._complexity(ranks))
        values, found, states = {id(network.inputs[0]): images}, {}, {}
        most_dropped = max(branch.dropped for branch in puppet.branches)
        for segment in puppet.plan.segments:
            if segment.runs(most_dropped):
                state = self._run(segment, values, state, found, states)
            else:
                state = self._run_unless_dropped(segment, values, state, found)
        rows = [_mean(found[i]) for i in range(len(puppet.norms))]
        statistics = ops.concatenate(rows, axis=1) if rows else self.stored
        return values[id(network.outputs[0])], statistics

    def _complexity(self, ranks: Any) -> Any:
        """Gives the complexities to generate kernels from: one for a level, or one per image."""
        branches = self.puppet.branches
        if branches[0].complexity is None:
            return ranks
        return ops.reshape(value_of(branches, self.index, "complexity", "float32"), (1,))

    def _run(self, segment: Segment, values: dict, state: Any, found: dict, states: dict) -> Any:
        """Runs the calls of a segment.

        Args:
            segment: the segment.
            values: tensors by the ids of the template's symbolic tensors; gets the results.
            state: state of the equation before the segment.
            found: lists of statistics by the index of the norm; gets those of every call that ran.
            states: states by the convolutions that ran before, which may run again; gets those
                of the segment.

        Returns:
            The state of the equation behind the segment.
        """
        puppet = self.puppet
        for layer in puppet.plan.convolutions:
            if layer not in states and any(node.operation is layer for node in segment.nodes):
                state = states[layer] = puppet.ode.advance(state, self.step)

        def operation(node: Any) -> Any:
            layer = node.operation
            if layer in states:
                kernel = kernel_for(layer, states[layer], puppet.normalise_kernels)
                kernel = kernel if puppet.branches[0].complexity is None else kernel[0]
                convolution = puppet.convolutions[puppet.plan.convolutions.index(layer)]
                return functools.partial(convolution, kernel=kernel)
            if layer in puppet.plan.norms:
                return functools.partial(self._normalise, puppet.plan.norms.index(layer), found)
            return layer

        graph.run_again(segment.nodes, values, operation, self.training)
        return state

    def _run_unless_dropped(self, segment: Segment, values: dict, state: Any, found: dict) -> Any:
        """Runs a segment if the branch has it; otherwise its result is its input.

        The arguments and the result are those of `_run`.
        """
        puppet = self.puppet
        x = values[id(segment.source)]
        names = {node.operation.name for node in segment.nodes}
        norms = [i for i, norm in enumerate(puppet.norms) if norm.name in names]

        def run() -> tuple[Any, Any, list]:
            inner, used = {id(segment.source): x}, {}
            after = self._run(segment, inner, state, used, {})
            return (
                ops.cast(inner[id(segment.target)], x.dtype),
                after,
                [_mean(used[i]) for i in norms],
            )

        def skip() -> tuple[Any, Any, list]:
            return x, state, [self.stored[:, puppet.norm_slices[i]] for i in norms]

        dropped = value_of(puppet.branches, self.index, "dropped", "int32")
        result, state, used = _either(dropped <= segment.drop_order, run, skip)
        values[id(segment.target)] = result
        for i, statistics in zip(norms, used, strict=True):
            found.setdefault(i, []).append(statistics)
        return state

    def _normalise(self, index: int, found: dict, x: Any, **unused: Any) -> Any:
        """Calls a norm on `x` and puts the statistics that it used into `found`."""
        statistics = self.statistics
        if statistics is not None:
            statistics = statistics[:, self.puppet.norm_slices[index]]
        x, used = self.puppet.norms[index](x, statistics=statistics)
        found.setdefault(index, []).append(used)
        return x


def _mean(statistics: list[Any]) -> Any:
    """Gives the mean of the statistics of all calls of a norm."""
    return sum(statistics[1:], statistics[0]) / len(statistics) if statistics[1:] else statistics[0]


def _either(condition: Any, run: Any, skip: Any) -> Any:
    """Calls one of two functions, by a condition that is a boolean or a tensor."""
    if isinstance(condition, bool):
        return run() if condition else skip()
    return ops.cond(condition, run, skip)
