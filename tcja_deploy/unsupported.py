"""What cannot be expressed, collected place by place, so that a user sees all of it in one error.

Whoever translates a network (tracer, NIR reader, NIR writer, Lava) works through its places and does not stop at the first
that has no counterpart:

* a rule that cannot translate its place raises `Unsupported(reason, hint)`; `UnsupportedInContext` where the cause may
  lie in an earlier place, such as a shape that does not fit;
* the loop that calls the rules keeps one `UnsupportedParts` and runs each rule in `with found.at(place):`, or adds what
  it catches by `found.add(place, error)`;
* at the end `found.raise_if_any(TraceError, "{} of the model cannot be translated")` raises one error that lists them.

    found = UnsupportedParts()
    for node in graph:
        with found.at(node.name, certain=node.name not in guessed):
            RULES[type(node.op)](node)
    found.raise_if_any(UnsupportedError, "NIR cannot express {}", noun="node")
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tcja_deploy.errors import DeployError

__all__ = ["Unsupported", "UnsupportedInContext", "UnsupportedParts", "bullets"]


def bullets(lines: Iterable[str], most: int | None = None) -> str:
    """Lines as the list at the end of a message: each on a line of its own with a dash, nothing for no lines.

    Args:
        lines: What to list.
        most: How many of them to show; if there are more, the last line says how many.
    """
    shown = list(lines)
    if most is not None and len(shown) > most:
        shown[most:] = [f"and {len(shown) - most} more"]
    return "".join(f"\n  - {line}" for line in shown)


class Unsupported(Exception):  # noqa: N818
    """Why one place cannot be expressed. Never reaches a user alone: `UnsupportedParts` makes one `DeployError` of all of them.

    Args:
        reason: What is in the way, as a predicate of the place: "pools with dilation".
        hint: What the user can do about it; empty if there is nothing.
    """

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason, self.hint = reason, hint


class UnsupportedInContext(Unsupported):
    """A reason that depends on what comes before, and may be nothing but a consequence of an earlier unsupported place."""


class UnsupportedParts:
    """Everything that cannot be expressed, in the order in which it was found; what is found twice counts once.

    Attributes:
        additions: How often something was added, repetitions included.
    """

    def __init__(self) -> None:
        self.additions = 0
        self._found: dict[tuple[str, str, str], Unsupported] = {}

    def add(self, place: str, found: Unsupported) -> None:
        """Note what cannot be expressed at a place (module path or node name; empty for the whole)."""
        self.additions += 1
        self._found.setdefault((place, found.reason, found.hint), found)

    @contextmanager
    def at(self, place: str, *, certain: bool = True) -> Iterator[None]:
        """Collect what the block raises for this place, and continue after it.

        Args:
            place: Module path or node name.
            certain: Whether everything before it is known; without that, `UnsupportedInContext` means nothing and is dropped.
        """
        try:
            yield
        except Unsupported as found:
            if certain or not isinstance(found, UnsupportedInContext):
                self.add(place, found)

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[tuple[str, Unsupported]]:
        return ((place, found) for (place, _, _), found in self._found.items())

    @property
    def places(self) -> set[str]:
        """Places at which something was found."""
        return {place for place, _, _ in self._found}

    @property
    def any_in_context(self) -> bool:
        """Whether a reason among them depends on its context."""
        return any(isinstance(found, UnsupportedInContext) for _, found in self)

    def raise_if_any(
        self,
        error: type[DeployError],
        heading: str,
        *,
        noun: str = "part",
        whole: str = "network",
        where: str = "",
        hint: str = "",
    ) -> None:
        """Raise one error that lists everything, unless there is nothing.

        Args:
            error: Its class.
            heading: First line without the colon; `{}` becomes "1 part", "2 parts".
            noun: What a place is called.
            whole: What the empty place is called.
            where: As in `DeployError`.
            hint: As in `DeployError`, for all of them.

        Raises:
            DeployError: Of the class asked for.
        """
        if not self._found:
            return
        count = f"{len(self)} {noun}{'s' * (len(self) > 1)}"
        lines = [
            f"{place or whole}: {found.reason}" + (f"\n      -> {found.hint}" if found.hint else "")
            for place, found in self
        ]
        raise error(f"{heading.replace('{}', count)}:{bullets(lines)}", where=where, hint=hint)
