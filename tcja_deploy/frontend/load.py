"""One door for every kind of model: recognised by content, never by file name, and read without running code from it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tcja_deploy.errors import DeployError, FileFormatError, UsageError
from tcja_deploy.files import path_status, sha256
from tcja_deploy.frontend.named_code import CodeName, built, code_name, importable
from tcja_deploy.frontend.size import within_limits
from tcja_deploy.frontend.state_dicts import choose, find_module, holds_state_dict
from tcja_deploy.frontend.weights import Arrays, arrays, authors_keys
from tcja_deploy.ir import Graph, GraphBuilder, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.ir_file import is_tcja_file, load_graph
from tcja_deploy.reading.hdf5 import is_hdf5
from tcja_deploy.text import printable
from tcja_deploy.torch_file.machine import Foreign
from tcja_deploy.torch_file.read import read_weights

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
    weights: str | Path | None = None,
    weights_key: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Graph:
    """Read or trace a trained network; arguments, result and errors as for `tcja_deploy.load`, which calls it."""
    asked = _Asked(timesteps, input_shape, _kind(input_kind), batch_first, prove)
    code = code_name(source) if isinstance(source, str | Path) else None
    if code is not None:
        _refuse("network that is built by code", arch=arch, dt=dt)
        return _from_code(code, asked, weights, weights_key, settings or {})
    _refuse(
        "model that is not named by its code",
        "has no use for",
        hint="name the class or function that builds it: models.py:NAME --weights FILE --set NAME=VALUE",
        weights=weights,
        settings=settings or None,
    )
    if not isinstance(source, str | Path):
        _refuse("model in memory", "has no use for", weights_key=weights_key)
        if type(source).__name__ == "NIRGraph":
            from tcja_deploy.nir_file.load import load_nir

            return load_nir(source, timesteps, dt=dt, input_kind=asked.kind)
        _refuse("module", arch=arch, dt=dt)
        return asked.trace(source, {})
    path = _existing(Path(source), "a model is one file")
    with _in_file(path):
        if is_tcja_file(path):
            _refuse(
                ".tcja file", arch=arch, timesteps=timesteps, input_shape=input_shape, input_kind=input_kind,
                batch_first=batch_first, dt=dt, weights_key=weights_key,
            )  # fmt: skip
            return load_graph(path)
        if is_hdf5(path):
            from tcja_deploy.nir_file.load import load_nir

            _refuse(
                "NIR file",
                arch=arch,
                input_shape=input_shape,
                batch_first=batch_first,
                weights_key=weights_key,
            )
            return load_nir(path, timesteps, dt=dt, input_kind=asked.kind)
        return _from_weights(path, asked, arch, dt, weights_key, trust_pickle)


_KINDS = (
    "known: .tcja and .nir files, PyTorch checkpoints and state dicts, safetensors, pickled modules with --trust-pickle, and "
    "code that builds a network, models.py:NAME; what was exported to ONNX is not a source; 'tcja-deploy verify' compares it "
    "with its own"
)


class _Asked(NamedTuple):
    """What was said about a network that is traced or whose layout is read off its weights."""

    timesteps: int | None
    input_shape: tuple[int, ...] | None
    kind: Kind | None
    batch_first: bool | None
    prove: bool

    def trace(self, module: nn.Module, source: dict[str, str]) -> Graph:
        """The graph of a live module."""
        from tcja_deploy.frontend.trace import trace

        return trace(
            module, timesteps=self.timesteps, input_shape=self.input_shape, input_kind=self.kind,
            batch_first=self.batch_first, source=source, prove=self.prove,
        )  # fmt: skip


def _from_code(
    code: CodeName, asked: _Asked, weights: str | Path | None, key: str | None, settings: Mapping[str, Any]
) -> Graph:
    """The graph of a network that named code builds, with weights from a file.

    Without a file, the network has the weights that the code gives it, which the graph's `source` tells.
    """
    if weights is None:
        _refuse("network without a file of weights", "has no use for", weights_key=key)
    with built(code, settings) as (network, facts):
        if weights is None:
            facts["weights"] = "as the code makes them"
        else:
            from tcja_deploy.frontend.strict import load_strictly

            path = _existing(Path(weights), "weights are one file")
            with _in_file(path):
                keep = any(k.endswith("_orig") for k in network.state_dict())
                state, said = _state(read_weights(path), key, modules=True, keep_pruned=keep)
                facts |= {**_file_facts(path), **said, **load_strictly(network, state)}
        return asked.trace(network, facts)


def _from_weights(
    path: Path, asked: _Asked, arch: str | None, dt: float | None, key: str | None, trust: bool
) -> Graph:
    """The graph of a file of PyTorch: of a whole module where that is allowed, else by the layout of its state dict."""
    try:
        content = read_weights(path)
    except FileFormatError as error:
        error.hint = error.hint or _KINDS
        raise
    module = find_module(content)
    if module is None and isinstance(content, Foreign) and not holds_state_dict(content):
        module = ("", content)
    if module is not None and key is None:
        name, found = module
        _refuse("pickled module", arch=arch, dt=dt)
        if not trust:
            raise FileFormatError(
                f"this file holds Python objects beyond plain weights ({found.name}); loading them would run code from the "
                "file",
                hint="pass --trust-pickle if you trust whoever made the file; or name the code of the network and take the "
                f"weights alone, which runs nothing from the file: models.py:NAME --weights {path.name}",
            )
        return asked.trace(_unpickled(path, name), {**_file_facts(path), "format": "pickled module"})
    from tcja_deploy.frontend.checkpoint import from_state

    _refuse("checkpoint", batch_first=asked.batch_first, dt=dt)
    state, said = _state(content, key)
    state, taken_off = authors_keys(state)
    facts = {**_file_facts(path), "format": "checkpoint" if said.get("weights_key") else "state dict"}
    return _with_kind(
        from_state(
            state, arch=arch, timesteps=asked.timesteps, input_shape=asked.input_shape,
            source={**facts, **said, **taken_off},
        ),
        asked.kind,
    )  # fmt: skip


def _state(
    content: Any, key: str | None, *, modules: bool = False, keep_pruned: bool = False
) -> tuple[Arrays, dict[str, str]]:
    """The weights to use, and what the graph's source says about the choice."""
    chosen = choose(content, key, modules=modules)
    state, facts = arrays(chosen.entries, keep_pruned=keep_pruned)
    if chosen.others:
        facts = {"weights_not_read": ", ".join(p or "(the file itself)" for p in chosen.others[:8]), **facts}
    return state, ({"weights_key": chosen.path, **facts} if chosen.path else facts)


def _existing(path: Path, wanted: str) -> Path:
    """The path, if there is a file.

    Raises:
        FileFormatError: If there is none.
    """
    status = path_status(path)
    if status != "file":
        said = {"missing": "there is no such file", "folder": f"this is a folder; {wanted}"}
        raise FileFormatError(
            said.get(status, "this is a device, FIFO or socket, not a file"), where=str(path)
        )
    return path


def _file_facts(path: Path) -> dict[str, str]:
    return {"file": printable(path.name), "file_sha256": sha256(path)}


def _with_kind(graph: Graph, kind: Kind | None) -> Graph:
    """The graph with frames of another signal kind, where that was said; the kinds of all values follow."""
    if kind is None or graph.input.signal.kind == kind:
        return graph
    builder = GraphBuilder(graph.T)
    for node in graph:
        op = replace(node.op, kind=kind) if isinstance(node.op, ir.Input) else node.op
        builder.add(node.name, op, *node.inputs)
    return builder.finish(graph.output, graph.source)


@contextmanager
def _in_file(path: Path) -> Iterator[None]:
    """Errors raised within it name the file."""
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


def _refuse(kind: str, verb: str = "already fixes", hint: str = "", **arguments: object) -> None:
    """Arguments that a source has no use for are mistakes, not to be ignored."""
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        verb = "has no use for" if given == ["dt"] else verb
        raise UsageError(f"a {kind} {verb} {', '.join(given)}", hint=hint)


def _unpickled(path: Path, key: str) -> Any:
    """The module of a file whose code may run, or the one under a key.

    Raises:
        FileFormatError: If it cannot be built.
    """
    import torch

    try:
        with importable(Path.cwd()), warnings.catch_warnings():
            # torch's advice on pickle protocols; what matters is raised below
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=False)
    except (AttributeError, ImportError) as error:
        raise FileFormatError(
            f"the pickled object cannot be built ({error})",
            hint="the module's class must be importable: run in its project's folder or set PYTHONPATH; a class of the "
            "script that saved it (__main__) exists only there: pass the live module to tcja_deploy.load in that script",
        ) from error
    except Exception as error:  # code of the file may raise anything
        raise FileFormatError(
            f"the pickled object cannot be built ({type(error).__name__}: {error})"
        ) from error
    from torch import nn

    module = content[key] if key else content
    if not isinstance(module, nn.Module):
        raise FileFormatError(f"the file holds a {type(module).__name__}, not a module")
    return module
