"""JSON from strangers: read strictly, piece by piece, in bounded time, depth and memory.

Python's `json` keeps the last of two equal keys, accepts NaN and 1e999, exhausts its stack on 100,000 brackets, and
builds objects of twenty times the size of the text. A `Scanner` refuses all of that at the byte where it stands.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

from xpnet.errors import CheckpointError

# Possessive repeats (*+): they keep no way back, so a long string costs no memory to match.
_SPACE = re.compile(rb"[ \t\n\r]*+")
_STRING = re.compile(rb'"[^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+"', re.DOTALL)
_QUOTED_JSON = re.compile(rb'"[ !#-\[\]-~]*+(?:\\["\\][ !#-\[\]-~]*+)*+"')
_NUMBER = re.compile(rb"-?+(?:0|[1-9][0-9]*+)(\.[0-9]++)?+([eE][+-]?+[0-9]++)?+")
_LITERALS = {b"t": (b"true", True), b"f": (b"false", False), b"n": (b"null", None)}

MAX_NAME = 1024
"""Bytes that a name may have in UTF-8."""

_MAX_TEXT = 4096  # bytes of a string value
_MAX_DEPTH = 32
_MAX_DIGITS = 1000
_MAX_INTEGER = 2**63 - 1


class Scanner:
    """Reads JSON text from left to right; everything that is not as asked is a CheckpointError.

    Parameters
    ----------
    text : bytes
        The JSON text.
    where : str
        What the text is, for messages: `"'run.safetensors', header"`.
    start : int
        What to add to a position in `text` to get the position that messages name.
    budget : int
        Bytes of memory that `value` may use for the objects that it builds.
    """

    def __init__(self, text: bytes, where: str, start: int = 0, budget: int = 0) -> None:
        self.text = text
        self.where = where
        self.start = start
        self.budget = budget
        self.position = 0
        self._strings: dict[str, str] = {}

    def fail(self, reason: str, position: int | None = None) -> NoReturn:
        """Raise the CheckpointError that says where (here, if no position is given) and why."""
        at = self.start + (self.position if position is None else position)
        raise CheckpointError(f"{self.where}, byte {at}: {reason}; the file is damaged or not written by xpnet")

    def peek(self) -> bytes:
        """Skip white space and return the next byte without taking it; nothing at the end."""
        mark = self.text[self.position : self.position + 1]
        if mark > b" ":  # no white space, mostly
            return mark
        self.position = _SPACE.match(self.text, self.position).end()  # type: ignore[union-attr]
        return self.text[self.position : self.position + 1]

    def expect(self, mark: bytes) -> None:
        """Take the punctuation mark that must come next."""
        if self.peek() != mark:
            self.fail(f"expected {mark.decode()!r}, found {self._found()}")
        self.position += 1

    def end(self) -> None:
        """Check that nothing but white space is left."""
        if self.peek():
            self.fail(f"expected the end, found {self._found()}")

    def string(self, limit: int) -> str:
        """Take a string of at most `limit` bytes."""
        self.peek()
        begin = self.position
        match = _STRING.match(self.text, begin)
        if match is None:
            self.fail(f"expected a string, found {self._found()}")
        if match.end() - begin - 2 > limit:
            self.fail(f"a string of {match.end() - begin - 2} bytes; at most {limit} are accepted here")
        try:
            token = match.group().decode("utf-8")
            result = str(json.loads(token)) if "\\" in token else token[1:-1]
            result.encode("utf-8")  # half a surrogate pair, written as an escape, is no text
        except UnicodeDecodeError as error:
            self.fail("not UTF-8", begin + error.start)
        except UnicodeEncodeError:
            self.fail("half a surrogate pair in a string")
        except json.JSONDecodeError as error:
            self.fail(f"a string with a wrong escape: {error.msg}")
        self.position = match.end()
        return result

    def quoted_json(self, limit: int) -> bytes:
        """Take a string of at most `limit` bytes that holds JSON itself: plain ASCII, its quotes escaped."""
        self.peek()
        match = _QUOTED_JSON.match(self.text, self.position)
        if match is None:
            self.fail(f"expected JSON in a string, in plain ASCII, found {self._found()}")
        begin, end = match.start() + 1, match.end() - 1
        if end - begin > limit:
            self.fail(f"a string of {end - begin} bytes; at most {limit} are accepted here")
        self.position = match.end()
        # Backslashes stand in pairs, or before a quote: once the quotes are done only the pairs are left.
        return self.text[begin:end].replace(b'\\"', b'"').replace(b"\\\\", b"\\")

    def integer(self) -> int:
        """Take an integer that fits 64 bits."""
        self.peek()
        match = _NUMBER.match(self.text, self.position)
        if match is None or match.group(1) or match.group(2):
            self.fail(f"expected an integer, found {self._found()}")
        result = int(match.group()) if len(match.group()) <= 20 else _MAX_INTEGER + 1
        if not -_MAX_INTEGER <= result <= _MAX_INTEGER:
            self.fail(f"integer {self._found()} is out of range, at most 2^63 - 1 is accepted")
        self.position = match.end()
        return result

    def elements(self) -> Iterator[None]:
        """Take an array: yields at each element, which the caller takes."""
        self.expect(b"[")
        more = self.peek() != b"]"
        while more:
            yield
            more = self.peek() == b","
            self.position += more
        self.expect(b"]")

    def members(self) -> Iterator[tuple[str, int]]:
        """Take an object: yields each name and its position; the caller takes the value and looks for equal names."""
        self.expect(b"{")
        more = self.peek() != b"}"
        while more:
            self.peek()
            at = self.position
            name = self.string(MAX_NAME)
            self.expect(b":")
            yield name, at
            more = self.peek() == b","
            self.position += more
        self.expect(b"}")

    def value(self, depth: int = 0) -> Any:
        """Take any JSON value: dict, list, str, int, float, bool or None."""
        mark = self.peek()
        if mark in (b"{", b"["):
            if depth == _MAX_DEPTH:
                self.fail(f"nested deeper than {_MAX_DEPTH}")
            return self._object(depth) if mark == b"{" else self._array(depth)
        result: str | int | float | bool | None
        if mark == b'"':
            return self._shared(self.string(_MAX_TEXT))
        if mark in _LITERALS and self.text.startswith(_LITERALS[mark][0], self.position):
            word, result = _LITERALS[mark]
            self.position += len(word)
        else:
            result = self._number()
            self._charge(sys.getsizeof(result))
        return result

    def _object(self, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        size = 0
        for name, at in self.members():
            if name in result:
                self.fail(f"the name {name!r:.80} appears twice", at)
            result[self._shared(name)] = self.value(depth + 1)
            size = self._charge_growth(result, size)
        self._charge_growth(result, size)
        return result

    def _array(self, depth: int) -> list[Any]:
        result: list[Any] = []
        size = 0
        for _ in self.elements():
            result.append(self.value(depth + 1))
            size = self._charge_growth(result, size)
        self._charge_growth(result, size)
        return result

    def _shared(self, text: str) -> str:
        """Return one object for equal strings: descriptions repeat few names many times."""
        if text not in self._strings:
            self._charge(sys.getsizeof(text) + 100)  # 100: its place in the dictionary
            self._strings[text] = text
        return self._strings[text]

    def _number(self) -> int | float:
        match = _NUMBER.match(self.text, self.position)
        if match is None:
            self.fail(f"expected a value, found {self._found()}")
        token = match.group()
        if len(token) > _MAX_DIGITS:
            self.fail(f"a number of {len(token)} characters; at most {_MAX_DIGITS} are accepted")
        result = float(token) if match.group(1) or match.group(2) else int(token)
        if isinstance(result, float) and not math.isfinite(result):
            self.fail(f"the number {self._found()} is too large")
        self.position = match.end()
        return result

    def _charge(self, size: int) -> None:
        self.budget -= size
        if self.budget < 0:
            self.fail("more values than a checkpoint may have")

    def _charge_growth(self, container: Any, size: int) -> int:
        now = sys.getsizeof(container)
        if now > size:
            self._charge(now - size)
        return now

    def _found(self) -> str:
        piece = self.text[self.position : self.position + 20]
        return ascii(piece.decode("utf-8", "replace")) if piece else "the end"
