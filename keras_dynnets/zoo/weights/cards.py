"""Writes what is published from the records: a card per model, a table and a CSV file."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from keras_dynnets.core.registry import find
from keras_dynnets.zoo.weights.records import WeightsRecord, read_index

BEGIN = "<!-- weights: `keras-dynnets weights cards` writes this table -->"
END = "<!-- end of weights -->"


def card_texts(folder: Path) -> dict[Path, str]:
    """Generates the files that describe published weights.

    They are `results.csv`, a `README.md` per model with its pictures, and the table in
    `docs/published.md` beside the folder, if that page has the two marker lines.

    Args:
        folder: the published folder, with `index.json`.

    Returns:
        The text of each file, by its path. Nothing is written.

    Raises:
        ValueError: `docs/published.md` has only one marker, or has them in the wrong order.
    """
    records = read_index(folder)
    texts = {folder / "results.csv": _results(records)}
    for entry in sorted({r.entry for r in records}):
        own = [_card(r) for r in records if r.entry == entry]
        pictures = [
            f"![{p.stem.replace('_', ' ')}]({p.name})\n"
            for p in sorted((folder / entry).glob("*.png"))
        ]
        texts[folder / entry / "README.md"] = "\n".join([*own, *pictures])
    page = folder.parent / "docs" / "published.md"
    if page.is_file() and (BEGIN in (text := page.read_text()) or END in text):
        before, begin, rest = text.partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise ValueError(f"{page} needs both lines, in this order: {BEGIN} and {END}")
        texts[page] = f"{before}{BEGIN}\n{_table(records)}{END}{after}"
    return texts


def write_cards(folder: Path) -> list[Path]:
    """Writes the files that `card_texts` generates.

    Args:
        folder: the published folder, with `index.json`.

    Returns:
        Paths of the files that changed.

    Raises:
        ValueError: see `card_texts`.
    """
    changed = []
    for path, text in card_texts(folder).items():
        if not path.is_file() or path.read_text() != text:
            write(path, text)
            changed.append(path)
    return changed


def write(path: Path, text: str) -> None:
    """Writes a text file in one step: a reader sees the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text)
    os.replace(draft, path)


def _card(record: WeightsRecord) -> str:
    entry, recipe = find(record.entry), record.recipe
    lines = [
        f"# {record.entry}, {record.tag}",
        "",
        f"`zoo.load({record.entry!r}, weights={record.tag!r})`: {entry.family}, "
        f"{_paper(entry.paper)}, {record.params:,} parameters, at most {record.macs:,} MACs per "
        "image.",
        "",
        "| | |",
        "|---|---|",
        f"| accuracy | {record.metrics['accuracy']:.2%} top-1 on the "
        f"{record.metrics['images']:,} test images |",
    ]
    if "macs_mean" in record.metrics:
        share = f"{record.macs_mean / record.macs:.1%} of the maximum"
        lines.append(f"| mean MACs per image | {_millions(record.macs_mean)}, {share} |")
    if "execution_rate" in record.metrics:
        lines.append(f"| execution rate | {record.metrics['execution_rate']:.1%} of sub-blocks |")
    for name, accuracy in list(record.metrics.get("sub_models", {}).items())[1:]:
        lines.append(f"| accuracy of {name} | {accuracy:.2%} |")
    trained = f"{recipe['epochs']} epochs, batch {recipe['batch_size']}, seed {recipe['seed']}"
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    lines += [
        f"| evaluated by | `{record.evaluate}` |",
        f"| trained by | `{record.train}`: {trained} |",
        f"| data | {recipe['data']}; {recipe['validation']:,} training images were set aside for "
        "validation |",
        "| choice of weights | those of the last epoch; the test accuracy was not used to choose |",
        f"| source of the data | {record.data_source} |",
        f"| licence of the weights | {record.license} |",
        f"| training time | {record.seconds:,.0f} s on {record.hardware} |",
        f"| versions | {versions} |",
        f"| file | `{record.file}`, {record.bytes:,} bytes, sha256 `{record.sha256}` |",
        "",
    ]
    return "\n".join(lines)


def _paper(identifier: str) -> str:
    return f"doi {identifier}" if identifier.startswith("10.") else f"arXiv {identifier}"


def _table(records: Sequence[WeightsRecord]) -> str:
    lines = [
        "| weights | data | top-1 | params | mean MACs per image | share of the maximum | file |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in records:
        lines.append(
            f'| `zoo.load("{r.entry}", weights="{r.tag}")` | {r.recipe["data"]} | '
            f"{r.metrics['accuracy']:.2%} | {r.params:,} | {_millions(r.macs_mean)} | "
            f"{r.macs_mean / r.macs:.1%} | `zoo/{r.entry}/{r.file}`, {r.bytes / 1e6:.2f} MB |"
        )
    return "\n".join(lines) + "\n"


def _millions(macs: float) -> str:
    return f"{macs / 1e6:.3f} M" if macs < 1e6 else f"{macs / 1e6:.2f} M"


def _results(records: Sequence[WeightsRecord]) -> str:
    """Returns the CSV file: a row per record."""
    columns = "entry tag data accuracy images params macs macs_mean seconds file bytes sha256"
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns.split())
    for r in records:
        metrics = r.metrics
        other = {"data": r.recipe["data"], "accuracy": metrics["accuracy"]}
        other["images"] = metrics["images"]
        table.writerow([other[c] if c in other else getattr(r, c) for c in columns.split()])
    return text.getvalue()
