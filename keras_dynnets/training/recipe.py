"""Training recipes: files that hold everything that decides the result of a training."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError

from keras_dynnets.core.registry import ENTRIES, find, resolved

FOLDER = Path(__file__).parent / "recipes"
ENDINGS = (".yaml", ".yml")


class Recipe(BaseModel):
    """How one entry of the zoo is trained on one data set.

    The learning rate rises linearly during the warm-up. Then it falls to zero along a cosine, or
    it is divided by ten at each of `drops`. The optimiser is SGD with Nesterov momentum, or Adam.
    Weight decay is decoupled from the gradient and applies to kernels only.

    A recipe file may name another recipe as its `base`. It then has the fields of that recipe and
    gives only those that differ; a field that holds a mapping, such as `options`, replaces the
    whole mapping of the base. Fields that only one family of networks has stand in the section
    `family`, which that family validates.

    Example:
        >>> recipe = find_recipe("resnet20", "cifar10")
        >>> longer = recipe.model_copy(update={"epochs": 45})
        >>> train(longer, "runs/longer")
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    entry: str = Field(description="name of the network in the zoo")
    data: str = Field(description="name of the data set")
    variant: str = Field(
        default="",
        pattern="^[a-z0-9_]*$",
        description="distinguishes several trainings of one entry on one data set; part of the tag",
    )
    epochs: int = Field(gt=0, description="number of passes over the training images")
    batch_size: int = Field(gt=0, description="number of images in a step")
    learning_rate: float = Field(gt=0, description="learning rate at the end of the warm-up")
    warmup_epochs: float = Field(ge=0, description="length of the warm-up in epochs; 0 for none")
    optimizer: Literal["sgd", "adam"] = Field(
        default="sgd", description="SGD with Nesterov momentum, or Adam"
    )
    epsilon: float = Field(default=1e-7, gt=0, description="epsilon of Adam")
    drops: tuple[int, ...] = Field(
        default=(), description="epochs that divide the learning rate by ten; none for a cosine"
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="momentum of SGD")
    weight_decay: float = Field(
        ge=0, description="a step shrinks each kernel by this times the learning rate"
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="share of the label that all classes divide equally"
    )
    class_weights: Literal["balanced"] | dict[str, PositiveFloat] | None = Field(
        default=None,
        description="how much the images of a class count: 'balanced', weights by the names of "
        "classes, or all alike",
    )
    flip: bool = Field(default=True, description="whether half of the images are mirrored")
    translate: int = Field(
        default=4, ge=0, description="largest number of pixels by which an image is moved"
    )
    resized_crop: bool = Field(
        default=False,
        description="whether a random part of each image is resized, instead of moving the image; "
        "for images in files",
    )
    image_size: int | None = Field(
        default=None,
        gt=0,
        description="height and width in pixels of images in files; default: those of the entry",
    )
    cache: Literal["none", "memory", "disk"] = Field(
        default="none",
        description="whether images in files are kept once they were read, in memory or in the "
        "run folder; with resized_crop only those for validation and testing",
    )
    validation: int = Field(
        default=2000, gt=0, description="number of training images set aside for validation"
    )
    train_images: int | None = Field(
        default=None, gt=0, description="number of the other images to train on; default: all"
    )
    seed: int = Field(
        default=0, description="seed of the weights, the order of images and their random changes"
    )
    dtype_policy: Literal["float32", "mixed_bfloat16"] = Field(
        default="float32", description="precision of the training; evaluation is always in float32"
    )
    options: dict = Field(default={}, description="options of zoo.load for the entry")
    family: dict = Field(default={}, description="fields that only the family of the entry has")

    @property
    def tag(self) -> str:
        """The tag of the published weights, such as "cifar10" or "cifar10_15k"."""
        return "_".join(filter(None, (self.data, self.variant)))

    def family_section(self) -> BaseModel | None:
        """Validates the section `family` by the family of the entry.

        Returns:
            The section; None if the family has no fields of its own.

        Raises:
            ValueError: the family does not have one of the fields, or a value is wrong.
        """
        section = resolved(find(self.entry).recipe_section)
        if section is None:
            if self.family:
                raise ValueError(
                    f"{self.entry} has no recipe fields of its own, so remove the section family: "
                    f"{self.family}"
                )
            return None
        try:
            return section.model_validate(self.family)
        except ValidationError as error:
            raise ValueError(
                f"the section family does not fit the entry {self.entry}: {error}"
            ) from error

    def trains_like(self, other: "Recipe") -> bool:
        """Says whether another recipe gives the same training.

        Unlike `==`, it finds no difference between a field of the section `family` that is left
        out and one that is given with its default value, nor between caches of images.

        Args:
            other: the other recipe.
        """
        common = {"family": {}, "cache": "none"}
        same = self.model_copy(update=common) == other.model_copy(update=common)
        return same and self.family_section() == other.family_section()


def recipe_names() -> list[str]:
    """Lists the names of the recipes that the package carries."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def find_recipe(entry: str, data: str, path: str | os.PathLike | None = None) -> Recipe:
    """Gives the recipe for an entry and a data set, or the one that is asked for.

    Args:
        entry: name of the network.
        data: name of the data set.
        path: path of a recipe file (.yaml), or the name of a recipe of the package. The default is
            the package's recipe called `{entry}_{data}`.

    Returns:
        The recipe, with the fields of its base filled in.

    Raises:
        FileNotFoundError: there is no such recipe; the message lists those of the package.
        ValueError: the file is not a valid recipe; the message says why.

    Example:
        >>> find_recipe("resnet20", "cifar10").epochs
        20
    """
    source = _place(str(path or f"{entry}_{data}"), Path())
    fields = _fields(source, ())
    try:
        recipe = Recipe.model_validate(fields)
        recipe.family_section()
    except ValueError as error:  # pydantic's ValidationError is a ValueError
        raise ValueError(f"{source} is not a valid recipe: {error}") from error
    return recipe


def _place(name: str, folder: Path) -> Path:
    """Gives the path of a recipe: a file in `folder`, or a recipe of the package by its name."""
    return folder / name if name.endswith(ENDINGS) else FOLDER / f"{name}.yaml"


def _fields(source: Path, readers: tuple[Path, ...]) -> dict[str, Any]:
    """Reads the fields of a recipe file, with those of its base.

    Args:
        source: the file.
        readers: the files whose base this one is, in the order in which they were read.
    """
    asked = f", which {readers[-1]} names as its base" if readers else ""
    if source.resolve() in [reader.resolve() for reader in readers]:
        chain = " -> ".join(str(path) for path in (*readers, source))
        raise ValueError(f"a recipe cannot be its own base: {chain}; remove one of these bases")
    if not source.is_file():
        raise FileNotFoundError(
            f"no recipe {source.name}{asked}; there are {', '.join(recipe_names())}, or give a "
            "file of your own (.yaml)"
        )
    try:
        fields = yaml.safe_load(source.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{source} is not a valid recipe: {error}") from error
    if not isinstance(fields, dict):
        raise ValueError(
            f"{source} is not a valid recipe: it holds no fields, such as `epochs: 20`"
        )
    if "base" not in fields:
        return fields
    base = _place(str(fields.pop("base")), source.parent)
    return {**_fields(base, (*readers, source)), **fields}


def recorded_recipe(file: str | os.PathLike) -> Recipe:
    """Reads the `recipe.json` of a run folder, also of a run of an earlier version.

    Earlier versions had the fields of every family beside the common fields, for every entry. Here
    the fields of the entry's own family move into the section `family`. Fields of other families
    are dropped if they have their default values, since they have no effect.

    Args:
        file: path of the `recipe.json`.

    Returns:
        The recipe.

    Raises:
        ValueError: the file is not a recipe, or it has a field that no family knows.
    """
    return recipe_of_fields(json.loads(Path(file).read_text()), str(file))


def recipe_of_fields(fields: Mapping[str, Any], source: str) -> Recipe:
    """Makes a recipe of the recorded fields of one, see `recorded_recipe`.

    Args:
        fields: the fields.
        source: where they stand, for the message.

    Returns:
        The recipe.

    Raises:
        ValueError: they are no recipe, or there is a field that no family knows.
    """
    fields = dict(fields)
    moved = {name: fields.pop(name) for name in {*fields} - {*Recipe.model_fields}}
    if moved:
        sections = {resolved(entry.recipe_section) for entry in ENTRIES.values()} - {None}
        known = {name: field for s in sections for name, field in s.model_fields.items()}
        section = resolved(find(fields.get("entry", "")).recipe_section)
        own = section.model_fields if section else {}
        fields["family"] = {**fields.get("family", {})}
        for name, value in moved.items():
            if name in own:
                fields["family"][name] = value
            elif name not in known or value != known[name].get_default():
                fields[name] = value  # the validation refuses it by its name
    try:
        recipe = Recipe.model_validate(fields)
        recipe.family_section()
    except ValueError as error:
        raise ValueError(f"{source} is not a valid recipe: {error}") from error
    return recipe
