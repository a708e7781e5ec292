"""What networks cost: counts, measurements for each image, benchmarks, tables and pictures."""

from keras_dynnets.measure.budget import Choice, choose
from keras_dynnets.measure.counting import Count, LayerCost, count, graph_macs
from keras_dynnets.measure.grouped_conv import grouped_conv_factor
from keras_dynnets.measure.latency import Comparison, compare
from keras_dynnets.measure.per_image import Measurement, measure
from keras_dynnets.measure.plots import (
    accuracy_against_macs,
    easy_and_hard,
    execution_rates,
    macs_histogram,
)
from keras_dynnets.studies.cnsn import cnsn_table, compare_detached
from keras_dynnets.studies.dmnn import bench
from keras_dynnets.studies.published import published_picture
from keras_dynnets.studies.puppet import compare_levels, puppet_table
from keras_dynnets.studies.puppet_plots import (
    complexity_histogram,
    kernels_along_ode,
    levels_curve,
    simple_and_complex,
    stored_bytes,
)
from keras_dynnets.studies.tissue import tissue_table

__all__ = [
    "Choice",
    "Comparison",
    "Count",
    "LayerCost",
    "Measurement",
    "accuracy_against_macs",
    "bench",
    "choose",
    "cnsn_table",
    "compare",
    "compare_detached",
    "compare_levels",
    "complexity_histogram",
    "count",
    "easy_and_hard",
    "execution_rates",
    "graph_macs",
    "grouped_conv_factor",
    "kernels_along_ode",
    "levels_curve",
    "macs_histogram",
    "measure",
    "published_picture",
    "puppet_table",
    "simple_and_complex",
    "stored_bytes",
    "tissue_table",
]
