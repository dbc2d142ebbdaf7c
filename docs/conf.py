"""How the docs are built; `make docs` runs it with warnings as errors."""

import html
import re
from typing import Any

import click
from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.application import Sphinx
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.util.logging import getLogger

from dynamo.cli import cli
from dynamo.version import __version__

logger = getLogger(__name__)

project = "DYNAMO"
author = "The DYNAMO maintainers"
copyright = "2026, The DYNAMO maintainers"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["deflist", "dollarmath", "attrs_inline"]
myst_heading_anchors = 3
# The benchmarks and the changelog are read on their own too; an attribute `names` may have namesakes.
suppress_warnings = ["myst.header", "ref.python"]

html_theme = "furo"
html_title = "DYNAMO"
html_static_path = ["_static"]
html_css_files = ["dynamo.css"]
html_show_sourcelink = False
html_math_renderer = "mathml"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_attr_annotations = False  # the signature has them
toc_object_entries_show_parents = "hide"


def write_math(translator: Any, node: nodes.Element) -> None:
    """An equation as MathML, which browsers show by themselves: no script, and nothing is fetched."""
    is_block = isinstance(node, nodes.math_block)
    try:
        made = latex2mathml.tex2mathml(node.astext(), as_block=is_block)
    except latex2mathml.MathError as error:
        logger.warning("cannot write this equation: %s", error, location=node)
        made = html.escape(node.astext())
    translator.body.append(f'<div class="equation">{made}</div>' if is_block else made)
    raise nodes.SkipNode


def options_of(command: click.Command, context: click.Context) -> str:
    """The options of a command as a Markdown definition list."""
    options = (
        part for part in command.get_params(context) if isinstance(part, click.Option) and "--help" not in part.opts
    )
    records = (option.get_help_record(context) for option in options)
    return "\n\n".join(f"`{flags}`\n: {help}" for flags, help in filter(None, records))


def as_text(help: str | None) -> str:
    """The help of a command as Markdown: paragraphs without click's indentation."""
    paragraphs = (help or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs).replace("*", r"\*")


def describe(command: click.Command, name: str, parent: click.Context | None, depth: int) -> str:
    """A section for a command, and one for each command below it."""
    context = command.context_class(command, info_name=name, parent=parent)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts = [f"{'#' * depth} {context.command_path}", as_text(command.help), f"```text\n{usage}\n```"]
    parts.append(options_of(command, context))
    if isinstance(command, click.Group):
        below = ((other, command.get_command(context, other)) for other in command.list_commands(context))
        parts += [describe(found, other, context, depth + 1) for other, found in below if found is not None]
    return "\n\n".join(parts)


def write_commands(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put what `--help` says of every command into the page of the commands."""
    if docname == "commands":
        source[0] = source[0].replace("% commands", describe(cli, "dynamo", None, 2))


def shorten(app: Sphinx, what: str, name: str, thing: object, options: object, arguments: str, returned: str) -> Any:
    """A signature without the types of numbers in arrays: docstrings give shapes."""
    texts = (
        re.sub(r"ndarray\[tuple\[Any, \.\.\.\], dtype\[[^\]]*\]\]", "ndarray", text or "")
        for text in (arguments, returned)
    )
    return tuple(text or None for text in texts)


def as_written(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Let |x| be an absolute value, and what follows an exception in *Raises* belong to it, indented or not."""
    raises = False
    for number, line in enumerate(lines):
        raises = line == "Raises:" or (raises and (not line or line.startswith(" ")))
        if raises and line.strip() and line != "Raises:" and not re.match(r" +\w+: ", line):
            line = "    " + line
        parts = line.split("``")
        lines[number] = "``".join(part if n % 2 else part.replace("|", r"\|") for n, part in enumerate(parts))


def parse_property(self: GoogleDocstring) -> list[str]:
    """Read the docstring of a property as that of a method: napoleon takes "A digest: ..." for a type."""
    self._what = "method"
    self._parse()
    return []


def setup(app: Sphinx) -> None:
    """Connect the above."""
    GoogleDocstring._parse_attribute_docstring = parse_property
    app.add_html_math_renderer("mathml", (write_math, None), (write_math, None))
    app.connect("source-read", write_commands)
    app.connect("autodoc-process-docstring", as_written, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", shorten)
