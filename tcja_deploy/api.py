"""The Python interface: load. Heavy imports happen inside, so that importing the package is quick."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tcja_deploy.library.task import task

if TYPE_CHECKING:
    from torch import nn

    from tcja_deploy.ir import Graph, Kind

__all__ = ["load"]


@task
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
    settings: Mapping[str, object] | None = None,
    progress: bool = True,
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
        progress: Show a progress bar if the work takes longer than two seconds.

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
    from tcja_deploy.library.progress import progress_bar

    with progress_bar("loading the model", shown=progress)(None):
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
