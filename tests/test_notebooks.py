"""The notebooks in docs/notebooks/ run from start to end and are stored without outputs."""

import json
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_the_page_names_every_notebook():
    page = (DOCS / "notebooks.md").read_text()
    assert len(NOTEBOOKS) == 2
    assert [path.name for path in NOTEBOOKS if f"docs/notebooks/{path.name}" not in page] == []


@each_notebook
def test_a_notebook_is_stored_without_outputs(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert [cell["outputs"] for cell in cells if cell["outputs"]] == []
    assert {cell["execution_count"] for cell in cells} == {None}


@pytest.mark.slow
@each_notebook
def test_a_notebook_runs_and_leaves_no_file(path, tmp_path, monkeypatch):
    reason = "executing notebooks needs nbclient and ipykernel: pip install -e '.[test]'"
    nbclient = pytest.importorskip("nbclient", reason=reason)
    nbformat = pytest.importorskip("nbformat", reason=reason)
    pytest.importorskip("ipykernel", reason=reason)
    folders = {
        # Where the notebook runs, where its temporary folder lies, and what Jupyter keeps.
        name: tmp_path / name
        for name in ("work", "temporary", "ipython", "runtime")
    }
    for folder in folders.values():
        folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folders["temporary"]))
    monkeypatch.setenv("IPYTHONDIR", str(folders["ipython"]))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folders["runtime"]))
    monkeypatch.setenv("KERAS_DYNNETS_OFFLINE", "1")
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=600,
        startup_timeout=180,
        kernel_name="python3",
        resources={"metadata": {"path": str(folders["work"])}},
    )
    client.execute()  # raises what a cell raises
    assert [cell for cell in notebook.cells if "image/png" in str(cell.get("outputs"))]
    assert list(folders["work"].iterdir()) == []
    written = [
        file for file in folders["temporary"].rglob("*") if file.suffix in (".tflite", ".onnx")
    ]
    assert written == []
