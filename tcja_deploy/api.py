"""The Python interface: load, export, verify. Heavy imports happen inside, so that importing the package is quick."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tcja_deploy.errors import UsageError
from tcja_deploy.reading.limits import out_of_memory_told

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from tcja_deploy.exporters.report import ExportReport
    from tcja_deploy.exporters.target import ExportProgress
    from tcja_deploy.ir import Graph, Kind
    from tcja_deploy.runtime.compare import Agreement

    Batches = Iterable[NDArray[np.float32]]

__all__ = ["export", "load", "verify"]


@out_of_memory_told()
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
    """Read or trace a trained network.

    Args:
        source: A `.tcja` file, a checkpoint of the TCJA authors' scripts (dict with `net`), a state dict in their layout
            (of their TET networks as well; of PyTorch or safetensors), a pickled module (with `trust_pickle`), a `.nir`
            file, a live module of SpikingJelly or Norse, or the code that builds one: `"models.py:build"` or
            `"package.module:Class"`, which is then run.
        arch: Zoo network that the weights belong to, if keys and shapes do not tell.
        timesteps: T, if the weights do not say.
        input_shape: One input frame, `[C, H, W]`; needed for modules.
        input_kind: What the frames hold, `"binary"`, `"count"`, `"graded"` or `"real"`; if not given, what the source
            says; a module takes event counts, or real numbers if it repeats one image over time.
        batch_first: Whether a module takes `[N, T, ...]`; worked out if not given.
        dt: Length of a time step of a `.nir` file, if it does not say; see `nir_file.load.load_nir` for more.
        trust_pickle: Allow a file to run code while it is loaded.
        prove: Run a module beside the graph on made-up windows, and refuse it if they compute different things. `False`
            returns the graph unproven, and its source and every manifest say so.
        weights: File of the weights of a network that code builds; without it, it keeps those that the code gives it.
        weights_key: Which of several state dicts of a file is meant, by the keys that lead to it, such as
            `"state_dict_ema"`; if not given, trained weights come before averaged ones. The graph's `source`
            names what was read.
        settings: Arguments for the code that builds the network; strings are converted as its signature says.

    Returns:
        The graph, time-major: `[T, N, ...]` in.

    Raises:
        FileFormatError: If the file is missing, damaged or of an unknown kind.
        TraceError: If the network cannot be translated (lists every offender), or the graph is proven wrong.
        GraphError: If it breaks a rule of the IR, such as weights that are not finite.
        UsageError: If an argument is missing or contradicts the model.
        CodeError: If named code fails, or builds no network.
    """
    from tcja_deploy.frontend.load import load as implementation

    return implementation(
        source,
        arch=arch,
        timesteps=timesteps,
        input_shape=input_shape,
        input_kind=input_kind,
        batch_first=batch_first,
        dt=dt,
        trust_pickle=trust_pickle,
        prove=prove,
        weights=weights,
        weights_key=weights_key,
        settings=settings,
    )


@out_of_memory_told()
def export(
    graph: str | Path | Graph | nn.Module,
    target: str,
    path: str | Path,
    *,
    data: Batches | None = None,
    verify: bool = True,
    bound: float = 1e-5,
    force: bool = False,
    progress: ExportProgress | None = None,
    loading: Mapping[str, Any] | None = None,
    **options: Any,
) -> ExportReport:
    """Write a network for a target and, by default, verify what was written before it moves into place.

    An artifact that differs from its reference beyond the bound is moved into place as well; the report and the manifest say
    so (`report.agreement.passed`, `parity`), and say where it differs.

    Args:
        graph: What `load` takes, or what it returned.
        target: `"onnx"` (whole windows), `"onnx-step"` (one frame and states), `"lava"` (a bundle for lava-dl)
            or `"nir"`.
        path: File or folder to write.
        data: Frames `[T, n, ...]` to calibrate and verify on; four synthetic samples if not given.
        verify: Compare the artifact with its reference.
        bound: Allowed mismatches per neuron-step.
        force: Replace what is there.
        progress: Called with what is being done, and how many samples or steps of it are done.
        loading: Arguments of `load`, for a model that is not a graph.
        **options: Options of the target: the fields of `OnnxOptions`, `OnnxStepOptions`, `LavaOptions` and `NirOptions` in
            `tcja_deploy.exporters`.

    Raises:
        UsageError: If there is no such target or option, or an argument is of another kind.
        DataError: If the data holds no sample, or frames do not fit.
        ExportError: If the artifact cannot be written.
        UnsupportedError: If the target cannot express the network.
    """
    from tcja_deploy.exporters.targets import find_target

    found = find_target(target)
    _check_batches(data, "data")
    if not Path(path).name:
        raise UsageError(f"{str(path)!r} does not name a file to write", hint="give it a name")
    graph = _graph_of(graph, loading)
    from tcja_deploy.exporters.pipeline import run_export
    from tcja_deploy.exporters.target import unmonitored

    return run_export(
        found,
        graph,
        Path(path),
        data=data,
        verify=verify,
        bound=bound,
        force=force,
        progress=progress or unmonitored,
        **options,
    )


@out_of_memory_told()
def verify(
    artifact: str | Path,
    graph: str | Path | Graph | nn.Module | None = None,
    batches: Batches | None = None,
    *,
    progress: ExportProgress | None = None,
    loading: Mapping[str, Any] | None = None,
    **options: Any,
) -> Agreement:
    """Run an exported artifact beside its reference, spike for spike.

    ONNX models are compared with the sequence runtime (step models with the stream), NIR files with the sequence runtime, Lava
    bundles in the real lava-dl with the integer twin.

    Args:
        artifact: An `.onnx` or `.nir` file, a Lava bundle or a split NIR export; recognised by content.
        graph: The network it was exported from, as for `export`; a Lava bundle holds its own.
        batches: Frames `[T, n, ...]`; four synthetic samples if not given (a Lava bundle's own sample).
        progress: Called with what is being done, and how many samples or steps of it are done.
        loading: Arguments of `load`, for a model that is not a graph.
        **options: Options of the target's verification: the fields of `Bounded`, `OnnxStepVerification`, `LavaVerification` and
            `NirVerification` in `tcja_deploy.exporters`.

    Raises:
        FileFormatError: If the artifact is damaged or was not exported from the graph.
        DataError: If the data holds no sample, or frames do not fit.
        UsageError: If the graph is needed and not given, or an argument is of another kind.
        ToolchainError: If the real Lava is needed and not installed.
    """
    from tcja_deploy.artifacts import artifact_target

    _check_batches(batches, "batches")
    target = artifact_target(Path(artifact))
    network = None if graph is None else _graph_of(graph, loading)
    from tcja_deploy.exporters.pipeline import run_verification
    from tcja_deploy.exporters.target import unmonitored

    return run_verification(
        target, Path(artifact), network, batches, progress=progress or unmonitored, **options
    )


def _graph_of(model: str | Path | Graph | nn.Module, loading: Mapping[str, Any] | None) -> Graph:
    """The graph of a model in any form.

    Raises:
        UsageError: There are arguments for loading, and the model is a graph already.
    """
    from tcja_deploy.ir import Graph

    if not isinstance(model, Graph):
        return load(model, **(loading or {}))
    if loading:
        raise UsageError(
            f"{', '.join(loading)}: for reading a model, and this graph has been read already",
            hint="pass them to load",
        )
    return model


def _check_batches(batches: object, name: str) -> None:
    """Refuse a single array, which iteration would take apart along T."""
    if hasattr(batches, "shape"):
        raise UsageError(
            f"{name} takes several arrays of frames, not a single array", hint=f"write {name}=[frames]"
        )
