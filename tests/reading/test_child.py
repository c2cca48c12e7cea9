"""The process for foreign parsers: within its limits, killed with all it started, and silent."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tcja_deploy.errors import FileFormatError, GraphError
from tcja_deploy.reading.child import Child, ForeignError
from tcja_deploy.reading.limits import Limits, limited
from tcja_deploy.reading.messages import Message


def odd_worker() -> Callable[[Message], Message]:
    """Does what it is asked for, which a parser should not do."""

    def answer(message: Message) -> Message:
        facts, arrays = message
        what = facts["do"]
        if what == "echo":
            print("on standard output")
            os.write(1, b"on descriptor 1")
            return facts, arrays
        if what == "loop":
            started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            Path(facts["pid"]).write_text(str(started.pid))
            while True:
                pass
        if what == "grow":
            kept = [np.empty(1 << 24) for _ in range(1 << 10)]
            return {"kept": len(kept)}, {}
        if what == "crash":
            os.kill(os.getpid(), 11)
        if what == "raise":
            raise GraphError("no such graph", where="there", hint="another")
        raise KeyError("foreign")

    return answer


WORK = f"{__name__}:odd_worker"


@pytest.fixture
def child() -> Child:
    sys.path.insert(0, str(Path(__file__).parent))
    with limited(Limits(memory=1 << 30, seconds=2.0)):
        made = Child(WORK, where="x.bin", what="the parser")
    sys.path.pop(0)
    return made


def test_answers(child: Child) -> None:
    arrays = {
        "a": np.arange(6).reshape(2, 3),
        "empty": np.zeros((0, 2), np.float32),
        "flag": np.array(True),
        "large": np.ones(1 << 20),
    }
    with child:
        for _ in range(2):
            facts, back = child.ask(({"do": "echo", "n": [1, "é"]}, arrays))
            assert facts == {"do": "echo", "n": [1, "é"]}
            assert back.keys() == arrays.keys()
            for name, array in arrays.items():
                np.testing.assert_array_equal(back[name], array)
                assert back[name].dtype == array.dtype
        with pytest.raises(GraphError, match="no such graph") as caught:
            child.ask(({"do": "raise"}, {}))
        assert (caught.value.where, caught.value.hint) == ("there", "another")
        with pytest.raises(ForeignError, match="KeyError: 'foreign'"):
            child.ask(({"do": "other"}, {}))
        assert child.ask(({"do": "echo"}, {}))[0] == {"do": "echo"}  # still there


def test_a_loop_ends_with_all_that_it_started(child: Child, tmp_path: Path) -> None:
    begin = time.monotonic()
    with child, pytest.raises(FileFormatError, match="the parser takes more than 2 s") as caught:
        child.ask(({"do": "loop", "pid": str(tmp_path / "pid")}, {}))
    assert time.monotonic() - begin < 30
    assert caught.value.where == "x.bin"
    assert "--limits" in caught.value.hint
    started = int((tmp_path / "pid").read_text())
    time.sleep(0.2)
    state = Path(f"/proc/{started}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


@pytest.mark.parametrize(("do", "said"), [("grow", "needs more than 1 GB"), ("crash", "crashes on this")])
def test_growth_and_crashes_are_told(child: Child, do: str, said: str) -> None:
    with child, pytest.raises(FileFormatError, match=said):
        child.ask(({"do": do}, {}))


def test_it_ends_with_its_parent() -> None:
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from tcja_deploy.reading.child import Child; "
        "c = Child('test_child:odd_worker', where='', what=''); c.ask(({'do': 'echo'}, {})); "
        "print(c._process.pid, flush=True); os._exit(0)"
    )
    pid = int(
        subprocess.run(
            [sys.executable, "-c", code, str(Path(__file__).parent)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    for _ in range(100):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("it lives on")
