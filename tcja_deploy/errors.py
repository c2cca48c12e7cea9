"""The one tree of errors: every failure a user can cause says what is wrong, where, and what to do.

Exit codes of the command line belong to the classes, so that a script can tell the causes apart.
"""

from __future__ import annotations

from typing import ClassVar

from tcja_deploy.text import printable

__all__ = [
    "CodeError",
    "DataError",
    "DeployError",
    "ExportError",
    "FileFormatError",
    "GraphError",
    "ProfileError",
    "SilenceWarning",
    "ToolchainError",
    "TraceError",
    "UnsupportedError",
    "UsageError",
    "VerificationError",
]


class DeployError(Exception):
    """Base of all errors that tcja-deploy raises on purpose.

    Args:
        reason: What is wrong, in one sentence.
        where: Module path, node name, file or key that it is about; empty if there is none.
        hint: What the user can do about it; empty if there is nothing.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, reason: str, *, where: str = "", hint: str = "") -> None:
        self.reason = reason
        self.where = where
        self.hint = hint
        super().__init__(reason)

    def __str__(self) -> str:
        text = f"{self.where}: {self.reason}" if self.where else self.reason
        return printable(f"{text}\n  -> {self.hint}" if self.hint else text, keep="\n")


class UsageError(DeployError):
    """An argument or a combination of arguments that makes no sense (exit code 2)."""

    exit_code = 2


class FileFormatError(DeployError):
    """A file that is missing, truncated, tampered with, of a newer version or of an unknown kind (exit code 3)."""

    exit_code = 3


class DataError(DeployError):
    """Event recordings or frames that cannot be read or do not fit the model (exit code 4)."""

    exit_code = 4


class TraceError(DeployError):
    """A model that cannot be translated; lists every offender with its module path (exit code 5)."""

    exit_code = 5


class GraphError(DeployError):
    """A graph that breaks the rules of the IR; lists every violation (exit code 6)."""

    exit_code = 6


class UnsupportedError(DeployError):
    """Something a target cannot express; says which node and why (exit code 7)."""

    exit_code = 7


class ExportError(DeployError):
    """An export that could not be written (exit code 8)."""

    exit_code = 8


class VerificationError(DeployError):
    """An artifact whose results differ from the reference beyond the stated bound (exit code 9)."""

    exit_code = 9


class ProfileError(DeployError):
    """A hardware profile that breaks the schema; names the key (exit code 10)."""

    exit_code = 10


class ToolchainError(DeployError):
    """An external program or environment (Python 3.10, lava-dl) that is missing or failed (exit code 11)."""

    exit_code = 11


class CodeError(DeployError):
    """Code that the user named failed, or made no network; names file and line (exit code 12)."""

    exit_code = 12


class SilenceWarning(UserWarning):
    """Neurons stayed silent where a result was to be compared, which then says little about what follows them."""
