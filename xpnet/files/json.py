"""JSON from strangers: the standard library's parser, made strict, in bounded time, depth and memory.

Left to itself Python's `json` keeps the last of two equal names, accepts NaN and 1e999, exhausts its stack on 100,000
brackets, and builds objects of twenty times the size of the text.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

from xpnet.errors import CheckpointError

# A string that does not end goes to the end of the text, so that nothing is looked at twice.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)
_MAX_DEPTH = 32
_MAX_DIGITS = 1000


class Limits(NamedTuple):
    """How much of everything a text may have; together they bound the memory that its values take."""

    string: int
    """Characters of one string."""
    items: int
    """Values of one list or object."""
    tokens: int
    """Strings, brackets and commas altogether."""


def parse(data: bytes, where: str, limits: Limits, start: int = 0) -> Any:
    """Return what JSON text stands for: dict, list, str, int, finite float, bool or None.

    Parameters
    ----------
    data : bytes
        The text, in UTF-8.
    where : str
        What the text is, for messages: ``"'run.safetensors', description"``.
    limits : Limits
    start : int
        What to add to a position in `data` to get the position that messages name.

    Raises
    ------
    CheckpointError
        It is no JSON, has a name twice in one object, a number that is none or is out of range, or too much of
        anything.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        fail(f"{where}, byte {start + error.start}", "not UTF-8")

    def fail_at(position: int, reason: str) -> NoReturn:
        fail(f"{where}, byte {start + len(text[:position].encode())}", reason)

    _check_limits(text, limits, fail_at)
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
        )
    except json.JSONDecodeError as error:
        fail_at(error.pos, f"no JSON: {error.msg}")
    except ValueError as error:
        fail(where, str(error))


def fail(where: str, reason: str) -> NoReturn:
    """Raise the CheckpointError that says where and why."""
    raise CheckpointError(f"{where}: {reason}; the file is damaged or not written by xpnet")


def _check_limits(text: str, limits: Limits, fail_at: Callable[[int, str], NoReturn]) -> None:
    """Refuse too much of anything before a value is made of it, and strings that are no text."""
    items = [0]
    for k, token in enumerate(_TOKEN.finditer(text)):
        at, mark = token.start(), text[token.start()]
        if mark == '"':
            length = token.end() - at - 2
            if length > limits.string:
                fail_at(at, f"a string of {length} characters; at most {limits.string} are accepted here")
            if "\\u" in token[0]:
                try:
                    with suppress(json.JSONDecodeError):  # the parser says it better
                        json.loads(token[0]).encode()
                except UnicodeEncodeError:
                    fail_at(at, "half a surrogate pair in a string")
        elif mark in "[{":
            items.append(0)
            if len(items) > _MAX_DEPTH + 1:
                fail_at(at, f"nested deeper than {_MAX_DEPTH}")
        elif mark == ",":
            items[-1] += 1
        elif len(items) > 1:
            items.pop()
        if items[-1] >= limits.items or k >= limits.tokens:
            fail_at(at, "more values than a checkpoint may have")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the name {twice!r:.80} appears twice")
    return result


def _integer(token: str) -> int:
    if len(token) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(token)} characters; at most {_MAX_DIGITS} are accepted")
    return int(token)


def _float(token: str) -> float:
    if len(token) > _MAX_DIGITS or not math.isfinite(float(token)):
        raise ValueError(f"the number {token:.20} is too large or too long")
    return float(token)


def _constant(token: str) -> NoReturn:
    raise ValueError(f"{token} is no number of JSON")
