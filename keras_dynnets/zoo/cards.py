"""What is written about published weights, all of it from their records: cards, the README's table, a CSV file."""

import csv
import io
import os

from keras_dynnets.zoo.records import read_index
from keras_dynnets.zoo.registry import find

BEGIN, END = "<!-- weights: `keras-dynnets weights cards` writes this table -->", "<!-- end of weights -->"


def cards(shelf):
    """The files that tell of a shelf, as they should be.

    Args:
        shelf: the folder with `index.json`. The README beside it gets the table, if it has the two markers.

    Returns:
        A dict of paths to texts.

    Raises:
        ValueError: a README with one marker, or with them in the wrong order.
    """
    records = read_index(shelf)
    texts = {shelf / "results.csv": _results(records)}
    for entry in sorted({r.entry for r in records}):
        own = [_card(r) for r in records if r.entry == entry]
        pictures = [f"![{p.stem.replace('_', ' ')}]({p.name})\n" for p in sorted((shelf / entry).glob("*.png"))]
        texts[shelf / entry / "README.md"] = "\n".join([*own, *pictures])
    readme = shelf.parent / "README.md"
    if readme.is_file() and (BEGIN in (text := readme.read_text()) or END in text):
        before, begin, rest = text.partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise ValueError(f"{readme} needs both lines, in this order: {BEGIN} and {END}")
        texts[readme] = f"{before}{BEGIN}\n{_table(records)}{END}{after}"
    return texts


def write_cards(shelf):
    """Writes the files that `cards` gives; returns the paths of those that changed."""
    changed = []
    for path, text in cards(shelf).items():
        if not path.is_file() or path.read_text() != text:
            write(path, text)
            changed.append(path)
    return changed


def write(path, text):
    """Writes a file as a whole: who reads it meanwhile gets the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text)
    os.replace(draft, path)


def _card(record):
    entry, recipe = find(record.entry), record.recipe
    lines = [
        f"# {record.entry}, {record.tag}",
        "",
        f"`zoo.load({record.entry!r}, weights={record.tag!r})`: {entry.family}, {_paper(entry.paper)}, "
        f"{record.params:,} parameters, {record.macs:,} MACs an image with everything on.",
        "",
        "| | |",
        "|---|---|",
        f"| accuracy | {record.metrics['accuracy']:.2%} top-1 on the {record.metrics['images']:,} test images |",
    ]
    if "macs_mean" in record.metrics:
        share = f"{record.macs_mean / 1e6:.2f} M, {record.macs_mean / record.macs:.1%} of all on"
        lines.append(f"| MACs an image, mean | {share} |")
    if "execution_rate" in record.metrics:
        lines.append(f"| sub-blocks run | {record.metrics['execution_rate']:.1%} |")
    for name, accuracy in list(record.metrics.get("sub_models", {}).items())[1:]:
        lines.append(f"| accuracy of {name} | {accuracy:.2%} |")
    trained = f"{recipe['epochs']} epochs, batch {recipe['batch_size']}, seed {recipe['seed']}"
    lines += [
        f"| evaluated by | `{record.evaluate}` |",
        f"| trained by | `{record.train}`: {trained} |",
        f"| data | {recipe['data']}, {recipe['validation']:,} training images set aside; "
        "the last epoch's weights, nothing picked by test accuracy |",
        f"| source of the data | {record.data_source} |",
        f"| licence of the weights | {record.license} |",
        f"| training time | {record.seconds:,.0f} s on {record.hardware} |",
        f"| versions | {', '.join(f'{name} {version}' for name, version in record.versions.items())} |",
        f"| file | `{record.file}`, {record.bytes:,} bytes, sha256 `{record.sha256}` |",
        "",
    ]
    return "\n".join(lines)


def _paper(identifier):
    return f"doi {identifier}" if identifier.startswith("10.") else f"arXiv {identifier}"


def _table(records):
    lines = [
        "| weights | data | top-1 | params | MACs an image, mean | of all on | file |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in records:
        lines.append(
            f'| `zoo.load("{r.entry}", weights="{r.tag}")` | {r.recipe["data"]} | {r.metrics["accuracy"]:.2%} | '
            f"{r.params:,} | {_millions(r.macs_mean)} | {r.macs_mean / r.macs:.1%} | "
            f"[{r.bytes / 1e6:.2f} MB](zoo/{r.entry}/{r.file}) |"
        )
    return "\n".join(lines) + "\n"


def _millions(macs):
    return f"{macs / 1e6:.3f} M" if macs < 1e6 else f"{macs / 1e6:.2f} M"


def _results(records):
    columns = "entry tag data accuracy images params macs macs_mean seconds file bytes sha256".split()
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    for r in records:
        other = {"data": r.recipe["data"], "accuracy": r.metrics["accuracy"], "images": r.metrics["images"]}
        table.writerow([other[c] if c in other else getattr(r, c) for c in columns])
    return text.getvalue()
