"""What every function of the Python interface has in common."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from tcja_deploy.errors import SilenceWarning
from tcja_deploy.reading.limits import out_of_memory_told

__all__ = ["task"]

P = ParamSpec("P")
R = TypeVar("R")


def task(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function part of the Python interface.

    While it runs, other packages give no warnings; a `SilenceWarning` of this one points to where the function was called.
    Running out of memory raises an error that says so.
    """

    @functools.wraps(function)
    def run(*given: P.args, **named: P.kwargs) -> R:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", SilenceWarning)
            with out_of_memory_told():
                result = function(*given, **named)
        for one in told:
            warnings.warn(one.message, stacklevel=2)
        return result

    return run
