"""The figure that all pictures are drawn on, and what makes a user's text fit to stand in one."""

from functools import cache
from typing import Any

from matplotlib import font_manager, rc_context, rcParams
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from dynamo.contracts.errors import printable

#: Characters that are shown of a user's text in a legend or at a mark, and of one with a line for itself; the middle
#: of a longer one is left out. TICK is for axes of small panels.
ENTRY, LINE, TICK = 40, 64, 20
#: Before an entry of a legend, since matplotlib keeps those out that begin with an underscore. It is taken away when
#: the picture is drawn.
_GUARD = "\N{WORD JOINER}"


class Picture(Figure):
    """A figure whose texts are drawn as they are written: never as formulas, in whatever script, with the fonts that
    this machine has.
    """

    def draw(self, renderer: Any) -> None:
        """Draw it."""
        with rc_context({"text.parse_math": False, "text.usetex": False, "font.family": _families()}):
            for text in self.findobj(Text):
                assert isinstance(text, Text)
                text.set_parse_math(False)
                text.set_usetex(False)
                text.set_fontfamily(_families())
                if text.get_text().startswith(_GUARD):
                    text.set_text(text.get_text().removeprefix(_GUARD))
            super().draw(renderer)


def as_text(value: object, longest: int = ENTRY) -> str:
    """A user's text for a picture: a name, a key or a value of the metadata.

    Characters that a terminal would obey, and those that no font on this machine has, are written out.
    """
    text = printable(str(value))
    text = "".join(character if _is_known(character) else _written_out(character) for character in text)
    if len(text) > longest:
        half = (longest - 1) // 2
        text = f"{text[:half]}…{text[-half:]}"
    return text


def as_entry(value: object, longest: int = ENTRY) -> str:
    """A user's text for an entry of a legend."""
    text = as_text(value, longest)
    return f"{_GUARD}{text}" if text.startswith("_") else text


def _written_out(character: str) -> str:
    return character.encode("unicode_escape").decode()


#: Families beside the chosen ones that hold characters which have been asked for.
_further: list[str] = []


def _families() -> list[str]:
    return [*(family for family in rcParams["font.family"] if family not in _further), *_further]


@cache
def _is_known(character: str) -> bool:
    """Whether a font here has the character; where the chosen ones lack it, one that has it joins them."""
    chosen = (font_manager.findfont(FontProperties(family=[family])) for family in _families())
    if any(ord(character) in _characters(path) for path in chosen):
        return True
    for entry in sorted(font_manager.fontManager.ttflist, key=lambda entry: (entry.style, entry.weight != 400)):
        if not entry.name.startswith(_NO_TEXT) and ord(character) in _characters(entry.fname):
            _further.append(entry.name)
            return True
    return False


#: Fonts of matplotlib's own for formulas and for boxes in the place of characters.
_NO_TEXT = ("cm", "STIX", "Last Resort")


@cache
def _characters(path: str) -> frozenset[int]:
    """The characters of a font; none of one that cannot be read, or is made of pictures."""
    try:
        font = FT2Font(path)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError):
        return frozenset()
