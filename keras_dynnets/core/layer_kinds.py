"""Layers of Keras by how their multiply-accumulates (MACs) are counted."""

import keras

CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
PLAIN = (
    *DEPTHWISE,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Dense,
)  # counted by their settings, so that they need not be built
BIASED = (
    *DEPTHWISE,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)  # convolutions
# Layers without products whose `call` cannot be followed on symbolic tensors.
FREE = (
    keras.layers.AugMix,
    keras.layers.AutoContrast,
    keras.layers.BatchNormalization,
    keras.layers.CategoryEncoding,
    keras.layers.CenterCrop,
    keras.layers.ContrastLimitedAdaptiveHistogramEqualization,
    keras.layers.CutMix,
    keras.layers.Discretization,
    keras.layers.Equalization,
    keras.layers.GroupNormalization,
    keras.layers.HashedCrossing,
    keras.layers.Hashing,
    keras.layers.IntegerLookup,
    keras.layers.MaxNumBoundingBoxes,
    keras.layers.MixUp,
    keras.layers.Normalization,
    keras.layers.RandAugment,
    keras.layers.RandomBrightness,
    keras.layers.RandomColorDegeneration,
    keras.layers.RandomColorJitter,
    keras.layers.RandomContrast,
    keras.layers.RandomCrop,
    keras.layers.RandomElasticTransform,
    keras.layers.RandomErasing,
    keras.layers.RandomFlip,
    keras.layers.RandomGaussianBlur,
    keras.layers.RandomGrayscale,
    keras.layers.RandomHue,
    keras.layers.RandomInvert,
    keras.layers.RandomPerspective,
    keras.layers.RandomPosterization,
    keras.layers.RandomRotation,
    keras.layers.RandomSaturation,
    keras.layers.RandomSharpness,
    keras.layers.RandomShear,
    keras.layers.RandomTranslation,
    keras.layers.RandomZoom,
    keras.layers.Rescaling,
    keras.layers.Resizing,
    keras.layers.Solarization,
    keras.layers.StringLookup,
    keras.layers.TextVectorization,
)
