"""Training recipes: everything that decides a result, in one file."""

from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from keras_dynnets.core.registry import find, resolved

FOLDER = resources.files("keras_dynnets.training") / "recipes"


class Recipe(BaseModel):
    """How one entry of the zoo is trained on one data set.

    The learning rate rises linearly in the warm-up, then follows a cosine to zero or is divided
    by ten at each of `drops`. The optimiser is Nesterov SGD or Adam, with decoupled weight decay
    on kernels only.

    A recipe file may name another recipe as its `base`: it then has that one's fields, and gives
    only those that differ. What only one family of networks has stands in the section `family`,
    which that family validates.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    entry: str = Field(description="name of the network in the zoo")
    data: str = Field(description="name of the data set")
    variant: str = Field(
        default="",
        pattern="^[a-z0-9_]*$",
        description="tells the weights of an entry apart that learned from one data set",
    )
    epochs: int = Field(gt=0)
    batch_size: int = Field(gt=0, description="images in a step")
    learning_rate: float = Field(gt=0, description="at the end of the warm-up")
    warmup_epochs: float = Field(ge=0)
    optimizer: Literal["sgd", "adam"] = "sgd"
    epsilon: float = Field(default=1e-7, gt=0, description="of Adam")
    drops: tuple[int, ...] = Field(
        default=(), description="epochs that divide the learning rate by ten, instead of the cosine"
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(
        ge=0, description="a step shrinks kernels by this times the learning rate"
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    flip: bool = Field(default=True, description="mirror half of the images")
    translate: int = Field(default=4, ge=0, description="pixels that an image moves at most")
    resized_crop: bool = Field(
        default=False, description="random-size crops instead of moves, for images in files"
    )
    image_size: int | None = Field(
        default=None, gt=0, description="pixels, for images in files; default: the entry's own"
    )
    validation: int = Field(default=2000, gt=0, description="training images set aside")
    train_images: int | None = Field(
        default=None, gt=0, description="how many of the others to train with; default: all"
    )
    seed: int = 0
    dtype_policy: Literal["float32", "mixed_bfloat16"] = Field(
        default="float32", description="of the training alone; evaluation is in float32"
    )
    options: dict = Field(default={}, description="options of zoo.load, such as target_rate")
    family: dict = Field(default={}, description="fields that only the entry's family has")

    @property
    def tag(self) -> str:
        """The tag of its published weights, which is part of the run's default folder too."""
        return "_".join(filter(None, (self.data, self.variant)))

    def family_section(self) -> BaseModel | None:
        """Gives the section `family`, validated by the family of the entry.

        Raises:
            ValueError: fields that the family does not have, or with wrong values.
        """
        section = resolved(find(self.entry).recipe_section)
        if section is None:
            if self.family:
                raise ValueError(
                    f"{self.entry} takes no recipe fields of its family, so remove the section "
                    f"family: {self.family}"
                )
            return None
        try:
            return section.model_validate(self.family)
        except ValidationError as error:
            raise ValueError(f"section family of a recipe for {self.entry}: {error}") from error


def recipe_names() -> list[str]:
    """Lists the names of the recipes that the package carries."""
    names = (path.name for path in FOLDER.iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def find_recipe(entry: str, data: str, path: str | Path | None = None) -> Recipe:
    """Gives the recipe of an entry and data set, or the one asked for.

    Args:
        entry: name of the network.
        data: name of the data set.
        path: a recipe file, or the name of one of the package's; None for `entry_data`.

    Raises:
        FileNotFoundError: there is none; the message lists those that there are.
        ValueError: the file is not a recipe; the message says where.
    """
    name = str(path or f"{entry}_{data}")
    source = Path(name) if path and name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    fields = _fields(source, ())
    try:
        recipe = Recipe.model_validate(fields)
        recipe.family_section()
    except ValueError as error:  # pydantic's ValidationError is one
        raise ValueError(f"{source} is not a valid recipe: {error}") from error
    return recipe


def _fields(source: Any, seen: tuple) -> dict:
    """Reads the fields of a recipe file, over those of its base."""
    if not source.is_file():
        raise FileNotFoundError(
            f"no recipe {source.name}; there are {', '.join(recipe_names())}, or give a file of "
            "your own"
        )
    if str(source) in seen:
        raise ValueError(f"{source} is a base of itself, through {', '.join(seen)}")
    try:
        fields = yaml.safe_load(source.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{source} is not a valid recipe: {error}") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{source} is not a valid recipe: it has no fields")
    if "base" not in fields:
        return fields
    base = str(fields.pop("base"))
    folder = source.parent if isinstance(source, Path) else FOLDER
    place = folder / base if base.endswith((".yaml", ".yml")) else FOLDER / f"{base}.yaml"
    return {**_fields(place, (*seen, str(source))), **fields}
