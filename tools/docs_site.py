"""What mkdocs needs to build the site: a hook and an extension of griffe.

Pages outside docs/ that a page links to are in the site, too, under
repository/. Docstrings are turned from SpeechBrain's dialect and
reStructuredText into numpy's and Markdown.
"""

import os
import re
import textwrap
from pathlib import Path

import griffe
from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")
SECTIONS = {"Arguments": "Parameters", "Example": "Examples"}
UNTYPED = re.compile(r"^(\w+(?:, \w+)+)\n((?: +.*\n)+)", re.MULTILINE)
DISPLAY = re.compile(r"^\.\. math::(.*\n(?:\n| +.*\n)*)", re.MULTILINE)


def on_files(files, config):
    """Add what pages link to outside docs/, and what that links to."""
    found = [Path(file.abs_src_path) for file in files.documentation_pages()]
    for page in found:  # grows
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            path = Path(os.path.normpath(page.parent / link))
            outside = path.is_file() and not path.is_relative_to(ROOT / "docs")
            if outside and not files.get_file_from_path(_place(path)):
                source = {"abs_src_path": str(path)}
                files.append(File.generated(config, _place(path), **source))
                found += [path] if path.suffix == ".md" else []
    return files


def on_page_markdown(markdown, page, config, files):
    """Point links at the places that files have in the site."""
    here = Path(page.file.abs_src_path).parent

    def move(match):
        path = Path(os.path.normpath(here / match[1]))
        start = os.path.dirname(page.file.src_uri)
        return os.path.relpath(_place(path), start)

    return LINK.sub(move, markdown)


def _place(path):
    """The place of a file of this checkout in the site."""
    if path.is_relative_to(ROOT / "docs"):
        return path.relative_to(ROOT / "docs").as_posix()
    return f"repository/{path.relative_to(ROOT).as_posix()}"


class Dialect(griffe.Extension):
    """Turns docstrings into what griffe and Markdown read."""

    def on_object(self, *, obj, **_):
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = to_markdown(obj.docstring.value)


def to_markdown(text):
    """A docstring in SpeechBrain's dialect → numpy's sections, Markdown."""
    for name, numpys in SECTIONS.items():
        text = re.sub(rf"^{name}(?=\n---)", numpys, text, flags=re.MULTILINE)
    text = UNTYPED.sub(_one_by_one, f"{text}\n")
    text = DISPLAY.sub(_display, text)
    text = re.sub(r":math:`([^`]+)`", lambda m: convert(m[1]), text)
    text = re.sub(r"(^|\s)::$", "", text, flags=re.MULTILINE)  # code follows
    return re.sub(r"::$", ":", text, flags=re.MULTILINE)


def _one_by_one(match):
    """Arguments described together, for which griffe takes one type."""
    names = match[1].split(", ")
    return "".join(f"{name}\n{match[2]}" for name in names)


def _display(match):
    """A block of formulas as MathML, which browsers draw without a script."""
    latex = textwrap.dedent(match[1]).replace(r"\mathrm", r"\text").strip()
    if "&" in latex:
        latex = rf"\begin{{align*}}{latex}\end{{align*}}"
    return convert(latex, display="block") + "\n\n"
