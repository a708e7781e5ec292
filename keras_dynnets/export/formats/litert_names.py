"""The names of the graphs in a LiteRT file, numbered by their place in the file."""

import re

from keras_dynnets.export.requirements import require

COUNTER = re.compile(r"_(true|false)_\d+")  # TensorFlow numbers the functions of all conditions
ALIGNMENT = 16  # bytes, of the weights


def without_counters(content: bytes) -> bytes:
    """Gives a file in which the branches of conditions are numbered in their order.

    TensorFlow numbers them by a counter of the process. Two exports of a network then give the
    same bytes. A file without conditions stays as it is.

    Args:
        content: of a `.tflite` file.
    """
    flatbuffers = require("flatbuffers")
    schema = require("tensorflow.lite.python.schema_py_generated")
    model = schema.ModelT.InitFromPackedBuf(content)
    named = [part for graph in model.subgraphs for part in (graph, *graph.tensors) if part.name]
    counted = [part for part in named if COUNTER.search(part.name.decode())]
    if not counted:
        return content
    places: dict[str, int] = {}

    def renamed(found: re.Match) -> str:
        return f"_{found[1]}_{places.setdefault(found[0], len(places))}"

    for part in counted:
        part.name = COUNTER.sub(renamed, part.name.decode())

    class Aligned(flatbuffers.Builder):
        """Aligns weights as the converter does, for which this class has no setting."""

        def StartVector(self, elemSize, numElems, alignment):  # noqa: N802, N803
            """Starts a list; those of bytes hold weights."""
            aligned = ALIGNMENT if elemSize == 1 else alignment
            return super().StartVector(elemSize, numElems, aligned)

    builder = Aligned(len(content))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
