"""What the names in files of version 0.1 stood for."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_dynnets.core import graph
from keras_dynnets.families.cnsn.cut_names import places_of
from keras_dynnets.families.cnsn.preprocessing import Preprocessing


def as_in_0_1(base: keras.Model, cuts: Sequence[str]) -> dict[str, Any]:
    """Gives arguments of `CNSN` with which a file of version 0.1 loads as it was saved.

    A cut was any beginning of a name of a layer. Step-down convolutions read the result of the
    last of the `Rescaling` and `Normalization` layers that follow the input.

    Args:
        base: the network of the file.
        cuts: the cuts in the file.
    """
    calls = graph.CallGraph(graph.functional(base, "CNSN"))
    operations = [node.operation for node in calls.nodes]
    named = []
    for cut in cuts:
        begun = [op.name for op in operations if op.name.startswith(f"{cut}_")]
        named.append(begun[-1] if begun and not places_of(cut, operations) else cut)
    found = Preprocessing(calls)
    tensor, known = found.image, (keras.layers.Rescaling, keras.layers.Normalization)
    while len(calls.readers(tensor)) == 1 and isinstance(calls.readers(tensor)[0].operation, known):
        tensor = calls.readers(tensor)[0].outputs[0]
    return {"cuts": named, "preprocessing": found.name_of(tensor)}
