"""The rules of the house, read from the source: nothing is imported here."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "qieemo_sb"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Arrows run one way. A part of STACK may import the parts before it; AROUND
# knows nothing of models; everything else is ground, which all may import and
# which imports but ground. "" is the face, qieemo_sb itself.
STACK = [
    "encoders",
    "lobes",
    "adaptation",
    "model",
    "bundle",
    "reader",
    "export",
    "inference",
]
AROUND = {"corpora", "scoring", "plots"}
JOINS_ALL = {"", "cli", "evidence"}

AMBIENT = {
    "os.environ",
    "os.getenv",
    "sys.argv",
    "random.seed",
    "np.random.seed",
    "torch.manual_seed",
    "torch.set_default_dtype",
    "torch.set_num_threads",
    "matplotlib.pyplot",
}

every_module = pytest.mark.parametrize(
    "path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix()
)


def part_of(path):
    """``frames`` for frames.py, ``lobes`` for lobes/mmf.py."""
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if part == "__init__" else part


PARTS = {part_of(path) for path in MODULES}


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def names_imported(tree):
    """``a.b`` for ``import a.b`` and for ``from a import b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts_imported(tree):
    for name in names_imported(tree):
        top, _, rest = f"{name}.".partition(".")
        if top == "qieemo_sb":
            part = rest.partition(".")[0]
            yield part if part in PARTS else ""


def allowed(part):
    """The parts that a part may import."""
    if part in JOINS_ALL:
        return PARTS
    ground = PARTS - set(STACK) - AROUND - JOINS_ALL
    below = STACK[: STACK.index(part)] if part in STACK else []
    return ground | {part, *below}


def public_functions(tree):
    """Functions and methods without an underscore, with their class."""
    for node in tree.body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        owner = node if isinstance(node, ast.ClassDef) else None
        for member in members:
            if not isinstance(member, ast.FunctionDef):
                continue
            if not re.match("_(?!_init__)", member.name):
                yield owner, member


def untyped(owner, function):
    """Arguments with neither an annotation nor a line in the docstring."""
    docs = [ast.get_docstring(x) or "" for x in (owner, function) if x]
    args = function.args
    for arg in [*args.posonlyargs, *args.args, *args.kwonlyargs]:
        line = rf"^\*?{arg.arg}\b.* : "
        documented = any(re.search(line, doc, re.MULTILINE) for doc in docs)
        if arg.arg not in ("self", "cls") and not arg.annotation:
            if not documented:
                yield f"{function.name}({arg.arg}), line {function.lineno}"


@every_module
def test_arrows_run_one_way(path):
    wrong = set(parts_imported(parse(path))) - allowed(part_of(path))
    assert not wrong, f"{part_of(path)} may not import {sorted(wrong)}"


@every_module
def test_configuration_arrives_as_arguments(path):
    if part_of(path) == "cli":
        return
    tree = parse(path)
    names = {ast.unparse(x) for x in ast.walk(tree) if hasattr(x, "attr")}
    names.update(names_imported(tree))
    assert not names & AMBIENT
    assert not [x for x in ast.walk(tree) if isinstance(x, ast.Global)]


@every_module
def test_every_argument_of_a_public_function_says_its_type(path):
    functions = public_functions(parse(path))
    assert [x for f in functions for x in untyped(*f)] == []


@pytest.mark.parametrize("kind", ["*.py", "hparams/*.yaml"])
def test_what_recipes_share_is_a_link_and_no_copy(kind):
    found = (PACKAGE.parent / "recipes").glob(f"*/qieemo/{kind}")
    own = [p for p in found if not p.is_symlink()]
    texts = [p.read_text(encoding="utf-8") for p in own]
    assert own and len(set(texts)) == len(texts)


def test_the_face_offers_what_it_promises():
    text = (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    for name in ("EncoderClassifier", "Qieemo", "__version__"):
        assert name in text


@pytest.mark.parametrize(
    ("source", "part", "wrong"),
    [
        ("from qieemo_sb.model import Qieemo", "encoders", {"model"})(
            "import qieemo_sb.encoders.base", "scoring", {"encoders"}
        ),
        ("from qieemo_sb import lobes", "corpora", {"lobes"})(
            "from qieemo_sb import Qieemo", "lobes", {""}
        )("from qieemo_sb.frames import FRAME_HOP", "encoders", set()),
    ],
)
def test_a_wrong_arrow_is_seen(source, part, wrong, monkeypatch):
    parts = {"", "frames", *STACK, *AROUND}
    monkeypatch.setitem(globals(), "PARTS", parts)
    assert set(parts_imported(ast.parse(source))) - allowed(part) == wrong
