"""What a target is: a record of its name, its options, and the functions that translate, recognise and verify.

Nothing heavy is imported here or where targets are defined, because the command line reads the options of every target;
the functions import what they need when they are called. docs/how-to/add-a-target.md explains how to add a target.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from tcja_deploy.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tcja_deploy.exporters.frames import FrameBatches
    from tcja_deploy.exporters.report import ExportReport, NodeReport
    from tcja_deploy.ir import Graph
    from tcja_deploy.passes import Prepared
    from tcja_deploy.runtime.agreement import Agreement
    from tcja_deploy.runtime.reference import Reference

__all__ = [
    "Bounded",
    "Check",
    "Engined",
    "ExportProgress",
    "Opened",
    "Ran",
    "Target",
    "Translation",
    "check_options",
    "given_options",
    "option",
    "unmonitored",
]

ExportProgress = Callable[[str, int], None]
"""Called with a description of the current work and the number of samples or steps done."""


def unmonitored(doing: str, done: int) -> None:
    """Ignore progress."""


Reads = Literal["profile", "labelled recordings"]


def option(help: str, *, flag: str = "", reads: Reads | None = None) -> dict[str, Any]:
    """Metadata of an options field that is also a command-line option; fields without it are for Python only.

    Args:
        help: One sentence for `--help`.
        flag: An additional name of the option on the command line, such as `"-D"`.
        reads: What the file contains that the command line takes instead of the value itself.
    """
    return {"help": help, "flag": flag, "reads": reads}


@dataclass(frozen=True)
class Bounded:
    """Options of a verification that tolerates rounding.

    Attributes:
        bound: Allowed mismatches per neuron-step: sums in another order flip a spike where the membrane lies within rounding
            of the threshold, a few in a million.

    Raises:
        UsageError: If the bound is not a share, 0 to 1.
    """

    bound: float = field(
        default=1e-5, metadata=option("Allowed mismatching spikes per neuron-step; 1e-5 if not given.")
    )

    def __post_init__(self) -> None:
        if not 0 <= self.bound <= 1:
            raise UsageError(f"a bound (--bound) is a share of neuron-steps, 0 to 1, got {self.bound:g}")


@dataclass(frozen=True)
class Engined:
    """Options that choose what runs the network itself.

    Attributes:
        engine: `"torch"`, the sequence runtime; `"events"`, the event engine; `"auto"`, the faster of the two; `"onnx"`,
            onnxruntime, where it does not run the artifact itself. See `runtime.engines.choose` and `runtime.reference`.
    """

    engine: Literal["auto", "torch", "events", "onnx"] = field(
        default="auto", metadata=option("What runs the network itself: auto, torch, events or onnx.")
    )


@dataclass(frozen=True)
class Check:
    """What verifying a staged artifact found.

    Attributes:
        agreement: Agreement of the artifact with its reference (the parity).
        comparisons: What else was compared, by name.
        notes: What the user should know about them, in sentences.
        runtime: What ran the artifact, if it was not the target's usual runtime.
    """

    agreement: Agreement
    comparisons: Mapping[str, Agreement] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    runtime: str = ""


class Translation(ABC):
    """A network in the form that a target writes, before anything is written.

    Attributes:
        nodes: Fate of each node of the trained network.
        notes: Assumptions and approximations, in sentences.
        about: The target's own section of the manifest.
        versions: Versions of the programs involved, other than this one, Python, NumPy and torch.
        comparisons: Comparisons made during translation, by name.
        reference: The folded network as the artifact's reference, with which the verification measures the effect of
            folding on the golden sample; `None` for targets with another reference.
    """

    nodes: tuple[NodeReport, ...] = ()
    notes: tuple[str, ...] = ()
    about: Mapping[str, Any] = {}
    versions: Mapping[str, str] = {}
    comparisons: Mapping[str, Agreement] = {}
    reference: Reference | None = None

    @abstractmethod
    def write(self, artifact: Path) -> None:
        """Write the artifact: the file, or the files inside the folder, which exists and is empty."""

    @abstractmethod
    def golden(self, sample: NDArray[np.float32]) -> Mapping[str, NDArray[Any]]:
        """Arrays of the golden sample: the input `[T, 1, ...]` in the artifact's layout, and the results it must give."""

    def begin_check(self, artifact: Path, frames: FrameBatches) -> None:  # noqa: B027 - most have nothing to begin
        """Begin what `check` does, with what does not need the golden sample; called as soon as the artifact is written."""

    @abstractmethod
    def check(self, artifact: Path, frames: FrameBatches, bound: float, progress: ExportProgress) -> Check:
        """Compare the staged artifact with its reference; its manifest and golden sample exist already."""

    def report(self, report: ExportReport) -> ExportReport:
        """The report, with what is specific to this target added."""
        return report


@dataclass(frozen=True, eq=False)
class Ran:
    """What an artifact computed on a batch.

    Attributes:
        output: The network's output: `[N, K]`, or `[T, N, K]` if the network has no readout over time.
        seconds: Seconds of the computation alone, where every call also starts the runtime; `None` where the call does
            nothing else.
    """

    output: NDArray[np.floating[Any]]
    seconds: float | None = None


Opened = Callable[["NDArray[np.float32]"], Ran]
"""An opened artifact: runs frames `[T, N, ...]` and gives the output alone."""

OptionsT = TypeVar("OptionsT")
VerificationT = TypeVar("VerificationT")


@dataclass(frozen=True)
class Target(Generic[OptionsT, VerificationT]):
    """One target.

    Attributes:
        name: Name of the target on the command line and in manifests.
        title: Its name in tables and on pages.
        about: What it is, in one phrase.
        suffix: Suffix of the file or folder, including the dot.
        runtime: What runs the artifact, as tables name it.
        options: Frozen dataclass of the options of an export; raises `UsageError` for values that make no sense.
        verification: Frozen dataclass of the options of a verification.
        translate: Translates: (network, frames, options, progress) -> translation.
        recognise: Whether an existing file or folder is an artifact of this target, judged by its content.
        verify: Compares an artifact with its reference: (artifact, network, frames, options, progress) -> agreement.
        open: Opens an artifact that this program has just written: (artifact, network) -> context manager. Raises
            `ToolchainError` if its runtime is not installed; `None` if no runtime can be timed.
        folder: Whether the artifact is a folder, given the options.
        beside: Names of the other files that a translation may `write` next to a file called `name`, in the order in which
            they move. What an earlier export left under one of them is removed when another one takes its place.
        own_input: For artifacts that contain their own reference: T and the shape of one frame. `verify` then gets `None`
            for the network, and for the frames the batches as they were given, or `None`.
    """

    name: str
    title: str
    about: str
    suffix: str
    runtime: str
    options: type[OptionsT]
    verification: type[VerificationT]
    translate: Callable[[Prepared, FrameBatches, OptionsT, ExportProgress], Translation]
    recognise: Callable[[Path], bool]
    verify: Callable[..., Agreement]
    open: Callable[[Path, Graph], AbstractContextManager[Opened]] | None = None
    folder: Callable[[OptionsT], bool] = lambda options: False
    beside: Callable[[str], tuple[str, ...]] = lambda name: ()
    own_input: Callable[[Path], tuple[int, tuple[int, ...]]] | None = None


def check_options(kind: type[Any], names: Iterable[str], whose: str) -> None:
    """Whether a target has options of these names.

    Raises:
        UsageError: If an option is unknown.
    """
    known = [f.name for f in fields(kind)]
    if unknown := [name for name in names if name not in known]:
        raise UsageError(
            f"{whose} has no option {', '.join(unknown)}", hint=f"it has {', '.join(known) or 'none'}"
        )


def given_options(kind: type[OptionsT], given: Mapping[str, Any], whose: str) -> OptionsT:
    """Options from their names and values.

    Raises:
        UsageError: If an option is unknown, or a value makes no sense.
    """
    check_options(kind, given, whose)
    return kind(**given)
