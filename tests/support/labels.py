"""Names for the cases of a parametrised test."""

import re


def label(case):
    """Return what a case prints as, without addresses: the tests of two processes have the same names then."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(case))
