"""Finds, reads and checks profile files: built-in ones by name, a user's own by path."""

from __future__ import annotations

import hashlib
import os
import stat
import tomllib
from importlib.resources import files
from pathlib import Path

from tcja_deploy.errors import ProfileError
from tcja_deploy.hardware_profiles.profile import Profile
from tcja_deploy.hardware_profiles.reader import suggestion
from tcja_deploy.hardware_profiles.schema import parse_profile

__all__ = ["check_profile", "list_profiles", "load_profile"]

_LARGEST_BYTES = 1 << 20
"""A profile takes a few kilobytes; a file of more than a mebibyte is not one and is not parsed."""


def list_profiles() -> tuple[str, ...]:
    """Names of the built-in profiles, sorted."""
    entries = (entry.name for entry in files(__package__).iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in entries if name.endswith(".toml")))


def load_profile(name_or_path: str | os.PathLike[str]) -> Profile:
    """Load a profile.

    Args:
        name_or_path: Name of a built-in profile (`asic45`), followed by a colon and a price list if that is not the
            default (`truenorth:all-in`); or the path of a TOML file: an `os.PathLike`, or a string that ends in `.toml`
            or contains a path separator. A string that ends in `.toml` may also be followed by a colon and a price list.

    Returns:
        The profile, with the chosen price list active, or else its default one.

    Raises:
        ProfileError: If there is no such profile, file or price list, or the file breaks the schema; the message then
            lists every violation by its key.
    """
    path, pricing = _locate(name_or_path)
    data = _read(path) if isinstance(path, Path) else files(__package__).joinpath(f"{path}.toml").read_bytes()
    profile, violations = _parse(data, origin=str(path) if isinstance(path, Path) else "built-in")
    if profile is None:
        lines = "".join(f"\n  {violation}" for violation in violations)
        count = "1 violation" if len(violations) == 1 else f"{len(violations)} violations"
        raise ProfileError(
            f"not a valid hardware profile, {count}:{lines}",
            where=str(path),
            hint="docs/hardware-profiles.md describes the format",
        )
    return profile.with_pricing(pricing) if pricing else profile


def check_profile(path: str | os.PathLike[str]) -> list[str]:
    """Check a profile file against the schema.

    Args:
        path: Path of a TOML file.

    Returns:
        Every violation, each beginning with its dotted TOML key; empty if the file is a valid profile.

    Raises:
        ProfileError: If the file cannot be read.
    """
    return _parse(_read(Path(path)), origin=os.fspath(path))[1]


def _locate(name_or_path: str | os.PathLike[str]) -> tuple[Path | str, str]:
    """Path of a file or name of a built-in profile, and the price list after the colon, or an empty string.

    Raises:
        ProfileError: If there is no such built-in profile.
    """
    if not isinstance(name_or_path, str):
        return Path(name_or_path), ""
    if Path(name_or_path).suffix == ".toml":
        return Path(name_or_path), ""
    name, _, pricing = name_or_path.partition(":")
    if name in list_profiles():
        return name, pricing
    path, colon, pricing = name_or_path.rpartition(":")
    if colon and path.endswith(".toml"):
        return Path(path), pricing
    if os.sep in name_or_path or (os.altsep and os.altsep in name_or_path):
        return Path(name_or_path), ""
    raise ProfileError(
        f"there is no built-in profile '{name}'{suggestion(name, list_profiles())}",
        where=name_or_path,
        hint=f"built in: {', '.join(list_profiles())}; or give the path of a .toml file",
    )


def _read(path: Path) -> bytes:
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
        if kind not in (stat.S_IFREG, stat.S_IFDIR):  # opening a FIFO may block for ever
            raise ProfileError("this is a device, FIFO or socket, not a file", where=str(path))
        with path.open("rb") as file:
            data = file.read(_LARGEST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        said = getattr(error, "strerror", None) or error
        raise ProfileError(f"cannot be read: {said}", where=str(path)) from error
    if len(data) > _LARGEST_BYTES:
        raise ProfileError("is larger than 1 MiB, which no profile is", where=str(path))
    return data


def _parse(data: bytes, *, origin: str) -> tuple[Profile | None, list[str]]:
    try:
        tables = tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        return None, [f"file: is not UTF-8 text ({error.reason} at byte {error.start})"]
    except (ValueError, RecursionError) as error:
        # ValueError: tomllib.TOMLDecodeError, and Python's limit on the digits of an integer.
        return None, [f"file: is not TOML ({error})"]
    return parse_profile(tables, origin=origin, sha256=hashlib.sha256(data).hexdigest())
