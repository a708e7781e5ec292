"""What a model costs, counted and measured."""

from keras_dynnets.profile.baseline import Comparison, compare, compare_detached, grouped_conv_factor
from keras_dynnets.profile.choose import Choice, choose
from keras_dynnets.profile.count import Count, LayerCost, count, graph_macs
from keras_dynnets.profile.latency import Row, bench
from keras_dynnets.profile.levels import compare_levels
from keras_dynnets.profile.measure import Measurement, measure
from keras_dynnets.profile.plots import accuracy_against_macs, easy_and_hard, execution_rates, macs_histogram
from keras_dynnets.profile.puppet_plots import (
    complexity_histogram,
    kernels_along_ode,
    levels_curve,
    simple_and_complex,
    stored_bytes,
)
from keras_dynnets.profile.shelf_picture import shelf_picture
from keras_dynnets.profile.tables import cnsn_table, puppet_table, tissue_table
