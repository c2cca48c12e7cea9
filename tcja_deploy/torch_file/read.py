"""The one entry for files of weights, recognised by content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tcja_deploy.errors import FileFormatError
from tcja_deploy.reading.archives import is_archive
from tcja_deploy.reading.beginning import first_bytes
from tcja_deploy.torch_file.archive import read_archive
from tcja_deploy.torch_file.legacy import read_pickles, read_tar
from tcja_deploy.torch_file.machine import DAMAGE
from tcja_deploy.torch_file.rebuild import builders
from tcja_deploy.torch_file.safe import is_safetensors, read_safetensors
from tcja_deploy.torch_file.tensors import Allowance

__all__ = ["read_weights"]

_EMBEDDED_DEPTH = 2
"""Depth of files within files: what `pickle.dump` makes of a tensor is one."""

_UNKNOWN = "this is not a file of weights, or it is damaged"
_ADVICE = (
    "copy or download it again; if that changes nothing, save it again where it was made: "
    "torch.save(model.state_dict(), path)"
)

_PICKLE, _ZIP = b"\x80", b"PK\x03\x04"
_TAR = slice(257, 262)


def read_weights(path: Path) -> Any:
    """What a file of weights holds, without running any code of it.

    Containers are dictionaries, lists and tuples; tensors are `StoredTensor`, which reads its numbers when asked;
    whatever would need a class to be looked up is a `Foreign`, and a class or function by itself a `Name`.

    Raises:
        FileFormatError: If the file is damaged or of another kind.
    """
    allowance = Allowance(path.stat().st_size)
    depth = 0

    def embedded(content: bytes) -> Any:
        nonlocal depth
        if not isinstance(content, bytes) or depth >= _EMBEDDED_DEPTH:
            raise FileFormatError("a file inside its pickle is not readable")
        depth += 1
        try:
            return read_pickles(content, known)
        finally:
            depth -= 1

    known = builders(allowance, embedded)
    try:
        if is_archive(path):
            return read_archive(path, known)
        if is_safetensors(path):
            return read_safetensors(path, allowance)[1]
        head = first_bytes(path, _TAR.stop)
        if head.startswith(_ZIP):
            raise FileFormatError("the archive is cut off: its list of members is missing")
        if head[_TAR] == b"ustar":
            return read_tar(path, known, allowance)
        try:
            return read_pickles(path, known)
        except FileFormatError as error:
            if head[:1] == _PICKLE:
                raise
            raise FileFormatError(_UNKNOWN) from error
    except FileFormatError as error:
        error.hint = error.hint or ("" if error.reason == _UNKNOWN else _ADVICE)
        raise
    except OSError as error:
        raise FileFormatError(f"the file cannot be read ({error.strerror or error})") from error
    except DAMAGE as error:
        raise FileFormatError(
            f"the file is damaged ({type(error).__name__}: {str(error)[:80]})", hint=_ADVICE
        ) from error
