"""What the published weights reach for their work and their bytes, beside the papers."""

from dataclasses import dataclass

from keras_dynnets import zoo
from keras_dynnets.profile.count import count
from keras_dynnets.profile.picture import BLUE, RED, WIDTH, write_picture


@dataclass(frozen=True)
class Point:
    """A network's accuracy in [0, 1]; MACs an image and stored bytes where they are known."""

    name: str
    accuracy: float
    macs: float | None
    bytes: float | None


def _printed(name, accuracy, macs, params):
    return Point(name, accuracy / 100, macs, params and 4 * params)


# As printed; FLOPs of arXiv 2205.01508 as half as many MACs. Bytes are those of the parameters in float32.
PAPERS = {
    "cifar10": (
        _printed("CNSN base", 92.67, 0.314e9, 14.78e6),
        _printed("CNSN A", 91.15, 0.275e9, None),
        _printed("CNSN B", 77.38, 0.124e9, None),
        _printed("Tissue VGG-16", 92.82, 78.5e6, 4.04e6),
        _printed("Tissue ResNet-18 r", 94.50, 452e6, 10.11e6),
        _printed("Tissue MobileNetV2", 91.14, 48.5e6, 1.67e6),
        Point("Puppet-CNN", 0.7251, None, 1.08e6),
    ),
    "mnist": (
        _printed("Tissue MLP", 91.95, 15e3, 0.02e6),
        _printed("Tissue LeNet, smallest", 98.3, 0.36e6, 1.4e3),
        _printed("Tissue LeNet, largest", 98.7, 0.595e6, 2.3e3),
    ),
}


def published_points(records):
    """Points of published weights by data set; of a CNSN one for each of its models, the bytes at the base."""
    points = {}
    for r in records:
        found = points.setdefault(r.recipe["data"], [])
        name = r.entry if r.tag == r.recipe["data"] else f"{r.entry} {r.tag.removeprefix(r.recipe['data'] + '_')}"
        found.append(Point(name, r.metrics["accuracy"], r.macs_mean, r.bytes))
        others = {k: v for k, v in r.metrics.get("sub_models", {}).items() if k != "base"}
        if others:
            model = zoo.load(r.entry, None, len(r.classes), r.input_shape, **r.options)
            found += [Point(f"{name} {k}", v, count(model.part(k)).macs, None) for k, v in others.items()]
    return points


def shelf_picture(records, path):
    """Accuracy against mean MACs and against stored bytes, a row for every data set.

    Args:
        records: published weights. path: the PNG file to write; its folder is made, an older file replaced whole.

    Returns:
        The path, a `Path`.

    Raises:
        ValueError: no records, `path` does not end in .png.
    """
    points = published_points(records)
    if not points:
        raise ValueError("nothing is published, so there is nothing to draw")

    def draw(figure):
        figure.set_size_inches(WIDTH, 0.6 + 3.8 * len(points))
        grid = figure.subplots(len(points), 3, squeeze=False, width_ratios=(3, 3, 2))
        for (work, stored, key), (data, ours) in zip(grid, points.items(), strict=True):
            theirs = PAPERS.get(data, ())
            named = [(f"{i}", p, BLUE, "o") for i, p in enumerate(ours, 1)]
            named += [(chr(ord("a") + i), p, RED, "^") for i, p in enumerate(theirs)]
            for axes, quantity, label in ((work, "macs", "MACs an image, mean"), (stored, "bytes", "bytes: our files, the papers' parameters x 4")):
                _scatter(axes, named, quantity)
                axes.set_xlabel(label)
            stored.sharey(work)
            work.set_ylabel("top-1 accuracy (%)")
            work.set_title(data, loc="left")
            key.set_axis_off()
            for i, (mark, point, color, _) in enumerate(named):
                key.text(-0.1, 1 - min(0.058, 1 / len(named)) * i, f"{mark}  {point.name}", color=color, fontsize=7, va="top")
        for color, marker, label in ((BLUE, "o", "on the shelf"), (RED, "^", "the papers'")):
            grid[0][0].scatter([], [], 22, color, marker, label=label)
        figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)

    return write_picture(draw, path)


def _scatter(axes, named, quantity):
    for mark, point, color, marker in named:
        x, y = getattr(point, quantity), 100 * point.accuracy
        if x:
            axes.scatter(x, y, 22, color, marker, zorder=3)
            axes.annotate(mark, (x, y), (4, 2), textcoords="offset points", fontsize=8, color=color)
    axes.set_xscale("log")
    axes.margins(x=0.15, y=0.1)
    axes.grid(color="#e4e6e8")
    axes.set_axisbelow(True)
