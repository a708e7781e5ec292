"""The command line as a user types it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import helpers
import numpy as np
import pytest

import keras_dynnets
from keras_dynnets import zoo
from keras_dynnets.cli import measure
from keras_dynnets.core.registry import ENTRIES
from keras_dynnets.studies import demo


def test_list_takes_a_pattern(command):
    code, output = command("list", "dmnn50*")
    assert code == 0
    assert output.out.split() == ["dmnn50", "dmnn50_cifar", "dmnn50_n3", "dmnn50_n4"]


def test_info_shows_exact_counts(command):
    code, output = command("info", "resnet20")
    assert code == 0
    assert "272,474" in output.out and "40,813,184" in output.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("info", "dmn50"), "no model 'dmn50' in the zoo; did you mean dmnn50"),
        (("train", "dmnn20", "--data", "imagenet"), "no recipe dmnn20_imagenet.yaml; there are "),
        (("export", "dmnn20", "x.tflite", "--weights", "nope"), "dmnn20 has no weights 'nope'"),
        (("bench", "resnet20"), "resnet20 is a plain network; say what to time it against"),
        (("list", "nothing*"), "no network has a name like 'nothing*'"),
        (("evaluate", "dmnn20", "--weights", "nope"), "dmnn20 has no weights 'nope'"),
        (("export", "dmnn20", "x.tflite", "--option", "gates"), "an option is KEY=VALUE"),
        (("export", "resnet20", "x.tflite", "--option", "gates=true"), "has no option gates"),
        (
            ("evaluate", "dmnn20", "--data", "cifar11"),
            "data set 'cifar11' is unknown: it is digits, a name of TensorFlow Datasets",
        ),
    ],
)
def test_errors_are_one_line_that_helps(command, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, output = command(*arguments)
    assert code == 2
    assert message in output.err and "Traceback" not in output.err
    assert not list(tmp_path.iterdir())


def test_export_writes_a_checked_file(command, tiny_entry, tmp_path):
    model = helpers.settle(zoo.load("tiny", weights=None), helpers.images(8, 32))
    model.save_weights(tmp_path / "w.weights.h5")
    path = tmp_path / "m.onnx"
    code, output = command(
        "export", "tiny", path, "--format", "onnx", "--weights", tmp_path / "w.weights.h5"
    )
    assert code == 0
    assert json.loads(output.out)["max_abs_diff"] < 1e-3
    assert path.is_file() and (tmp_path / "m.onnx.json").is_file()


def test_bench_rows(command, tiny_entry, monkeypatch):
    monkeypatch.setattr("keras_dynnets.studies.dmnn.set_tensorflow_threads", lambda threads: None)
    code, output = command(
        "bench",
        "tiny",
        "--rates",
        "1.0",
        "0.5",
        "--runtimes",
        "litert,onnx",
        "--repeats",
        "1",
        "--json",
    )
    assert code == 0
    rows = json.loads(output.out)
    assert [(r["runtime"], r["batch"], r["rate"]) for r in rows] == [
        (runtime, batch, rate)
        for runtime, batch in (("litert", 1), ("onnx", 1), ("onnx", 16))
        for rate in (1.0, 0.5)
    ]
    for row in rows:
        assert row["max_abs_diff"] < 1e-3
        assert row["macs_share"] == 1 if row["rate"] == 1 else 0.3 < row["macs_share"] < 0.7
        assert row["ratio"] > 0


def test_bench_against(command, monkeypatch):
    monkeypatch.setattr(
        "keras_dynnets.measure.latency.set_tensorflow_threads", lambda threads: None
    )
    code, output = command("bench", "tissue_mlp", "--against", "mlp", "--repeats", "1", "--json")
    assert code == 0
    rows = json.loads(output.out)
    assert [r["runtime"] for r in rows] == ["tensorflow", "tensorflow_training", "litert", "onnx"]
    assert all(r["macs_share"] == 0.0259 and r["ratio"] > 0 and r["ms"] > 0 for r in rows)
    code, output = command("bench", "tissue_mlp", "--against", "resnet20")
    assert code == 2 and "compare networks that take the same" in output.err
    assert "runtime" not in output.out


def test_bench_detached(command, monkeypatch):
    monkeypatch.setattr("keras_dynnets.studies.cnsn.set_tensorflow_threads", lambda threads: None)
    monkeypatch.setitem(ENTRIES, "parts", helpers.PARTS_ENTRY)
    code, output = command(
        "bench",
        "parts",
        "--repeats",
        "1",
        "--runtimes",
        "tensorflow_training,litert",
        "--json",
    )
    assert code == 0
    found = json.loads(output.out)
    rows = [(r["name"], r["runtime"]) for r in found]
    assert rows == [(n, "tensorflow_training") for n in ("base", "sub1", "sub2", "whole")] + [
        (n, "litert") for n in ("base", "sub1", "sub2")
    ]
    assert all(r["ratio"] > 0 and r["ms"] > 0 and r["macs_share"] == 1 for r in found)


def test_evaluate_draws_accuracy_against_macs(command, tmp_path, monkeypatch):
    monkeypatch.setitem(ENTRIES, "parts", helpers.PARTS_ENTRY)
    weights = tmp_path / "parts.weights.h5"
    zoo.load("parts", weights=None).save_weights(weights)
    code, output = command(
        "evaluate", "parts", "--data", "digits", "--weights", weights, "--plots", tmp_path / "plots"
    )
    assert code == 0 and '"sub2"' in output.out
    assert (tmp_path / "plots" / "accuracy_against_macs.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_table_of_cnsn(command):
    code, output = command("table", "cnsn")
    rows = {line.split()[0]: " ".join(line.split()) for line in output.out.splitlines()}
    assert code == 0
    assert "14,728,266 313,201,664 0.314433 / 0.314" in rows["base"]
    assert "14,690,122 273,880,064 0.274537 / 0.275" in rows["sub1"]
    assert "13,039,882 123,474,944 0.123612 / 0.124" in rows["sub2"]


def test_table(command, monkeypatch):
    from keras_dynnets.studies import tissue

    # the rest takes seconds a row
    monkeypatch.setattr(tissue, "TISSUE", {"MNIST": tissue.TISSUE["MNIST"]})
    code, output = command("table", "tissue")
    assert code == 0
    rows = {line.split()[1]: line for line in output.out.splitlines() if line.startswith("MNIST")}
    assert "0.546 / 0.55" in rows["mlp"] and "0.0282 / 0.03" in rows["tissue_mlp"]
    code, output = command("table", "puppets")
    assert code == 2 and "there is no table 'puppets'" in output.err


def test_train_with_a_seed_and_a_recipe_by_name(command, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "keras_dynnets.training.run.train",
        lambda recipe, folder, data_dir, **shown: seen.update(recipe.model_dump()) or {},
    )
    code, _ = command(
        "train",
        "tissue_lenet5",
        "--data",
        "mnist",
        "--recipe",
        "tissue_lenet5_mnist_hybrid",
        "--seed",
        "7",
        "--epochs",
        "2",
    )
    assert code == 0
    assert (seen["seed"], seen["epochs"], seen["options"]["hidden"]) == (7, 2, [2, 3, 4])


def test_listed_rates_reach_the_option_parser():
    typed = ["bench", "dmnn20", "--rates", "1.0", "0.7", "--json", "3"]
    assert measure.listed_rates(typed) == [
        "bench",
        "dmnn20",
        "--rates",
        "1.0",
        "--rates",
        "0.7",
        "--json",
        "3",
    ]


@pytest.mark.slow
def test_demo_makes_its_table_files_and_plot(tiny_entry, tmp_path):
    said = []
    rows = demo.run(tmp_path / "made", epochs=1, say=said.append, name=tiny_entry)
    assert [row["runtime"] for row in rows] == ["Keras", "LiteRT", "ONNX Runtime", "SavedModel"]
    assert all(
        np.isclose(float(row["accuracy"]), float(rows[0]["accuracy"]), atol=0.004) for row in rows
    )
    assert all(float(row["largest difference"]) < 1e-3 for row in rows)
    made = {path.name for path in (tmp_path / "made").iterdir()}
    assert made == {"macs_histogram.png", "tiny_saved_model"} | {
        f"tiny{end}"
        for end in (".tflite", ".tflite.json", ".onnx", ".onnx.json", "_saved_model.json")
    }
    assert len(said) >= 8


def test_a_recipe_of_another_model_is_refused(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, output = command("train", "tissue_lenet5", "--recipe", "tissue_lenet5_mnist_hybrid")
    assert code == 2 and "trains tissue_lenet5 on mnist, not tissue_lenet5 on cifar10" in output.err
    assert not list(tmp_path.iterdir())


def test_a_network_with_gates_is_not_benched_against_another(command, monkeypatch):
    monkeypatch.setattr(
        "keras_dynnets.measure.latency.set_tensorflow_threads", lambda threads: None
    )
    code, output = command("bench", "dmnn20", "--against", "resnet20")
    assert code == 2 and "keras-dynnets bench dmnn20 times it at exact rates" in output.err


def test_json_of_a_table(command):
    code, output = command("table", "puppet", "--json")
    assert code == 0
    assert json.loads(output.out)["rows"][0]["C"] == "64"


def test_the_version(command):
    code, output = command("--version")
    assert (code, output.out) == (0, f"keras_dynnets {keras_dynnets.__version__}\n")


def test_a_fault_of_the_library_shows_where_it_is(command, monkeypatch):
    def broken(*arguments):
        return {}["missing"]

    monkeypatch.setattr("keras_dynnets.zoo.list_models", broken)
    code, output = command("list")
    assert code == 1
    assert "Traceback" in output.err and "This is a fault of keras_dynnets" in output.err


LIGHT = """
import sys
sys.argv = ["keras-dynnets", *{arguments!r}]
from keras_dynnets.cli import main
try:
    main()
finally:
    heavy = {{"keras", "tensorflow", "numpy", "matplotlib", "sklearn"}} & set(sys.modules)
    print("heavy:", sorted(heavy))
"""


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["train", "--help"], ["--version"]])
def test_quick_answers_import_nothing_heavy(arguments):
    code = LIGHT.format(arguments=arguments)
    assert helpers.run_python(code).splitlines()[-1] == "heavy: []"


def test_the_terminal_stays_quiet(tmp_path):
    """A command that loads TensorFlow and LiteRT prints none of their lines."""
    arguments = ["export", "tissue_mlp", str(tmp_path / "m.tflite")]
    done = subprocess.run(
        [Path(sys.executable).with_name("keras-dynnets"), *arguments],
        env={name: value for name, value in os.environ.items() if not name.startswith("TF_")},
        cwd=helpers.TESTS.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert json.loads(done.stdout)["format"] == "litert"


def test_progress_reaches_the_end(monkeypatch):
    from keras_dynnets.cli import console

    with console.progress_bar("work", 3) as progress:
        progress(3)
