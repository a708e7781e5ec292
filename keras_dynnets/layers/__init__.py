from keras_dynnets.layers.batch_normalization import BatchNormalization
from keras_dynnets.layers.channel_slice import ChannelSlice
from keras_dynnets.layers.grouped_conv import GroupedConv2D
from keras_dynnets.layers.gumbel_gate import GumbelGate
from keras_dynnets.layers.multi_path import MultiPath
from keras_dynnets.layers.path_controller import PathController
from keras_dynnets.layers.sliced import SlicedBatchNormalization, SlicedConv2D, SlicedDense
from keras_dynnets.layers.stacked_units import GroupedDense, StackedUnits1D, StackedUnits2D
from keras_dynnets.layers.step_down_conv import StepDownConv2D
