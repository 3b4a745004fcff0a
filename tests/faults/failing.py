"""`heights.py:SPACE`, and a disk that fails: the k-th write of a driver to its ledger, as FAILING_WRITE=k:ENOSPC says.

A space is imported by the driver alone, so its trials write on.
"""

import errno
import itertools
import os

from tests.faults.heights import SPACE as SPACE
from tests.faults.heights import height as height

_write, _count = os.write, itertools.count(1)


def _failing(descriptor, data):
    number, name = os.environ["FAILING_WRITE"].split(":")
    if os.readlink(f"/proc/self/fd/{descriptor}").endswith("/ledger.jsonl") and next(_count) >= int(number):
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))
    return _write(descriptor, data)


if "FAILING_WRITE" in os.environ:
    os.write = _failing
