"""Whether help is worth asking for: where other programs want the cores, one thread may be faster than several."""

from __future__ import annotations

import math

FEWEST, MOST = 8, 256
"""Calls without help after which it is tried again: twice as many each time that it has not helped."""
SLOW = 3
"""Calls in succession that are slower with help before none is asked for: a single one may be slow by chance."""
JUMP = 1.3
"""How much slower than the last a call may be before it is looked whether help still helps."""


class Pace:
    """How long steps took of late, with and without help; the numbers are the same, so that the clock may decide."""

    def __init__(self) -> None:
        self._alone = self._usual = math.inf
        self._left, self._next, self._slow = 0, FEWEST, 0

    def helped(self) -> bool:
        """Say whether to ask for help this time."""
        return self._left == 0

    def took(self, seconds: float) -> None:
        """Note how long a step took in the last call."""
        if self._left:
            self._left -= 1
            self._alone = seconds
        elif seconds > self._alone:
            self._slow += 1
            if self._slow >= SLOW:
                self._left, self._next = self._next, min(2 * self._next, MOST)
        else:
            self._next, self._slow = FEWEST, 0
            self._left = int(self._alone == math.inf or seconds > JUMP * self._usual)  # one call, to compare
        self._usual = seconds
