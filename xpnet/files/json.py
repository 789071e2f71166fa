"""JSON from strangers: the standard library's parser, made strict, in bounded time, depth and memory.

Left to itself Python's `json` keeps the last of two equal names, accepts NaN and 1e999, exhausts its stack on 100,000
brackets, and builds objects of twenty times the size of the text.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

from xpnet.errors import CheckpointError

# A string that does not end goes to the end of the text, so that nothing is looked at twice.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)
_MAX_DEPTH = 128  # a layer inside of a layer takes three: an object, a tuple and its list
_MAX_DIGITS = 1000


class Limits(NamedTuple):
    """How much a text may have; together they bound the memory that its values take."""

    characters: int  # of one string
    items: int  # of one list or object
    tokens: int  # strings, brackets and commas altogether


def parse(data: bytes, where: str, limits: Limits, start: int = 0) -> Any:
    """Return what JSON text in UTF-8 stands for: dict, list, str, int, finite float, bool or None.

    Everything else is a CheckpointError: no JSON, a name twice in one object, a number that is none or is out of
    range, too much of anything. It names the place in the file, whose byte `start` is the first of `data`.
    """
    try:
        text = data.decode()
        _check_limits(text, limits, where)
        return json.loads(
            text, object_pairs_hook=_object, parse_int=_number, parse_float=_number, parse_constant=_number
        )
    except CheckpointError:
        raise
    except UnicodeDecodeError as error:
        fail(f"{where}, byte {start + error.start}", "not UTF-8")
    except json.JSONDecodeError as error:
        at = len(error.doc[: error.pos].encode())
        fail(f"{where}, byte {start + at}", f"cannot be read: {error.msg}")
    except ValueError as error:
        fail(where, str(error))


def fail(where: str, reason: str) -> NoReturn:
    """Raise the CheckpointError that says where and why."""
    raise CheckpointError(f"{where}: {reason}; the file is damaged or not written by xpnet")


def _check_limits(text: str, limits: Limits, where: str) -> None:
    """Refuse too much of anything before a value is made of it, and strings that are no text."""
    items = [0]
    for k, token in enumerate(_TOKEN.finditer(text)):
        mark, reason = text[token.start()], ""
        if mark == '"':
            size = token.end() - token.start() - 2
            if size > limits.characters:
                reason = f"a string of {size} characters; at most {limits.characters} are accepted here"
            elif "\\u" in token[0] and _half_a_pair(token[0]):
                reason = "half a surrogate pair in a string"
        elif mark in "[{":
            items.append(0)
        elif mark == ",":
            items[-1] += 1
        elif len(items) > 1:
            items.pop()
        if len(items) > _MAX_DEPTH + 1:
            raise CheckpointError(
                f"{where}: brackets are nested deeper than {_MAX_DEPTH}, the most that is accepted; this is enough for "
                f"{_MAX_DEPTH // 3 - 1} layers inside of each other: build the network with fewer"
            )
        if items[-1] >= limits.items or k >= limits.tokens:
            reason = "more values than a checkpoint may have"
        if reason:
            raise json.JSONDecodeError(reason, text, token.start())


def _half_a_pair(string: str) -> bool:
    with suppress(json.JSONDecodeError):  # the parser says it better
        return any("\ud800" <= character <= "\udfff" for character in json.loads(string))
    return False


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the name {twice!r:.80} appears twice")
    return result


def _number(token: str) -> float:
    if len(token) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(token)} characters; at most {_MAX_DIGITS} are accepted")
    number = int(token) if token.lstrip("-").isdigit() else float(token)
    if not -math.inf < number < math.inf:
        raise ValueError(f"{token} is no number, or too large for one")
    return number
