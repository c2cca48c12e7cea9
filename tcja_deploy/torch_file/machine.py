"""A pickle machine that builds data and runs nothing: classes and functions are names, and what they would make is kept inert.

The opcodes are taken apart by `pickletools` of the standard library, which neither imports nor calls. Names that are on the
list of builders (`rebuild.py`) become tensors, arrays and containers; every other object becomes a `Foreign`.
"""

from __future__ import annotations

import io
import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, cast

from tcja_deploy.errors import FileFormatError

__all__ = ["DAMAGE", "Foreign", "Machine", "Name", "ObjectBuilder", "Stream", "label", "plain_key"]

Stream = IO[bytes] | io.RawIOBase
ObjectBuilder = Callable[[tuple[Any, ...]], Any]

DAMAGE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, struct.error)
"""What carrying out a damaged description raises: what it says may be of any type and value."""

_MOST_STEPS = 2_000_000
"""Opcodes of a pickle that are carried out, some 30 for a tensor; they take about ten seconds."""

_LARGEST_KEY = 16
"""Parts of a tuple that is a key of a dictionary, those of tuples within it included."""


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle names; it is never looked up."""

    path: str

    def __repr__(self) -> str:
        return self.path


@dataclass(eq=False, repr=False)
class Foreign:
    """An object of a class that is not looked up: what the file says about it, no code run.

    Attributes:
        name: Module and name of the class, or of the function that would make the object.
        arguments: What it would be called with.
        state: What would be its attributes.
        items: Entries, if it is a kind of mapping.
        elements: Elements, if it is a kind of list.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)
    elements: list[Any] = field(default_factory=list)

    def set_state(self, state: object) -> None:
        """Keep what the object would be given as attributes."""
        self.state = state

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Machine:
    """Carries out one pickle.

    Args:
        stream: Positioned at its first byte; afterwards past its last.
        builders: What named functions and classes make of their arguments.
        persistent: What a persistent identifier stands for.
    """

    def __init__(
        self, stream: Stream, builders: Mapping[str, ObjectBuilder], persistent: Callable[[Any], Any]
    ) -> None:
        self._stream, self._builders, self._persistent = stream, builders, persistent
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The object that the pickle describes.

        Raises:
            FileFormatError: If it is damaged, or uses opcodes that data does not need.
        """
        try:
            for step, (opcode, argument, _) in enumerate(pickletools.genops(cast("IO[bytes]", self._stream))):
                if step > _MOST_STEPS:
                    raise FileFormatError(f"its description takes more than {_MOST_STEPS:,} steps")
                if opcode.name == "STOP":
                    return self._stack.pop()
                if opcode.name in _VALUES:
                    self._stack.append(argument)
                else:
                    _STEPS[opcode.name](self, argument)
        except FileFormatError:
            raise
        except DAMAGE as error:
            raise FileFormatError(
                f"its pickle is damaged ({type(error).__name__}: {str(error)[:80]})"
            ) from error
        raise FileFormatError("its pickle has no end")

    # -- what opcodes do -----------------------------------------------------------------------------------------
    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marked.pop()
        return items

    def mark(self, _: Any) -> None:
        """Begin a group."""
        self._marked.append(self._stack)
        self._stack = []

    def push(self, make: Callable[[list[Any]], Any]) -> None:
        """What a group makes."""
        items = self._since_mark()
        self._stack.append(make(items))

    def last(self, count: int) -> None:
        """A tuple of the topmost."""
        items = self._stack[len(self._stack) - count :]
        if len(items) < count:
            raise FileFormatError("its pickle is damaged")
        del self._stack[len(self._stack) - count :]
        self._stack.append(tuple(items))

    def extend(self, items: list[Any]) -> None:
        """Append to a list, or to what stands for one."""
        target = self._stack[-1]
        (target.elements if isinstance(target, Foreign) else _own(target, list)).extend(items)

    def update(self, items: list[Any]) -> None:
        """Set entries of a mapping, or of what stands for one."""
        target = self._stack[-1]
        entries = target.items if isinstance(target, Foreign) else _own(target, dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            entries[plain_key(key)] = value

    def add(self, items: list[Any]) -> None:
        """Add to a set, or to what stands for one."""
        target = self._stack[-1]
        if isinstance(target, Foreign):
            target.elements.extend(items)
        else:
            _own(target, set).update(map(plain_key, items))

    def pop(self, _: Any = None) -> Any:
        """Remove and return the topmost; a group with nothing in it is removed as a whole."""
        if self._stack:
            return self._stack.pop()
        self._stack = self._marked.pop()
        return None

    def duplicate(self, _: Any) -> None:
        """The topmost, twice."""
        self._stack.append(self._stack[-1])

    def remember(self, place: int | None) -> None:
        """Keep the topmost under a number."""
        self._memo[len(self._memo) if place is None else place] = self._stack[-1]

    def recall(self, place: int) -> None:
        """What is kept under a number."""
        self._stack.append(self._memo[place])

    def name(self, path: str) -> None:
        """A name; `pickletools` gives module and name separated by a blank."""
        self._stack.append(Name(path.replace(" ", ".", 1)))

    def stack_name(self, _: Any) -> None:
        """A name from two strings."""
        name, module = self.pop(), self.pop()
        self._stack.append(Name(f"{_own(module, str)}.{_own(name, str)}"))

    def call(self, function: Any, arguments: Any) -> None:
        """What a builder makes of arguments; without a builder, what stands for the object."""
        path = function.path if isinstance(function, Name) else type(function).__name__
        given = _own(arguments, tuple)
        builder = self._builders.get(path) if isinstance(function, Name) else None
        self._stack.append(Foreign(path, given) if builder is None else builder(given))

    def reduce(self, _: Any) -> None:
        """A function and its arguments."""
        arguments, function = self.pop(), self.pop()
        self.call(function, arguments)

    def new_with_names(self, _: Any) -> None:
        """A class, arguments and named arguments, which only objects that stay inert have."""
        named, arguments, function = self.pop(), self.pop(), self.pop()
        self._stack.append(Foreign(label(function), (*_own(arguments, tuple), named)))

    def instance(self, path: str) -> None:
        """A class named by the opcode, with the arguments of a group."""
        self.call(Name(path.replace(" ", ".", 1)), tuple(self._since_mark()))

    def object(self, _: Any) -> None:
        """A class and its arguments as a group."""
        function, *arguments = self._since_mark()
        self.call(function, tuple(arguments))

    def build(self, _: Any) -> None:
        """Give the topmost its state; that of containers does not matter."""
        state, target = self.pop(), self._stack[-1]
        if hasattr(target, "set_state"):
            target.set_state(state)

    def identified(self, identifier: Any) -> None:
        """What a persistent identifier stands for."""
        self._stack.append(self._persistent(identifier))


def _own(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise FileFormatError(
            f"its pickle is damaged (a {type(value).__name__} where a {kind.__name__} goes)"
        )
    return value


def plain_key(key: Any) -> Any:
    """A key whose hash needs neither code nor much time.

    Raises:
        FileFormatError: If it is a tuple of many parts.
    """
    parts, count = [key], 0
    while parts:
        part = parts.pop()
        count += 1
        if count > _LARGEST_KEY:
            raise FileFormatError("a key of a dictionary is a tuple of too many parts")
        if isinstance(part, tuple | frozenset):
            parts += list(part)[:_LARGEST_KEY]
    return key


def label(value: Any) -> str:
    """A value from a file in a message; containers by their type, as writing them out may take too long."""
    if isinstance(value, str | Name | Foreign):
        text = value if isinstance(value, str) else repr(value)
        return ascii(text)[1:-1] if len(text) <= 200 else ascii(text[:197])[1:-1] + "..."
    return str(value) if type(value) in (bool, float, type(None)) else _short(value)


def _short(value: Any) -> str:
    if type(value) is int and abs(value) < 1 << 64:
        return str(value)
    return f"a {type(value).__name__}"


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return {plain_key(k): v for k, v in zip(items[::2], items[1::2], strict=True)}


def _elements(items: list[Any]) -> set[Any]:
    return {plain_key(k) for k in items}


_VALUES = {
    "BINBYTES", "BINBYTES8", "BINFLOAT", "BININT", "BININT1", "BININT2", "BINSTRING", "BINUNICODE", "BINUNICODE8",
    "BYTEARRAY8", "FLOAT", "INT", "LONG", "LONG1", "LONG4", "SHORT_BINBYTES", "SHORT_BINSTRING", "SHORT_BINUNICODE",
    "STRING", "UNICODE", "NONE",
}  # fmt: skip
"""Opcodes whose argument is the value (that of NONE is `None`)."""

_STEPS: dict[str, Callable[[Machine, Any], Any]] = {
    "PROTO": lambda m, _: None,
    "FRAME": lambda m, _: None,
    "NEWTRUE": lambda m, _: m._stack.append(True),
    "NEWFALSE": lambda m, _: m._stack.append(False),
    "EMPTY_LIST": lambda m, _: m._stack.append([]),
    "EMPTY_DICT": lambda m, _: m._stack.append({}),
    "EMPTY_TUPLE": lambda m, _: m._stack.append(()),
    "EMPTY_SET": lambda m, _: m._stack.append(set()),
    "MARK": Machine.mark,
    "LIST": lambda m, _: m.push(list),
    "TUPLE": lambda m, _: m.push(tuple),
    "DICT": lambda m, _: m.push(_pairs),
    "FROZENSET": lambda m, _: m.push(_elements),
    "TUPLE1": lambda m, _: m.last(1),
    "TUPLE2": lambda m, _: m.last(2),
    "TUPLE3": lambda m, _: m.last(3),
    "APPEND": lambda m, _: m.extend([m.pop()]),
    "APPENDS": lambda m, _: m.extend(m._since_mark()),
    "SETITEM": lambda m, _: m.update([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, _: m.update(m._since_mark()),
    "ADDITEMS": lambda m, _: m.add(m._since_mark()),
    "POP": Machine.pop,
    "POP_MARK": lambda m, _: m._since_mark(),
    "DUP": Machine.duplicate,
    "PUT": Machine.remember,
    "BINPUT": Machine.remember,
    "LONG_BINPUT": Machine.remember,
    "MEMOIZE": Machine.remember,
    "GET": Machine.recall,
    "BINGET": Machine.recall,
    "LONG_BINGET": Machine.recall,
    "GLOBAL": Machine.name,
    "STACK_GLOBAL": Machine.stack_name,
    "REDUCE": Machine.reduce,
    "NEWOBJ": Machine.reduce,
    "NEWOBJ_EX": Machine.new_with_names,
    "INST": Machine.instance,
    "OBJ": Machine.object,
    "BUILD": Machine.build,
    "PERSID": Machine.identified,
    "BINPERSID": lambda m, _: m.identified(m.pop()),
}
"""The opcodes that data needs; extension registries and buffers outside the file are not among them."""
