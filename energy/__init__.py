"""Energy accounting; the package can be called, as `tcja_deploy.energy(model, data)` (see `tcja_deploy.library.accounting`)."""

import sys as _sys
from importlib import import_module as _import_module
from types import ModuleType as _ModuleType
from typing import Any as _Any

if __name__ != "tcja_deploy.energy":
    raise ImportError("this package is called tcja_deploy.energy: write 'import tcja_deploy.energy'")


class _Callable(_ModuleType):
    """The package has the name of a function of the Python interface, so calling the package calls that function.

    Nothing in the package depends on the interface: it is looked up by name when the package is called.
    """

    def __call__(self, *args: _Any, **named: _Any) -> _Any:
        """Energy of a model per inference: `tcja_deploy.library.accounting.energy`."""
        return _import_module("tcja_deploy.library.accounting").energy(*args, **named)


_sys.modules[__name__].__class__ = _Callable
