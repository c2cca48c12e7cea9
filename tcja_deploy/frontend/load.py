"""One door for every kind of model: recognised by content, never by file name, and read without running code from it."""

from __future__ import annotations

import argparse
import os
import pickle
import re
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tcja_deploy.errors import DeployError, FileFormatError, UsageError
from tcja_deploy.files import path_status, sha256
from tcja_deploy.frontend.size import within_limits
from tcja_deploy.ir import Graph, Kind
from tcja_deploy.ir_file import is_tcja_file, load_graph
from tcja_deploy.reading.hdf5 import is_hdf5
from tcja_deploy.text import printable

if TYPE_CHECKING:
    from torch import nn

__all__ = ["load"]


@within_limits
def load(
    source: str | Path | nn.Module,
    *,
    arch: str | None = None,
    timesteps: int | None = None,
    input_shape: tuple[int, ...] | None = None,
    input_kind: Kind | str | None = None,
    batch_first: bool | None = None,
    dt: float | None = None,
    trust_pickle: bool = False,
    prove: bool = True,
) -> Graph:
    """Read or trace a trained network; arguments, result and errors as of ``tcja_deploy.load``, which hands them on."""
    if not isinstance(source, str | Path):
        if type(source).__name__ == "NIRGraph":
            from tcja_deploy.nir_file.load import load_nir

            return load_nir(source, timesteps, dt=dt)
        from tcja_deploy.frontend.trace import trace

        _refuse("module", arch=arch, dt=dt)
        return trace(
            source,
            timesteps=timesteps,
            input_shape=input_shape,
            input_kind=_kind(input_kind),
            batch_first=batch_first,
            prove=prove,
        )
    path = Path(source)
    status = path_status(path)
    if status != "file":
        said = {"missing": "there is no such file", "folder": "this is a folder, a model is one file"}
        raise FileFormatError(
            said.get(status, "this is a device, FIFO or socket and no file"), where=str(path)
        )
    with _in_file(path):
        if is_tcja_file(path):
            _refuse(
                ".tcja file", arch=arch, timesteps=timesteps, input_shape=input_shape, input_kind=input_kind,
                batch_first=batch_first, dt=dt,
            )  # fmt: skip
            return load_graph(path)
        if is_hdf5(path):
            from tcja_deploy.nir_file.load import load_nir

            _refuse(
                "NIR file", arch=arch, input_shape=input_shape, input_kind=input_kind, batch_first=batch_first
            )
            return load_nir(path, timesteps, dt=dt)
        content = _inner_module(_unpickle(path, trust_pickle))
        provenance = {"file": printable(path.name), "file_sha256": sha256(path)}
        from torch import nn

        if isinstance(content, nn.Module):
            from tcja_deploy.frontend.trace import trace

            _refuse("pickled module", arch=arch, dt=dt)
            return trace(
                content, timesteps=timesteps, input_shape=input_shape, input_kind=_kind(input_kind),
                batch_first=batch_first, source={**provenance, "format": "pickled module"}, prove=prove,
            )  # fmt: skip
        from tcja_deploy.frontend.checkpoint import from_state

        _refuse("checkpoint", input_kind=input_kind, batch_first=batch_first, dt=dt)
        state, kind = _state(content)
        provenance["format"] = kind
        return from_state(state, arch=arch, timesteps=timesteps, input_shape=input_shape, source=provenance)


@contextmanager
def _in_file(path: Path) -> Iterator[None]:
    """Errors inside name the file."""
    try:
        yield
    except DeployError as error:
        if str(path) not in error.where:
            error.where = f"{path}: {error.where}" if error.where else str(path)
        raise


def _kind(given: Kind | str | None) -> Kind | None:
    try:
        return None if given is None else Kind(given)
    except ValueError:
        raise UsageError(
            f"there is no signal kind {given!r}", hint=f"choose one of {', '.join(Kind)}"
        ) from None


def _refuse(kind: str, **arguments: object) -> None:
    """Arguments that a source has no use for are mistakes, not to be ignored."""
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        verb = "has no use for" if given == ["dt"] else "already fixes"
        raise UsageError(f"a {kind} {verb} {', '.join(given)}")


def _unpickle(path: Path, trust: bool) -> Any:
    import torch

    try:
        with torch.serialization.safe_globals(_plain_types()), warnings.catch_warnings():
            # torch's advice on pickle protocols; what matters is raised below
            warnings.simplefilter("ignore")
            if not trust:
                return torch.load(path, map_location="cpu", weights_only=True)
            with _classes_from_here():
                return torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # the unpickler of a damaged or hostile file may raise anything
        if isinstance(error, pickle.UnpicklingError) and not trust and _is_torch_file(path):
            found = re.search(r"GLOBAL ([\w.]+)", str(error))
            raise FileFormatError(
                f"this file holds Python objects beyond plain weights{f' ({found[1]})' if found else ''}; loading them "
                "would run code from the file",
                hint="save model.state_dict() instead, or pass --trust-pickle if you trust whoever made the file",
            ) from error
        if isinstance(error, AttributeError | ImportError):
            raise FileFormatError(
                f"the pickled object cannot be built ({error})",
                hint="the module's class must be importable: run in its project's folder or set PYTHONPATH; a class of the "
                "script that saved it (__main__) is only there: pass the live module to tcja_deploy.load in that script",
            ) from error
        raise FileFormatError(_UNKNOWN, hint=_KINDS) from error


@contextmanager
def _classes_from_here() -> Iterator[None]:
    """Modules of the current folder can be imported, as in a script that lies there."""
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _plain_types() -> list[Any]:
    """What training scripts save beside weights and what runs no code: numbers of NumPy and command line options."""
    import numpy as np

    numbers = [np.dtype(name) for name in ("float64", "float32", "int64", "int32", "bool")]
    scalar = np.float64(0).__reduce__()[
        0
    ]  # the function that rebuilds a number; NumPy moved it between versions
    return [argparse.Namespace, np.dtype, scalar, *(type(n) for n in numbers)]


_UNKNOWN = "this is no model file that tcja-deploy knows, or it is damaged"
_KINDS = (
    "known: .tcja and .nir files, PyTorch checkpoints and state dicts, pickled modules with --trust-pickle; what was "
    "exported to ONNX is no source, 'tcja-deploy verify' compares it with its own"
)


def _is_torch_file(path: Path) -> bool:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(n.endswith("data.pkl") for n in archive.namelist())
    with path.open("rb") as stream:
        return stream.read(1) == b"\x80"


_NAMES = ("net", "state_dict", "model", "model_state_dict")
"""Keys under which training scripts save what they trained."""


def _inner_module(content: Any) -> Any:
    """A whole module that was saved under one of the usual names, else the content itself."""
    from torch import nn

    found = [
        content[k] for k in _NAMES if isinstance(content, Mapping) and isinstance(content.get(k), nn.Module)
    ]
    return found[0] if found else content


def _state(content: Any) -> tuple[dict[str, Any], str]:
    """The state dict inside a loaded file, as arrays, and what the file was."""
    import torch

    kind = "state dict"
    if isinstance(content, Mapping) and not _is_state(content):
        named = [k for k in _NAMES if isinstance(content.get(k), Mapping)]
        others = [k for k, v in content.items() if _is_state(v)]
        if named or len(others) == 1:
            content, kind = content[(named or others)[0]], "checkpoint"
        elif content:
            keys = ", ".join(map(str, list(content)[:8]))
            raise FileFormatError(
                f"the file holds a {type(content).__name__} and no state dict under a key that tells which one is meant; its "
                f"keys: {keys}",
                hint=_SAVE,
            )
    if not _is_state(content):
        raise FileFormatError(f"the file holds a {type(content).__name__} and no state dict", hint=_SAVE)
    return {
        str(k): v.detach().cpu().numpy() if v.dtype != torch.bfloat16 else v.float().numpy()
        for k, v in content.items()
    }, kind


_SAVE = "save the checkpoint as torch.save({'net': model.state_dict()}, path)"


def _is_state(content: Any) -> bool:
    """Whether this is a state dict: names of tensors."""
    import torch

    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(v, torch.Tensor) for v in content.values())
    )
