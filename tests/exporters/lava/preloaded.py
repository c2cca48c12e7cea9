"""Lava for many small runs: a process imports lava-dl once, and each run is a fork of it.

`PreloadedLava.run` takes the place of `tcja_deploy.exporters.lava.driver.run_lava`, so that `verify_bundle` compares what it
always compares; what only the driver does (environment, memory, timeouts, clean ends) is tested in `test_driver.py`.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from tcja_deploy.exporters.lava import environment
from tcja_deploy.exporters.lava.bundle import Bundle
from tcja_deploy.exporters.lava.driver import LavaRun

__all__ = ["PreloadedLava"]

TIMEOUT = 600.0


class PreloadedLava:
    """A context in which bundles are run by forks of one process.

    Args:
        python: Lava's interpreter.
    """

    def __init__(self, python: Path) -> None:
        self.python = python

    def __enter__(self) -> PreloadedLava:
        variables = environment.clean_variables() | {"CUDA_VISIBLE_DEVICES": ""}
        variables |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        script = Path(__file__).with_name("preloaded_run.py")
        self.server = subprocess.Popen(
            [str(self.python), str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=variables,
        )
        return self

    def __exit__(self, *failure: object) -> None:
        self.server.stdin.close()  # its loop ends
        self.server.wait()
        self.server.stdout.close()

    def run(self, bundle: Bundle, payload: np.ndarray, *, fast_conv: bool = False, **_: object) -> LavaRun:
        """What Lava makes of windows of integers `[T, N, ...]`: values `[T, N, ...]` of every stage."""
        with tempfile.TemporaryDirectory(prefix="tcja-lava-") as name:
            folder = Path(name)
            np.save(folder / "payload.npy", payload.astype(np.int32))
            command = [str(folder / "log"), str(bundle.path.resolve() / "runner" / "run_bundle.py")]
            command += ["--input", str(folder / "payload.npy"), "--output", name, "--timeout", str(TIMEOUT)]
            print(json.dumps([*command, *["--fast-conv"] * fast_conv]), file=self.server.stdin, flush=True)
            answer = next((line for line in self.server.stdout if line.startswith("code ")), "no answer")
            assert answer == "code 0\n", (answer, (folder / "log").read_text(errors="replace")[-3000:])
            about = json.loads((folder / "result.json").read_text())
            stages = {}
            for index, stage in enumerate(bundle.network.stages):
                values = np.load(folder / f"stage_{index}.npy")
                windows = values.reshape(payload.shape[1], payload.shape[0], *values.shape[1:])
                stages[stage.name] = windows.swapaxes(0, 1)
        return LavaRun(stages, about["steps"], about["import_seconds"], about["run_seconds"], 0.0, 0)
