"""A network that the user names by its code, `models.py:build` or `package.module:Class`, and its arguments.

To name code is to agree that it runs. What ran is recorded: file, checksum, arguments, and the files of the same folder that it
imported.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from tcja_deploy.errors import CodeError, DeployError, UsageError
from tcja_deploy.files import sha256
from tcja_deploy.text import with_article

if TYPE_CHECKING:
    from torch import nn

__all__ = ["CodeName", "built", "code_name", "importable"]

_FORM = re.compile(r"(?P<origin>.+\.py|[A-Za-z_][\w.]*):(?P<name>[A-Za-z_][\w.]*)")

_MOST_BYTES = 1 << 24
"""Of a file of code."""


@dataclass(frozen=True)
class CodeName:
    """Where the code is and what it is called.

    Attributes:
        origin: A `.py` file, or a module as Python imports it.
        name: Of a function or class that makes the network, or of the network itself.
    """

    origin: str
    name: str

    def __str__(self) -> str:
        return f"{self.origin}:{self.name}"


def code_name(source: str | os.PathLike[str]) -> CodeName | None:
    """What a model argument names, if it names code; a file that is there is a file."""
    text = os.fspath(source)
    found = _FORM.fullmatch(text)
    return None if found is None or os.path.exists(text) else CodeName(found["origin"], found["name"])


@contextmanager
def built(code: CodeName, settings: Mapping[str, Any]) -> Iterator[tuple[nn.Module, dict[str, str]]]:
    """The network that named code makes, and what is recorded of it; the code's folder can be imported from inside the block.

    Args:
        code: Where it is.
        settings: Arguments by name; strings are converted as the signature says.

    Raises:
        UsageError: If there is no such code, or the arguments do not fit its signature.
        CodeError: If the code fails, or makes something other than a network.
    """
    from torch import nn, random

    folder, module_name = _place(code)
    with importable(folder) as imported, random.fork_rng(devices=[]):
        random.manual_seed(0)  # a network that is not given weights is the same in every run
        module = _run(lambda: importlib.import_module(module_name), code, folder)
        if (
            code.origin.endswith(".py")
            and Path(module.__file__ or "").resolve() != Path(code.origin).resolve()
        ):
            raise UsageError(
                f"Python has its own module {module_name!r}, which hides this file",
                where=code.origin,
                hint="rename the file",
            )
        target = _find(code, module)
        arguments: dict[str, Any] = {}
        if isinstance(target, nn.Module):
            if settings:
                raise UsageError(f"{code} is a network already and takes no arguments: leave out --set")
            network = target
        else:
            arguments = _arguments(code, target, settings)
            network = _run(lambda: target(**arguments), code, folder)
        if not isinstance(network, nn.Module):
            raise CodeError(
                f"it makes {with_article(type(network).__name__)}, not a torch.nn.Module",
                where=str(code),
                hint="name a class of networks, or a function that returns one",
            )
        yield network, _record(code, module, imported(), arguments)


@contextmanager
def importable(folder: Path) -> Iterator[Callable[[], dict[str, Path]]]:
    """Modules of a folder can be imported, as in a script that is there; afterwards they are forgotten.

    So two folders that both hold a `models.py` do not get into each other's way. The block gets a function that tells which
    modules were imported from the folder: their files by name.
    """
    before = set(sys.modules)
    root = folder.resolve()

    def imported() -> dict[str, Path]:
        new = {
            n: _file(m) for n, m in list(sys.modules.items()) if n not in before and not n.startswith(_OURS)
        }
        return {n: file for n, file in new.items() if file is not None and file.is_relative_to(root)}

    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield imported
    finally:
        sys.path.remove(str(folder))
        for name in imported():
            del sys.modules[name]


_OURS = __name__.partition(".")[0]


def _file(module: types.ModuleType) -> Path | None:
    """Where a module comes from, if it is code of the user and not an installed package."""
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if isinstance(file, str) and "site-packages" not in file else None


def _place(code: CodeName) -> tuple[Path, str]:
    """The folder to import from and the name to import; a file of a package is imported as part of it.

    Raises:
        UsageError: If there is no such file, or its name is not one that can be imported.
    """
    if not code.origin.endswith(".py"):
        return Path.cwd(), code.origin
    file = Path(code.origin).resolve()
    if not file.is_file():
        raise UsageError(
            "there is no such file", where=code.origin, hint="write FILE.py:NAME or package.module:NAME"
        )
    if file.stat().st_size > _MOST_BYTES:
        raise UsageError(f"is larger than {_MOST_BYTES >> 20} MB, which no code is", where=code.origin)
    parts, folder = [file.stem], file.parent
    if file.stem == "__init__":
        parts, folder = [folder.name], folder.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    name = ".".join(parts)
    if not all(part.isidentifier() for part in parts):
        raise UsageError(
            f"{name!r} is not a name that Python can import",
            where=code.origin,
            hint="rename the file: letters, digits, _",
        )
    return folder, name


def _run(action: Callable[[], Any], code: CodeName, folder: Path) -> Any:
    """Run the user's code; what it prints goes to standard error, what it raises becomes a message with file and line."""
    arguments = sys.argv
    sys.argv = [code.origin]  # code that reads the command line finds none
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return action()
    except (DeployError, KeyboardInterrupt):
        raise
    except BaseException as error:  # it is the user's code: anything, SystemExit included
        raise _failed(error, code, folder) from error
    finally:
        sys.argv = arguments


def _failed(error: BaseException, code: CodeName, folder: Path) -> DeployError:
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if _is_own(f.filename, folder)]
    if isinstance(error, ModuleNotFoundError) and not own and error.name in _parents(code.origin):
        return UsageError(
            f"there is no module {error.name!r}",
            where=str(code),
            hint="write FILE.py:NAME, or run in the folder that holds the package, or set PYTHONPATH",
        )
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{error.filename}, line {error.lineno}"
    else:
        last = (own or list(frames))[-1]
        where = f"{last.filename}, line {last.lineno}, in {last.name}"
    text = str(error)
    reason = f"the code fails with {type(error).__name__}" + (f": {text}" if text else "")
    hint = ""
    if isinstance(error, SystemExit):
        hint = "name a function or class of a file that does not run as a program when it is imported"
    elif isinstance(error, ModuleNotFoundError):
        hint = f"install {error.name}, or run in the folder that holds it, or set PYTHONPATH"
    return CodeError(reason, where=where, hint=hint)


def _is_own(file: str, folder: Path) -> bool:
    path = Path(file)
    return (
        "site-packages" not in path.parts
        and path.is_absolute()
        and path.resolve().is_relative_to(folder.resolve())
    )


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _find(code: CodeName, module: Any) -> Any:
    target = module
    for part in code.name.split("."):
        if not hasattr(target, part):
            offered = [
                n
                for n, v in vars(module).items()
                if callable(v) and getattr(v, "__module__", "") == module.__name__
            ]
            raise UsageError(
                f"there is no {code.name} in it",
                where=code.origin,
                hint=f"it defines: {', '.join(offered[:12])}"
                if offered
                else "it defines no function and no class",
            )
        target = getattr(target, part)
    if not callable(target):
        raise UsageError(
            f"it is {with_article(type(target).__name__)}, which builds no network", where=str(code)
        )
    return target


# -- arguments ---------------------------------------------------------------------------------------------------------
def _arguments(code: CodeName, target: Callable[..., Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as the signature types them.

    Raises:
        UsageError: If a name is unknown, a string is not of the type, or an argument is missing.
    """
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return {name: _literal(value) for name, value in settings.items()}
    hints = _hints(target)
    named = {n: p for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    free = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    unknown = [n for n in settings if n not in named]
    if unknown and not free:
        raise UsageError(
            f"{code.name} takes no {', '.join(unknown)}",
            where=str(code),
            hint=f"it takes: {', '.join(named)}" if named else "it takes no arguments",
        )
    required = [
        n for n, p in parameters.items()
        if p.default is p.empty and n not in settings and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]  # fmt: skip
    if required:
        raise UsageError(
            f"{code.name} needs {', '.join(required)}",
            where=str(code),
            hint=f"pass --set {required[0]}=VALUE, or name a function that needs nothing",
        )
    return {
        name: _typed(code, name, value, hints.get(name), named[name].default if name in named else None)
        for name, value in settings.items()
    }


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    function = target.__init__ if inspect.isclass(target) else target
    try:
        return typing.get_type_hints(function)
    except Exception:  # names that exist for type checkers alone
        return {}


def _typed(code: CodeName, name: str, value: Any, hint: Any, default: Any) -> Any:
    """A string converted to the annotated type, else to that of the default, else read as a Python literal or left as it is."""
    if not isinstance(value, str):
        return value
    plain = hint is None or hint is Any
    if plain and default not in (None, inspect.Parameter.empty) and not isinstance(default, str):
        hint, plain = type(default), type(default) not in _READ and type(default) not in (tuple, list)
    if plain:
        return value if isinstance(default, str) else _literal(value)
    for kind in get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,):
        try:
            return _of_kind(value, kind)
        except (ValueError, SyntaxError, TypeError):
            continue
    raise UsageError(f"--set {name}={value}: this is not {with_article(_title(hint))}", where=str(code))


def _title(hint: Any) -> str:
    return hint.__name__ if inspect.isclass(hint) and not get_args(hint) else str(hint).replace("typing.", "")


def _truth(text: str) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in words:
        raise ValueError(text)
    return words[text.lower()]


def _none(text: str) -> None:
    if text.lower() != "none":
        raise ValueError(text)


_READ: dict[Any, Callable[[str], Any]] = {
    bool: _truth, int: int, float: float, complex: complex, str: str, types.NoneType: _none,
}  # fmt: skip


def _of_kind(text: str, kind: Any) -> Any:
    """A string converted to a type; `ValueError` if it is not of that type."""
    origin = get_origin(kind) or kind
    if origin in _READ:
        return _READ[origin](text)
    if origin is Literal:
        for choice in get_args(kind):
            if str(choice) == text:
                return choice
        raise ValueError(text)
    if inspect.isclass(origin) and issubclass(origin, tuple | list):
        inner = [a for a in get_args(kind) if a is not Ellipsis]
        parts = [p.strip() for p in text.strip("()[] ").split(",") if p.strip()]
        kinds = inner if len(inner) > 1 else inner * len(parts)
        if kinds and len(kinds) != len(parts):
            raise ValueError(text)
        return (
            origin(_of_kind(p, k) for p, k in zip(parts, kinds, strict=True))
            if kinds
            else origin(map(_literal, parts))
        )
    return _literal(text)


def _literal(value: Any) -> Any:
    """A Python literal, or the string itself."""
    try:
        return ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


# -- record --------------------------------------------------------------------------------------------------------------
def _record(
    code: CodeName, module: types.ModuleType, imported: Mapping[str, Path], arguments: Mapping[str, Any]
) -> dict[str, str]:
    """What a manifest keeps: the code by name and checksum, its arguments, and what it imported from its folder."""
    facts = {"format": "named code", "code": f"{Path(code.origin).name}:{code.name}"}
    if module.__file__:
        facts["code_sha256"] = sha256(Path(module.__file__))
    if arguments:
        facts["code_arguments"] = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    beside = [
        f"{name} {sha256(file)[:16]}" for name, file in sorted(imported.items()) if name != module.__name__
    ]
    if beside:
        facts["code_imports"] = ", ".join(beside)
    return facts
