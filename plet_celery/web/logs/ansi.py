r"""Recorded text as HTML: colours become classes, nothing else that a terminal would act on remains.

A task's text is hostile. Only a fixed list of SGR codes has an effect (bold, dim, italic, underline, 16
colours, others as the nearest of these). Every other escape sequence is taken out; controls without a
sequence, bidi controls and what has no width are shown as `\x07` or `\u202e`. Of a progress line that
redrew itself with CR the last state stays. The time is linear in the text, and every tag is closed.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Sequence
from html import escape
from typing import Final

Segment = tuple[str, str]
"""(classes, text): a stretch of one look, its text not yet escaped for HTML."""

_C1_STRING: Final = "\x90\x98\x9d\x9e\x9f"
# A string's body ends where another begins, so that no character is looked at for two of them. Of one that
# is never closed only the introducer goes: a terminal would swallow the text, a log must not.
_SEQUENCE: Final = re.compile(
    r"(?:\x1b\[|\x9b)(?P<codes>[0-9:;]*+)m"
    r"|(?:\x1b\[|\x9b)[0-?]*+[ -/]*+[@-~]?"
    rf"|(?:\x1b[\]PX^_]|[{_C1_STRING}])(?:[^\x07\x1b\x9c\n{_C1_STRING}]*+(?:\x07|\x1b\\|\x9c))?"
    r"|\x1b[ -/]*+[0-~]"
    r"|[\x80-\x9f]"
)
# C0 but TAB and LF, DEL, soft hyphen, fillers, what has no width, bidi controls, tags, surrogates.
_HIDDEN: Final = re.compile(
    "([\x00-\x08\x0b-\x1f\x7f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+)"
)
_ESCAPED: Final = "plet-ansi-escape"
_STYLES: Final = {1: "bold", 2: "dim", 3: "italic", 4: "underline", 21: "underline"}
_UNSTYLES: Final = {22: ("bold", "dim"), 23: ("italic",), 24: ("underline",)}
# By hue in steps of 60°: red, yellow, green, cyan, blue, magenta.
_HUES: Final = (1, 3, 2, 6, 4, 5)
_CUBE: Final = (0, 95, 135, 175, 215, 255)
_CODES_MAX: Final = 64
"""Codes read of one sequence; a longer one is no honest one."""
_SEGMENTS_MAX: Final = 2000
"""Stretches of one text; the rest has no look. So HTML stays within a small multiple of its text."""
_MARKS_MAX: Final = 1000


def line_html(text: str, *, needle: str = "", plain: bool = False) -> str:
    """Return recorded text as HTML, safe inside an element that keeps white space; LF and TAB stay.

    Args:
        needle: plain text that is marked wherever it is seen, in any case.
        plain: without colours and styles.
    """
    if not needle and text.isprintable():
        return escape(text)
    found = segments(text, plain=plain)
    if needle:
        return _marked_html(found, needle)
    return "".join(_span(classes, part) for classes, part in found)


def visible(text: str) -> str:
    """Return what `line_html` shows of a text, without its look and not escaped for HTML."""
    return text if text.isprintable() else "".join(part for _, part in segments(text, plain=True))


def segments(text: str, *, plain: bool = False) -> list[Segment]:
    """Return the stretches of one look that recorded text consists of, none of them empty."""
    if text.isprintable():
        return [("", text)] if text else []
    if "\r" in text:
        text = _redrawn(text)
    found: list[Segment] = []
    pen, at = _Pen(), 0
    for sequence in _SEQUENCE.finditer(text):
        if len(found) >= _SEGMENTS_MAX:
            return [*found, ("", _all_written(_SEQUENCE.sub("", text[at:])))]
        _show(found, pen.classes, text[at : sequence.start()])
        at = sequence.end()
        codes = sequence["codes"]
        if codes is not None and not plain:
            pen.take(codes)
    _show(found, pen.classes, text[at:])
    return found


def _redrawn(text: str) -> str:
    """Return the text with each line as it was last drawn, when something was to be seen."""
    return "\n".join(
        next((part for part in reversed(line.split("\r")) if _SEQUENCE.sub("", part).strip()), "")
        if "\r" in line
        else line
        for line in text.split("\n")
    )


def _show(found: list[Segment], classes: str, text: str) -> None:
    """Add a stretch, with what cannot be seen in it written out."""
    if text.isprintable():
        if text:
            found.append((classes, text))
        return
    parts = _HIDDEN.split(text, max(1, _SEGMENTS_MAX - len(found)))
    parts[-1] = _all_written(parts[-1])
    for number, part in enumerate(parts):
        if part:
            found.append((_ESCAPED, "".join(map(_written, part))) if number % 2 else (classes, part))


def _all_written(text: str) -> str:
    return _HIDDEN.sub(lambda one: "".join(map(_written, one[0])), text)


def _written(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _span(classes: str, text: str) -> str:
    return f'<span class="{classes}">{escape(text)}</span>' if classes else escape(text)


def _marked_html(found: Sequence[Segment], needle: str) -> str:
    """Return segments as HTML, with every place marked that reads as `needle` across them."""
    whole = "".join(part for _, part in found)
    hits = itertools.islice(re.finditer(re.escape(needle), whole, re.IGNORECASE), _MARKS_MAX)
    hit, begin, html = next(hits, None), 0, []
    for classes, part in found:
        end, at, inner = begin + len(part), begin, []
        while hit is not None and hit.start() < end:
            start, stop = max(hit.start(), at), min(hit.end(), end)
            inner.append(escape(part[at - begin : start - begin]))
            inner.append(f'<mark class="plet-log-mark">{escape(part[start - begin : stop - begin])}</mark>')
            at = stop
            if hit.end() > end:
                break  # it goes on in the next segment
            hit = next(hits, None)
        inner.append(escape(part[at - begin :]))
        text = "".join(inner)
        html.append(f'<span class="{classes}">{text}</span>' if classes else text)
        begin = end
    return "".join(html)


class _Pen:
    """The look that SGR codes have set so far."""

    def __init__(self) -> None:
        self._styles: set[str] = set()
        self._colours: dict[str, int] = {}
        self.classes = ""

    def take(self, codes: str) -> None:
        """Apply the codes of one sequence, such as `1;31` or `38:5:208`; unknown ones do nothing."""
        todo = [part.split(":") for part in codes.split(";", _CODES_MAX)[:_CODES_MAX]]
        at = 0
        while at < len(todo):
            at += self._apply(todo, at)
        names = sorted(self._styles) + [
            f"{layer}-{colour}"
            for layer, colour in sorted(self._colours.items())
            # A text in the colour of its ground would be hidden.
            if not (layer == "fg" and self._colours.get("bg") == colour)
        ]
        self.classes = " ".join(f"plet-ansi-{name}" for name in names)

    def _apply(self, todo: list[list[str]], at: int) -> int:
        """Apply the code at `at`; return how many of `todo` it took."""
        code, *rest = map(_number, todo[at])
        if code in (38, 48):
            layer = "fg" if code == 38 else "bg"
            if rest:  # 38:5:208 or 38:2:[space]:r:g:b
                values = [rest[0], *rest[-3:]] if rest[0] == 2 else rest
                self._colour(layer, values)
                return 1
            after = [_number(one[0]) for one in todo[at + 1 : at + 5]]
            taken = {5: 2, 2: 4}.get(after[0] if after else -1, len(after))
            self._colour(layer, after[:taken])
            return 1 + taken
        if code == 0:
            self._styles.clear()
            self._colours.clear()
        elif code == 4 and rest == [0]:
            self._styles.discard("underline")
        elif code in _STYLES:
            self._styles.add(_STYLES[code])
        elif code in _UNSTYLES:
            self._styles.difference_update(_UNSTYLES[code])
        elif code in (39, 49):
            self._colours.pop("fg" if code == 39 else "bg", None)
        else:
            tens, colour = divmod(code, 10)
            if colour < 8 and tens in (3, 4, 9, 10):
                self._colours["fg" if tens in (3, 9) else "bg"] = colour + (8 if tens > 4 else 0)
        return 1

    def _colour(self, layer: str, values: list[int]) -> None:
        if len(values) == 2 and values[0] == 5 and values[1] < 256:
            self._colours[layer] = _of_256(values[1])
        elif len(values) == 4 and values[0] == 2 and max(values[1:]) < 256:
            self._colours[layer] = _of_rgb(*values[1:])


def _number(text: str) -> int:
    """Return a code; nothing is 0, and what is too long to be one is none that is known."""
    return (int(text) if len(text) < 5 else 9999) if text else 0


def _of_256(number: int) -> int:
    if number < 16:
        return number
    if number >= 232:
        grey = 8 + 10 * (number - 232)
        return _of_rgb(grey, grey, grey)
    red, rest = divmod(number - 16, 36)
    green, blue = divmod(rest, 6)
    return _of_rgb(_CUBE[red], _CUBE[green], _CUBE[blue])


@functools.lru_cache(maxsize=1024)
def _of_rgb(red: int, green: int, blue: int) -> int:
    """Return the one of the 16 colours that reads most like this: by hue first, then by brightness."""
    most, least = max(red, green, blue), min(red, green, blue)
    spread = most - least
    if spread * 4 <= most:  # too pale to have a hue
        return 0 if most < 64 else 8 if most < 150 else 7 if most < 235 else 15
    if most == red:
        hue = ((green - blue) / spread) % 6
    elif most == green:
        hue = (blue - red) / spread + 2
    else:
        hue = (red - green) / spread + 4
    return _HUES[round(hue) % 6] + (8 if most > 215 else 0)
