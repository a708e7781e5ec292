"""The README and the pages in docs/: their code runs, links lead somewhere, figures are small."""

import re
from pathlib import Path

import pytest

from keras_dynnets.core import registry

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text()
RUNNABLE = [
    "index.md",
    "converting.md",
    "exporting.md",
    "adding-a-family.md",
    "families/dmnn.md",
    "families/cnsn.md",
    "families/tissue.md",
    "families/puppet.md",
]


def blocks(text, language="python"):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def run(block, place, names):
    exec(compile(block, place, "exec"), names)


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


@pytest.mark.slow
def test_a_photo_in_a_label_out(capsys):
    (block,) = [b for b in blocks(README) if "photo(" in b]
    assert len(block.splitlines()) == 6
    run(block, "README.md", {})
    assert capsys.readouterr().out.split()[-1] == "cat"


def test_the_readme_names_the_two_commands():
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_links_of_the_readme():
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert links
    for link in links:
        assert link.startswith("https://") or (ROOT / link).is_file(), link


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNABLE)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = dict(registry.ENTRIES)
    names = {"__name__": "page"}
    try:
        for block in blocks((DOCS / page).read_text()):
            run(block, page, names)
    finally:
        registry.ENTRIES.clear()
        registry.ENTRIES.update(before)


def test_figures_are_small():
    figures = list((DOCS / "figures").glob("*.svg"))
    assert figures
    for figure in figures:
        assert figure.stat().st_size < 60_000, figure.name
