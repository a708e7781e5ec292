"""The structure of the package and the rules that hold for all of its files.

They are the rules of CONTRIBUTING.md: which package may import which, no family named outside
`families`, one file for Keras's private names, and documentation of everything public.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import keras_dynnets

ROOT = Path(keras_dynnets.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# A module may import from its own package and from those before it.
ORDER = (
    "core",
    "layers",
    "baselines",
    "families",
    "zoo",
    "export",
    "measure",
    "training",
    "studies",
    "cli",
)
FAMILIES = sorted(path.parent.name for path in (ROOT / "families").glob("*/__init__.py"))
# Modules that only re-export, for users; no other module imports them.
THIN = ("data", "profile", *FAMILIES)
# A package without imports of the others; every module may import it.
INDEPENDENT = ("examples",)
# Packages for which all families are alike. `studies` and the thin modules name families.
GENERIC = ("core", "layers", "baselines", "zoo", "export", "measure", "training", "cli")
SPELLINGS = {"DMNN", "CNSN", "TissueNet", "Puppet-CNN"}  # of the papers

# Names of Keras and TensorFlow that are not public, for objects of which the package defines
# attributes of the same name. All others are found without a list.
PRIVATE = {
    "_aggregate_additional_loss",
    "_call_context_args",
    "_flatten_layers",
    "_functional",
    "_get_function",
    "_nodes_by_depth",
    "_outputs_struct",
    "_trainable_variables",
}

# Methods of Keras's classes. Where a class replaces them, Keras documents them.
KERAS_METHODS = {
    "build",
    "call",
    "compile",
    "compute_loss",
    "compute_mask",
    "compute_metrics",
    "compute_output_shape",
    "compute_output_spec",
    "convolution_op",
    "evaluate",
    "fit",
    "from_config",
    "get_build_config",
    "build_from_config",
    "get_config",
    "load_own_variables",
    "metrics",
    "predict",
    "reset_metrics",
    "save_own_variables",
    "set_model",
    "test_step",
    "train_step",
    *(f"on_{part}_{when}" for part in ("train", "test", "epoch") for when in ("begin", "end")),
    *(f"on_{part}_batch_{when}" for part in ("train", "test") for when in ("begin", "end")),
}


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def each_file(files):
    return pytest.mark.parametrize("file", files, ids=name_of)


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def package_of(file: Path) -> str:
    """The package or module at the top of the library that a file belongs to; "" for its own."""
    return file.relative_to(ROOT).parts[0].removesuffix(".py").removeprefix("__init__")


def dotted(node: ast.AST) -> str:
    """The text of a name with dots, such as "keras.layers.Layer"."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


# ---- families are named in their own packages


def public_classes(files: list[Path]) -> set[str]:
    nodes = (node for file in files for node in tree_of(file).body)
    return {n.name for n in nodes if isinstance(n, ast.ClassDef) and not n.name.startswith("_")}


@cache
def family_names() -> list[str]:
    """Names of families and of their public classes, but those that other packages use too."""
    own = public_classes([file for file in FILES if package_of(file) == "families"])
    others = public_classes([file for file in FILES if package_of(file) in GENERIC])
    return sorted({*FAMILIES, *SPELLINGS, *(own - others)})


@each_file([file for file in FILES if package_of(file) in GENERIC])
def test_no_family_is_named(file):
    named = re.compile(rf"\b({'|'.join(map(re.escape, family_names()))})\b")
    found = [
        f"line {number}: {match[0]}"
        for number, line in enumerate(file.read_text().splitlines(), 1)
        for match in named.finditer(line)
    ]
    assert not found


def test_the_names_of_families_are_found():
    assert {"dmnn", "cnsn", "tissue", "puppet", "GumbelGate", "PuppetCNN"} <= {*family_names()}


# ---- imports run one way


def nodes_that_run(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a tree but those that only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and dotted(child.test).endswith("TYPE_CHECKING"):
            yield from (n for other in child.orelse for n in (other, *nodes_that_run(other)))
        else:
            yield child
            yield from nodes_that_run(child)


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of every import from this library.

    Text such as "keras_dynnets.core.registry:find", which names an object for later, counts too.
    """
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in nodes_that_run(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports name the package in full"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and id(node) not in docstrings:
            text = node.value if isinstance(node.value, str) else ""
            names = [text] if re.fullmatch(r"keras_dynnets(\.\w+)+\.?(:\w+)?", text) else []
        for name in names:
            if name.startswith("keras_dynnets."):
                yield getattr(node, "lineno", 0), name.replace(":", ".")


def test_every_module_has_a_place():
    places = {package_of(file) for file in FILES}
    assert {"", *ORDER} <= places <= {"", *ORDER, *THIN, *INDEPENDENT}


@each_file([file for file in FILES if package_of(file) in THIN])
def test_thin_modules_only_reexport(file):
    docstring, *imports, names = tree_of(file).body
    assert isinstance(docstring, ast.Expr)
    assert isinstance(names, ast.Assign) and dotted(names.targets[0]) == "__all__"
    public = set()
    for node in imports:
        assert isinstance(node, ast.ImportFrom)
        public |= {alias.asname or alias.name for alias in node.names}
    assert {*ast.literal_eval(names.value)} == public


SOURCE = """
"keras_dynnets.cli.docstring"
from typing import TYPE_CHECKING
from keras_dynnets import zoo
if TYPE_CHECKING:
    from keras_dynnets.cli.hint import X
else:
    import keras_dynnets.core.other
def function():
    from keras_dynnets.training import run
    return "keras_dynnets.families.dmnn.model:DMNN", "see keras_dynnets.cli"
"""


def test_imports_are_found():
    assert {name for _, name in imported(ast.parse(SOURCE))} == {
        "keras_dynnets.zoo",
        "keras_dynnets.core.other",
        "keras_dynnets.training.run",
        "keras_dynnets.families.dmnn.model.DMNN",
    }


@each_file(FILES)
def test_imports_run_one_way(file):
    own = package_of(file)
    if own in THIN:
        return
    before = ORDER[: ORDER.index(own) + 1] if own in ORDER else ()
    if own == "":
        before = ("families",)  # registers their classes with Keras
    for line, name in imported(tree_of(file)):
        place = name.split(".")[1]
        if place in (*before, *INDEPENDENT, "__version__"):
            continue
        raise AssertionError(f"line {line} imports {name}: {place} does not come before {own}")


@each_file([file for file in FILES if package_of(file) == "families"])
def test_families_do_not_import_each_other(file):
    own = file.relative_to(ROOT / "families").parts[0]
    for line, name in imported(tree_of(file)):
        parts = name.split(".")
        other = parts[1] == "families" and len(parts) > 2 and parts[2] not in ("", own)
        assert not other, f"line {line} imports {name}"


# ---- no module has the name of a function in it


@each_file(FILES)
def test_no_module_has_the_name_of_an_object_in_it(file):
    """Otherwise `from package import name` gives sometimes the module, sometimes the object."""
    defined = {getattr(node, "name", "") for node in tree_of(file).body}
    own = file.parent.name if file.stem == "__init__" else file.stem
    assert own not in defined


@each_file([file for file in FILES if file.stem == "__init__"])
def test_no_package_binds_another_object_to_the_name_of_its_module(file):
    package = ".".join(file.parent.relative_to(ROOT.parent).parts)
    modules = {path.stem for path in file.parent.iterdir() if path.suffix in ("", ".py")}
    for node in tree_of(file).body:
        if isinstance(node, ast.ImportFrom) and node.module != package:
            names = {alias.asname or alias.name for alias in node.names}
            assert not names & modules, f"line {node.lineno}"


# ---- private names of Keras stand in one file


@cache
def own_private_names() -> set[str]:
    """Names with one underscore that the library itself defines."""
    names = set()
    for file in FILES:
        for node in ast.walk(tree_of(file)):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
    return names


@each_file([file for file in FILES if file.name != "keras_private.py"])
def test_private_names_of_keras_stand_in_one_file(file):
    found = []
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr):
            foreign = node.attr in PRIVATE or node.attr not in own_private_names()
            if foreign and dotted(node.value) not in ("self", "cls"):
                found.append(f"line {node.lineno}: {dotted(node)}")
        if isinstance(node, ast.Constant) and node.value in PRIVATE:
            found.append(f"line {node.lineno}: {node.value}")
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            private = ("keras.src", "tensorflow.python")
            found += [f"line {node.lineno}: {n}" for n in names if n.startswith(private)]
    assert not found, "use a function of core/keras_private.py"


# ---- everything public is documented and has type hints


@cache
def classes() -> dict[str, ast.ClassDef]:
    nodes = (node for file in FILES for node in ast.walk(tree_of(file)))
    return {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}


def bases(node: ast.ClassDef) -> list[ast.ClassDef]:
    """The classes of this library that a class derives from, nearest first."""
    near = [classes()[n] for b in node.bases if (n := dotted(b).split(".")[-1]) in classes()]
    near = [base for base in near if base is not node]
    return [c for base in near for c in (base, *bases(base))]


def derives_from_keras(node: ast.ClassDef) -> bool:
    names = [dotted(base) for cls in (node, *bases(node)) for base in cls.bases]
    return any(name.startswith("keras.") for name in names)


def public_members(
    node: ast.Module | ast.ClassDef,
) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    for member in node.body:
        if isinstance(member, (ast.FunctionDef, ast.ClassDef)) and member.name[0] != "_":
            yield member


def inherited(method: ast.FunctionDef, cls: ast.ClassDef) -> bool:
    """Whether a class of this library that `cls` derives from documents the method."""
    members = (member for base in bases(cls) for member in public_members(base))
    return any(m.name == method.name and ast.get_docstring(m) for m in members)


def missing(function: ast.FunctionDef, cls: ast.ClassDef | None) -> list[str]:
    """What the documentation of a public function or method lacks."""
    if cls and function.name in KERAS_METHODS and derives_from_keras(cls):
        return []
    decorators = [dotted(d) for d in function.decorator_list]
    setter = any(d.endswith((".setter", ".deleter")) for d in decorators)
    known = setter or (cls and inherited(function, cls))
    lacks = [] if known or ast.get_docstring(function) else ["docstring"]
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [a for a in (arguments.vararg, arguments.kwarg) if a]
    every = every[1:] if cls and "staticmethod" not in decorators else every
    lacks += [f"hint of {a.arg}" for a in every if a.annotation is None]
    if function.returns is None:
        lacks.append("hint of what it returns")
    return lacks


@each_file(FILES)
def test_everything_public_is_documented(file):
    tree, found = tree_of(file), []
    assert ast.get_docstring(tree), "the module has no docstring"
    for member in public_members(tree):
        if isinstance(member, ast.FunctionDef):
            lacks = missing(member, None)
            found += [f"{member.name}: {', '.join(lacks)}"] if lacks else []
            continue
        if not ast.get_docstring(member):
            found.append(f"{member.name}: docstring")
        for method in public_members(member):
            lacks = missing(method, member) if isinstance(method, ast.FunctionDef) else []
            found += [f"{member.name}.{method.name}: {', '.join(lacks)}"] if lacks else []
        functions = (node for node in member.body if isinstance(node, ast.FunctionDef))
        for method in (f for f in functions if f.name == "__init__"):
            hints = [m for m in missing(method, member) if m.startswith("hint of ")]
            hints = [h for h in hints if h not in ("hint of kwargs", "hint of what it returns")]
            found += [f"{member.name}.__init__: {', '.join(hints)}"] if hints else []
    assert not found
