"""Plain records as YAML, for the head of a Markdown file. YAML 1.1 and 1.2 read it alike."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

__all__ = ["to_yaml"]


YamlRecord = Mapping[str, object]


def to_yaml(record: YamlRecord) -> str:
    """A record of strings, numbers, booleans, lists and records, one line per value, every string in double quotes."""
    return "".join(f"{line}\n" for line in _mapping(record))


def _mapping(record: YamlRecord) -> Iterator[str]:
    for key, value in record.items():
        yield from _entry(f"{key if _plain_key(key) else _text(key)}:", value)


def _entry(head: str, value: object) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        yield head
        yield from (f"  {line}" for line in _mapping(value))
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        yield head
        for item in value:
            if isinstance(item, Mapping) and item:
                first, *rest = _mapping(item)
                yield f"- {first}"
                yield from (f"  {line}" for line in rest)
            else:
                yield from _entry("-", item)
    else:
        yield f"{head} {_scalar(value)}"


def _scalar(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return _number(value)
        case str():
            return _text(value)
    return "{}" if isinstance(value, Mapping) else "[]"


def _number(value: float) -> str:
    """A number with a decimal point and a signed exponent, without which YAML 1.1 reads a string."""
    if not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    digits, exponent, power = repr(value).partition("e")
    if not exponent:
        return digits
    return f"{digits if '.' in digits else digits + '.0'}e{power if power[0] in '+-' else '+' + power}"


_SHORT = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}


def _text(text: str) -> str:
    """A string in double quotes; what does not print is escaped; lone surrogates, which no file may hold, are spelled out."""
    return '"' + "".join(_SHORT.get(c) or _character(c) for c in text) + '"'


def _character(character: str) -> str:
    code = ord(character)
    if 0xD800 <= code <= 0xDFFF:
        return f"\\\\u{code:04x}"
    if character.isprintable():
        return character
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


def _plain_key(key: str) -> bool:
    """Whether a key needs no quotes."""
    return (
        key.isascii()
        and key[:1].isalpha()
        and key.replace("_", "").replace("-", "").isalnum()
        and key.lower() not in _WORDS
    )
