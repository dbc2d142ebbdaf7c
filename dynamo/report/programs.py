"""The programs and styles of the page, in the order in which they build on one another."""

from importlib.resources import files

from dynamo.report.markup import Markup

#: The map with its controls: in the report, in the explorer and in a notebook.
MAP = ("data.js", "colours.js", "camera.js", "map.js", "lasso.js", "place.js", "controls.js")

#: The whole page.
PAGE = (
    "page.js",
    *MAP,
    "network.js",
    "words.js",
    "paint.js",
    "answer.js",
    "play.js",
    "space.js",
    "table.js",
    "main.js",
)

#: The map in a notebook: the body of a function, of the notebook's element and of what it shares with Python.
NOTEBOOK = ("shadow.js", *MAP, "notebook.js")

#: The styles of the page and of the map in a notebook.
PAGE_STYLE, NOTEBOOK_STYLE = ("map.css", "style.css"), ("map.css", "notebook.css")


def own(*names: str, package: str = "dynamo.report") -> Markup:
    """Files of the page itself, one after the other.

    Args:
        names: of the files.
        package: in whose folder ``page`` they lie.
    """
    folder = files(package).joinpath("page")
    return Markup("\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names))
