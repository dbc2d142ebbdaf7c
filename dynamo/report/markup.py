"""Elements of a page. Text is escaped unless it is an element itself, so that no name or label can become one."""

from html import escape

from dynamo.contracts.errors import printable


class Markup(str):
    """A text that is markup already. Only :func:`element` and :func:`together` make it, and who reads the page's own
    files.
    """

    __slots__ = ()


#: Elements that have no content and no end.
_EMPTY = ("meta", "img", "input", "br")


def element(tag: str, *content: str, **attributes: str | bool) -> Markup:
    """An element with its content and its attributes. Names of attributes have ``_`` for ``-``, and may end in one;
    True stands for an attribute without a value, False leaves it out.

    Example:
        >>> from dynamo.report.markup import element
        >>> element("b", "<script>", title='"')
        '<b title="&quot;">&lt;script&gt;</b>'
    """
    written = "".join(
        f" {_name(name)}" if value is True else f' {_name(name)}="{_escaped(value)}"'
        for name, value in attributes.items()
        if value is not False
    )
    return Markup(f"<{tag}{written}>" + ("" if tag in _EMPTY else f"{together(*content)}</{tag}>"))


def together(*content: str) -> Markup:
    """Texts and elements, one after the other."""
    return Markup("".join(part if isinstance(part, Markup) else _escaped(part) for part in content))


def _escaped(text: str) -> str:
    """Without marks and quotes, and with its control characters, which could turn what follows, written out."""
    return escape(printable(text))


def _name(name: str) -> str:
    return name.rstrip("_").replace("_", "-") if name != "viewBox" else name
