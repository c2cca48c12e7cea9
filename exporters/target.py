"""What a target is: a value with a name, options, and the functions that translate, recognise and verify.

Nothing heavy is imported here or where targets are defined, because the command line reads all of them for its options; their
functions import what they need when they are called. How a target is added: docs/how-to/add-a-target.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
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
    from tcja_deploy.runtime.compare import Agreement
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
    "given_options",
    "option",
    "unmonitored",
]

ExportProgress = Callable[[str, int], None]
"""Called with what is being done, and how many samples or steps of it are done."""


def unmonitored(doing: str, done: int) -> None:
    """Progress that nobody looks at."""


Reads = Literal["profile", "labelled recordings"]


def option(help: str, *, flag: str = "", reads: Reads | None = None) -> dict[str, Any]:
    """Metadata of a field of options that the command line offers as well; fields without it are for Python alone.

    Args:
        help: One sentence for `--help`.
        flag: More names of the option on the command line, such as `"-D"`.
        reads: What the file holds that the command line takes for it, instead of the value itself.
    """
    return {"help": help, "flag": flag, "reads": reads}


@dataclass(frozen=True)
class Bounded:
    """Options of a verification up to rounding.

    Attributes:
        bound: Allowed mismatches per neuron-step: sums in another order flip a spike where the membrane lies within rounding
            of the threshold, a few in a million.
    """

    bound: float = field(
        default=1e-5, metadata=option("Allowed mismatching spikes per neuron-step; 1e-5 if not given.")
    )

    def __post_init__(self) -> None:
        if not 0 <= self.bound <= 1:
            raise UsageError(f"a bound (--bound) is a share of neuron-steps, 0 to 1, got {self.bound:g}")


@dataclass(frozen=True)
class Engined:
    """Options of what runs the network as it was given.

    Attributes:
        engine: `"torch"`, the sequence runtime; `"events"`, the event engine; `"auto"`, the one of these that is faster;
            `"onnx"`, onnxruntime, where it does not run the artifact. See `runtime.engines.choose` and `runtime.reference`.
    """

    engine: Literal["auto", "torch", "events", "onnx"] = field(
        default="auto", metadata=option("What runs the network itself: auto, torch, events or onnx.")
    )


@dataclass(frozen=True)
class Check:
    """What verifying a staged artifact found.

    Attributes:
        agreement: The artifact against its reference: the parity.
        comparisons: What else was compared, by name.
        notes: What the user should know of them, in sentences.
        runtime: What ran the artifact, if it is not the target's.
    """

    agreement: Agreement
    comparisons: Mapping[str, Agreement] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    runtime: str = ""


class Translation(ABC):
    """A network in the form of a target, before anything is written.

    Attributes:
        nodes: Fate of each node of the trained network.
        notes: Assumptions and approximations, in sentences.
        about: The target's own section of the manifest.
        versions: Of the programs that took part, besides this one, Python, NumPy and torch.
        comparisons: What was compared in order to translate, by name.
        reference: The folded network as the artifact's reference, in which the effect of folding on the golden sample is
            measured with the verification; `None` for targets whose reference is another one.
    """

    nodes: tuple[NodeReport, ...] = ()
    notes: tuple[str, ...] = ()
    about: Mapping[str, Any] = {}
    versions: Mapping[str, str] = {}
    comparisons: Mapping[str, Agreement] = {}
    reference: Reference | None = None

    def beside(self, name: str) -> tuple[str, ...]:
        """Names of more files that `write` makes beside a file called `name`, in the order in which they move."""
        return ()

    @abstractmethod
    def write(self, artifact: Path) -> None:
        """Write the artifact: the file, or the files within the folder, which is there and empty."""

    @abstractmethod
    def golden(self, sample: NDArray[np.float32]) -> Mapping[str, NDArray[Any]]:
        """Arrays of the golden sample: `sample` `[T, 1, ...]` as the artifact takes it, and what it has to give."""

    @abstractmethod
    def check(self, artifact: Path, frames: FrameBatches, bound: float, progress: ExportProgress) -> Check:
        """Compare the staged artifact, its manifest and golden sample beside it, with its reference."""

    def report(self, report: ExportReport) -> ExportReport:
        """The report, with what only this target can tell."""
        return report


@dataclass(frozen=True, eq=False)
class Ran:
    """What an artifact computed on a batch.

    Attributes:
        output: Shaped like the network's output: `[N, K]`, or `[T, N, K]` where it streams.
        seconds: What the work itself took, if starting the runtime is a part of every call; `None` if the call is the work.
    """

    output: NDArray[np.floating[Any]]
    seconds: float | None = None


Opened = Callable[["NDArray[np.float32]"], Ran]
"""An artifact, open: runs frames `[T, N, ...]` for the output alone."""

OptionsT = TypeVar("OptionsT")
VerificationT = TypeVar("VerificationT")


@dataclass(frozen=True)
class Target(Generic[OptionsT, VerificationT]):
    """One target.

    Attributes:
        name: Of the target, on the command line and in manifests.
        title: As tables and pages call it.
        about: What it is, in a phrase.
        suffix: Of the file or folder, with its dot.
        runtime: What runs the artifact, for tables.
        options: Frozen dataclass of the options of an export; raises `UsageError` for values that make no sense.
        verification: Frozen dataclass of the options of a verification.
        translate: Makes a translation from the network, the frames and the options.
        recognise: Whether a file or folder, which exists, is an artifact of this target, by its content.
        verify: Compares an artifact with its reference: (artifact, network, frames, options, progress) -> agreement.
        open: Opens an artifact that this program has just written, with what its runtime needs: (artifact, network) -> context.
            Raises `ToolchainError` where that runtime is not there; `None` if there is none that could be timed.
        folder: Whether the artifact is a folder, with these options.
        own_input: For artifacts that hold their own reference: T and the shape of the frames that one takes; `verify` then
            gets `None` for the network, and the batches as they were given, or `None`, for the frames.
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
    own_input: Callable[[Path], tuple[int, tuple[int, ...]]] | None = None


def given_options(kind: type[OptionsT], given: Mapping[str, Any], whose: str) -> OptionsT:
    """Options from their names and values.

    Raises:
        UsageError: If there is no option of a name, or a value makes no sense.
    """
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    if unknown := [name for name in given if name not in known]:
        raise UsageError(
            f"{whose} has no option {', '.join(unknown)}", hint=f"it has {', '.join(known) or 'none'}"
        )
    return kind(**given)
