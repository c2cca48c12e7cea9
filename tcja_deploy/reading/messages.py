"""What a process for foreign parsers and its parent say to each other: JSON and arrays, never pickles.

A message is its length in 8 bytes and a safetensors text, whose metadata hold the JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

__all__ = ["HEAD", "Arrays", "Message", "packed", "unpacked"]

Arrays = dict[str, NDArray[Any]]
Message = tuple[dict[str, Any], Mapping[str, NDArray[Any]]]
HEAD = 8
_KEY = "message"


def packed(message: Message) -> bytes:
    """A message as bytes, preceded by its length."""
    facts, arrays = message
    plain = {name: np.ascontiguousarray(a).reshape(a.shape) for name, a in arrays.items()}
    content: bytes = save(plain, metadata={_KEY: json.dumps(facts)})
    return len(content).to_bytes(HEAD, "little") + content


def unpacked(content: bytes) -> Message:
    """The message in bytes, without the length.

    Raises:
        ValueError: If it is not a message.
    """
    try:
        length = int.from_bytes(content[:HEAD], "little")
        facts = json.loads(json.loads(content[HEAD : HEAD + length])["__metadata__"][_KEY])
        return dict(facts), load(content)
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"not a message ({error})") from error
