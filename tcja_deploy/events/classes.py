"""Which output of a network stands for which class, as the code that trained it numbered them.

SpikingJelly and torchvision sort the names of the class folders as text (so that of the eleven classes of DVS128
Gesture '10' has label 2). A label here depends on the names that exist, never on which of them happen to be there.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tcja_deploy.errors import DataError, UsageError

__all__ = ["KNOWN", "LabelOrder", "Numbering", "number_classes", "read_classes"]

LabelOrder = Literal["text", "number"]

_LONGEST_LIST = 2**20

_CALTECH = """
accordion airplanes anchor ant barrel bass beaver binocular bonsai brain brontosaurus buddha butterfly camera cannon
car_side ceiling_fan cellphone chair chandelier cougar_body cougar_face crab crayfish crocodile crocodile_head cup
dalmatian dollar_bill dolphin dragonfly electric_guitar elephant emu euphonium ewer ferry flamingo flamingo_head
garfield gerenuk gramophone grand_piano hawksbill headphone hedgehog helicopter ibis inline_skate joshua_tree kangaroo
ketch lamp laptop llama lobster lotus mandolin mayfly menorah metronome minaret nautilus octopus okapi pagoda panda
pigeon pizza platypus pyramid revolver rhino rooster saxophone schooner scissors scorpion sea_horse snoopy soccer_ball
stapler starfish stegosaurus stop_sign strawberry sunflower tick trilobite umbrella watch water_lilly wheelchair
wild_cat windsor_chair wrench yin_yang
"""

KNOWN: dict[str, tuple[str, ...]] = {
    "n-mnist": tuple(map(str, range(10))),
    "dvs128-gesture": tuple(sorted(map(str, range(11)))),
    "cifar10-dvs": (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
    "n-caltech101": ("BACKGROUND_Google", "Faces_easy", "Leopards", "Motorbikes", *_CALTECH.split()),
}
"""The class folders of known data sets in the order of their labels, as SpikingJelly numbers them."""


@dataclass(frozen=True, slots=True)
class Numbering:
    """Labels of class names.

    Attributes:
        names: The name of each label; None where classes cannot be determined from outputs.
        labels: The label of each name that is there; empty where `names` is None.
        reason: Why there are no labels; empty where there are.
        basis: Where the numbers come from, in a few words.
    """

    names: tuple[str, ...] | None
    labels: dict[str, int]
    reason: str = ""
    basis: str = ""

    def mapping(self, most: int = 12) -> str:
        """The classes that are there as `name -> label`, in the order of the labels; at most `most` of them."""
        pairs = [
            f"{name} -> {label}" for name, label in sorted(self.labels.items(), key=lambda item: item[1])
        ]
        if len(pairs) > most:
            pairs[most - 1 : -1] = ["..."]
        return ", ".join(pairs)


def number_classes(
    present: Iterable[str],
    *,
    outputs: int | None = None,
    classes: Sequence[str] | None = None,
    order: LabelOrder | None = None,
    usual: LabelOrder = "text",
) -> Numbering:
    """Number the classes that a data set holds.

    - with `classes`, a label is the place in that list;
    - numeric names, all of which lie in 0 .. K-1 for K outputs (or in 1 .. K, where K is among them): the place
      among all those numbers, sorted in the given order, whichever of them are there;
    - names that all belong to one known data set of K classes: their place there;
    - other names: the place among the sorted names, if there are K of them; otherwise no labels, with the reason.

    Without `outputs` the names that are there are all there are.

    Args:
        present: Names of the classes of which there are recordings.
        outputs: Outputs K of the network; None if unknown.
        classes: All names in the order of their labels.
        order: How names are sorted; `usual` if None.
        usual: The order of the code that usually trains on such a data set.

    Raises:
        UsageError: `classes` does not have one name per output, or names a class twice.
        DataError: A class is not in `classes`.
    """
    names = sorted(set(present))
    if classes is not None:
        return _listed(names, tuple(classes), outputs)
    if outputs is not None:
        numbers = _numbers(names, outputs)
        if numbers is not None:
            ordered = _sorted(numbers, order or usual)
            basis = f"place among '{numbers[0]}' .. '{numbers[-1]}' sorted as {order or usual}"
            return _numbered(names, ordered, basis)
        for title, known in KNOWN.items():
            if len(known) == outputs and set(names) <= set(known):
                return _numbered(names, known, f"the classes of {title}")
        if len(names) != outputs:
            count = f"{len(names)} class{'es' * (len(names) != 1)}"
            return Numbering(
                None,
                {},
                f"{count} ({', '.join(names[:4])}{', ...' * (len(names) > 4)}) and {outputs} outputs: it is not known which "
                "output stands for which class, so no accuracy is counted; --classes gives the names in order",
            )
    return _numbered(names, _sorted(names, order or usual), f"sorted as {order or usual}")


def read_classes(given: str, *, order: LabelOrder | None = None) -> tuple[str, ...]:
    """The class names in the order of their labels.

    They are those of a known data set, or come from a text file (one per line) or the sub-folders of a training set.

    Args:
        given: A name in `KNOWN`, a file or a folder.
        order: How the names of folders are sorted; as text if None.

    Raises:
        UsageError: `given` is none of the three, or a name appears twice.
        DataError: It cannot be read.
    """
    path = Path(given)
    if path.is_dir():
        try:
            found = [entry.name for entry in os.scandir(path) if entry.is_dir()]
        except OSError as error:
            raise DataError(f"cannot be listed: {error.strerror or error}", where=given) from error
        names = _sorted(
            [name for name in found if not name.startswith(".") and name != "__MACOSX"], order or "text"
        )
    elif path.is_file():
        names = _lines(path)
    elif given in KNOWN:
        names = KNOWN[given]
    else:
        raise UsageError(
            "neither a file of class names, nor a training set's folder, nor a known data set",
            where=given,
            hint=f"the known data sets are {', '.join(KNOWN)}",
        )
    if not names:
        raise UsageError(
            "holds no class names", where=given, hint="write one name per line, in the order of the labels"
        )
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise UsageError(f"the class '{twice[0]}' appears twice", where=given, hint="name each class once")
    return names


def _lines(path: Path) -> tuple[str, ...]:
    try:
        if path.stat().st_size > _LONGEST_LIST:
            raise DataError(
                f"is longer than {_LONGEST_LIST} bytes, too long for a list of classes", where=str(path)
            )
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read as text: {error}", where=str(path)) from error
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _listed(names: Sequence[str], classes: tuple[str, ...], outputs: int | None) -> Numbering:
    if outputs is not None and len(classes) != outputs:
        raise UsageError(
            f"--classes names {len(classes)} classes; the model has {outputs} outputs",
            hint="name one class per output, in the order of the labels",
        )
    strange = [name for name in names if name not in classes]
    if strange:
        raise DataError(
            f"the class '{strange[0]}' is not among the {len(classes)} of --classes",
            hint=f"they begin with {', '.join(classes[:4])}; names are compared character by character",
        )
    return _numbered(names, classes, "as listed by --classes")


def _numbered(names: Iterable[str], ordered: Sequence[str], basis: str) -> Numbering:
    place = {name: label for label, name in enumerate(ordered)}
    return Numbering(tuple(ordered), {name: place[name] for name in names}, basis=basis)


def _numbers(names: Sequence[str], outputs: int) -> list[str] | None:
    """All numbers of the classes in ascending order, if the names are some of them; None if they are not."""
    if not names or not all(re.fullmatch(r"[0-9]{1,9}", name) for name in names):
        return None
    width = max(map(len, names)) if any(len(name) > 1 and name[0] == "0" for name in names) else 1
    for first in (0, 1):
        numbers = [f"{value:0{width}d}" for value in range(first, first + outputs)]
        if set(names) <= set(numbers):
            return numbers
    return None


def _sorted(names: Iterable[str], order: LabelOrder) -> tuple[str, ...]:
    if order == "number":
        return tuple(sorted(names, key=_by_number))
    return tuple(sorted(names))


def _by_number(name: str) -> tuple[bool, int, str, str]:
    """Numbers by their size, however many digits they have, then other names."""
    number = name.isascii() and name.isdecimal()
    digits = name.lstrip("0") if number else ""
    return not number, len(digits), digits, name
