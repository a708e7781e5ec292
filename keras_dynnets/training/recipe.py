"""Training recipes: everything that decides a result, in one file."""

from importlib import resources
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError


class Recipe(BaseModel):
    """How one zoo entry is trained on one data set.

    The schedule is a linear warm-up, then a cosine to zero or a division by ten at each of `drops`; the optimiser Nesterov
    SGD or Adam, with decoupled weight decay on kernels only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    entry: str
    data: str
    variant: str = Field(default="", pattern="^[a-z0-9_]*$", description="of the entry: tells its weights apart on one data set")
    epochs: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    learning_rate: float = Field(gt=0, description="at the end of the warm-up")
    warmup_epochs: float = Field(ge=0)
    optimizer: Literal["sgd", "adam"] = "sgd"
    epsilon: float = Field(default=1e-7, gt=0, description="of Adam")
    drops: tuple[int, ...] = Field(default=(), description="epochs that divide the learning rate by ten, instead of the cosine")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(ge=0, description="a step shrinks kernels by learning rate x this")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    flip: bool = True
    translate: int = Field(default=4, ge=0)
    resized_crop: bool = Field(default=False, description="random-size crops instead of translation, of images in files")
    image_size: int | None = Field(default=None, gt=0, description="of images in files; None for the entry's own")
    validation: int = Field(default=2000, gt=0, description="training images set aside")
    train_images: int | None = Field(default=None, gt=0, description="of the others; None for all")
    seed: int = 0
    dtype_policy: Literal["float32", "mixed_bfloat16"] = Field(default="float32", description="of training alone")
    options: dict = Field(default={}, description="of zoo.load: target_rate, ...")
    target_falls_from_epoch: int = Field(default=0, ge=0, description="DMNN: before it the target rate is 1")
    target_reached_epoch: int = Field(default=0, ge=0, description="DMNN: from it on the target rate is its own")
    noise_until_epoch: int | None = Field(default=None, ge=0, description="DMNN: gates are free of noise from here")

    @property
    def tag(self):
        """What its weights are called on the shelf, and this run by default."""
        return "_".join(filter(None, (self.data, self.variant)))

    def target_share(self, epoch):
        """How much of the way from 1 to its target rate a DMNN's target has gone in an epoch, in [0, 1]."""
        start, end = self.target_falls_from_epoch, self.target_reached_epoch
        return min(1.0, max(0.0, (epoch - start + 1) / (max(end, start) - start + 1)))


def find_recipe(entry, data, path=None):
    """The recipe of an entry and data set, or the one in `path`: a file, or the name of one of the project's.

    Raises:
        FileNotFoundError: there is none; the message lists those there are.
        ValueError: the file is not a recipe; the message says where.
    """
    folder = resources.files("keras_dynnets.training") / "recipes"
    source = Path(path) if path and str(path).endswith(".yaml") else folder / f"{path or f'{entry}_{data}'}.yaml"
    if not source.is_file():
        known = sorted(p.name for p in folder.iterdir() if p.name.endswith(".yaml"))
        raise FileNotFoundError(f"no recipe {source.name}; there are {', '.join(known)}, or give a file of your own")
    try:
        return Recipe.model_validate(yaml.safe_load(source.read_text()))
    except (ValidationError, yaml.YAMLError) as error:
        raise ValueError(f"{source} is not a valid recipe: {error}") from error
