"""Runs a Lava bundle. Needs Python 3.10 with lava-dl 0.6.0 and the files of the bundle, nothing else.

    python run_bundle.py
        runs the bundle's own sample and compares it with the spikes it should give
    python run_bundle.py --input frames.npy --output folder
        runs integer frames (T, N, ...) and writes the values of every stage

Exit codes: 0 done and equal, 1 different spikes, 2 bad bundle or input, 3 a Lava process failed, 4 timeout,
5 stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
import traceback

RUNNER = os.path.dirname(os.path.abspath(__file__))
DIFFERENT, BAD, CHILD, TIMEOUT, STOPPED = 1, 2, 3, 4, 5
CHANNEL_SLOTS = 4


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default=os.path.dirname(RUNNER), help="folder with manifest.json")
    parser.add_argument(
        "--input", help=".npy file of integers (T, N, ...); without it the bundle's own sample"
    )
    parser.add_argument(
        "--output", help="folder for stage_<k>.npy and result.json; with --input, here if not given"
    )
    parser.add_argument(
        "--record",
        help="numbers of the stages to keep, such as 0,3,4; without it all (the last one is always kept)",
    )
    parser.add_argument("--fast-conv", action="store_true", help="matrix products instead of Lava's loops")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds")
    parser.add_argument("--memory-name", help="first letters of the names of shared memory segments")
    return parser.parse_args()


class Job:
    """One run and everything needed to end it: Lava blocks for ever when one of its processes fails."""

    def __init__(self, options):
        self.options = options
        self.pid = os.getpid()
        self.parent = os.getppid()
        self.root = None
        self.done = threading.Event()
        self.lock = threading.Lock()
        self.result = {}

    # -- ending --------------------------------------------------------------------------------------
    def infrastructure(self):
        """Lava's record of its processes; None before the run."""
        return getattr(getattr(self.root, "runtime", None), "_messaging_infrastructure", None)

    def report(self, **entries):
        """Write result.json where the caller looks for it."""
        self.result.update(entries)
        if self.options.output:
            path = os.path.join(self.options.output, "result.json")
            with open(path + ".part", "w") as stream:
                json.dump(self.result, stream)
            os.replace(path + ".part", path)

    def bail(self, code, message):
        """Report, kill the processes of this run, free its shared memory, and leave without Lava's own
        ending."""
        if os.getpid() != self.pid:  # a forked Lava process
            os._exit(128 + signal.SIGTERM)
        if not self.lock.acquire(blocking=False):
            return
        print(message, file=sys.stderr, flush=True)
        self.report(error=message, code=code)
        infrastructure = self.infrastructure()
        for actor in infrastructure.actors if infrastructure else []:
            with contextlib.suppress(Exception):  # already gone
                actor.kill()
        with contextlib.suppress(Exception):  # not started yet
            infrastructure._smm.shutdown()  # its server unlinks every segment that it made
        os._exit(code)

    def watch(self):
        """Runs in a thread: looks for failed processes, the time limit and a vanished caller."""
        end = time.monotonic() + self.options.timeout
        while not self.done.wait(0.25):
            infrastructure = self.infrastructure()
            for actor in list(infrastructure.actors) if infrastructure else []:
                failure = code = None
                with contextlib.suppress(EOFError, OSError, ValueError):  # ended and closed meanwhile
                    failure, code = actor.exception, actor.exitcode
                if failure:
                    self.bail(CHILD, "a Lava process raised an exception\n" + failure[1])
                if not self.done.is_set() and code not in (None, 0):
                    hint = " (SIGBUS: no room in /dev/shm)" if code == -signal.SIGBUS else ""
                    self.bail(CHILD, f"a Lava process died with exit code {code}{hint}")
            if time.monotonic() > end:
                self.bail(TIMEOUT, f"the run took longer than {self.options.timeout:g} s")
            if os.getppid() != self.parent:
                self.bail(STOPPED, "the calling process is gone")

    # -- running -------------------------------------------------------------------------------------
    def run(self):
        """Import, simulate, compare; returns the exit code."""
        options = self.options
        if options.memory_name:  # the caller's: its folder is the working directory
            from multiprocessing import current_process, shared_memory

            current_process()._config["tempdir"] = "."  # sockets: their paths may not exceed 100 letters
            shared_memory._SHM_NAME_PREFIX = "/" + options.memory_name
            shared_memory._SHM_SAFE_NAME_LENGTH = len(options.memory_name) + 9
        start = time.monotonic()
        with open(os.path.join(options.bundle, "manifest.json")) as stream:
            manifest = json.load(stream)
        sys.path.insert(0, RUNNER)
        visible = os.dup(1)
        os.dup2(2, 1)  # some imports print
        import numpy as np
        from lava.lib.dl import netx  # noqa: F401

        sys.stdout.flush()
        os.dup2(visible, 1)
        self.result["import_seconds"] = time.monotonic() - start
        if options.input:
            self.simulate(manifest, np.load(options.input), options.output or os.getcwd())
            return 0
        golden = np.load(os.path.join(options.bundle, "golden.npz"))
        if options.output:
            self.simulate(manifest, golden["payload"], options.output)
            return compare(manifest, options.output, golden)
        with tempfile.TemporaryDirectory(prefix="tcja-lava-") as folder:
            self.simulate(manifest, golden["payload"], folder)
            return compare(manifest, folder, golden)

    def simulate(self, manifest, payload, folder):
        """Run payloads (T, N, ...); write stage_<k>.npy (N * T, ...) for the stages in the manifest's
        order."""
        from lava.magma.core.run_conditions import RunSteps
        from lava.magma.core.run_configs import Loihi2SimCfg
        from lava.proc.conv.process import Conv
        from tcja_conv.model import FastConvModel
        from tcja_sink.process import Sink

        frames = manifest["frames"]
        if payload.shape[0] != frames or payload.ndim < 3:
            raise ValueError(f"the input {payload.shape} should be ({frames}, N, ...)")
        windows = payload.swapaxes(0, 1).reshape(-1, *payload.shape[2:])  # one after another
        outs = self.build(manifest, windows)
        record = self.options.record
        keep = {int(k) for k in record.split(",")} if record is not None else set(range(len(outs)))
        for index, (out, step, kind) in enumerate(outs):
            final = index == len(outs) - 1
            if final or index in keep:
                sink = Sink(
                    shape=tuple(out.shape),
                    first=step,
                    count=len(windows),
                    dtype=kind,
                    path=os.path.join(folder, f"stage_{index}.npy"),
                    progress=os.path.join(folder, "progress") if final else None,
                )
                out.connect(sink.a_in)
        steps = len(windows) + manifest["latency"]
        start = time.monotonic()
        self.root.run(
            condition=RunSteps(num_steps=steps),
            run_cfg=Loihi2SimCfg(
                select_tag="fixed_pt",
                exception_proc_model_map={Conv: FastConvModel} if self.options.fast_conv else None,
            ),
            compile_config={"pypy_channel_size": CHANNEL_SLOTS},
        )
        self.done.set()
        self.result["run_seconds"] = time.monotonic() - start
        self.result["steps"] = steps
        self.result["shared_bytes"] = shared_bytes(self.options.memory_name)
        self.root.stop()

    def build(self, manifest, windows):
        """Source, segments and gates, connected; for every stage its (OutPort, first step, type of its
        values)."""
        import numpy as np
        from lava.lib.dl.netx.hdf5 import Network
        from lava.proc.io.source import RingBuffer
        from tcja_gate.process import Gate

        first = manifest["parts"][0]
        data = windows.reshape(len(windows), *first["in_shape"])
        port = RingBuffer(data=np.ascontiguousarray(data.T, np.int32)).s_out
        outs = []
        for part in manifest["parts"]:
            file = os.path.join(self.options.bundle, part["file"])
            if part["kind"] == "segment":
                net = Network(
                    net_config=file,
                    reset_interval=manifest["frames"],
                    reset_offset=part["reset_offset"],
                    input_message_bits=part["message_bits"],
                )
                net.net_config.f.close()
                if len(net) != len(part["layers"]):
                    raise ValueError(f"{part['file']} gave {len(net)} blocks, not {len(part['layers'])}")
                self.root = net
                if len(port.shape) == 3 and len(part["in_shape"]) == 1:
                    port = port.transpose([2, 1, 0]).flatten()
                port.connect(net.inp)
                steps = [layer["step"] for layer in part["layers"]]
                outs += [(block.out, step, np.uint8) for block, step in zip(net.layers, steps, strict=True)]
                port = net.out
            else:
                with np.load(file) as arrays:
                    parameters = dict(arrays)
                self.root = gate = Gate(
                    in_shape=tuple(part["in_shape"][::-1]),
                    out_shape=tuple(part["out_shape"][::-1]),
                    frames=manifest["frames"],
                    arrives=part["arrives"],
                    parameters=parameters,
                )
                port.connect(gate.s_in)
                outs.append((gate.s_out, part["step"], np.int32))
                port = gate.s_out
        return outs


def shared_bytes(name):
    """Size of this run's shared memory (0 where it cannot be told)."""
    if not name or not os.path.isdir("/dev/shm"):
        return 0
    return sum(os.path.getsize("/dev/shm/" + f) for f in os.listdir("/dev/shm") if f.startswith(name))


def compare(manifest, folder, golden):
    """Print per stage how many values differ from the bundle's own."""
    import numpy as np

    names = [layer["name"] for part in manifest["parts"] for layer in part.get("layers", [part])]
    total = 0
    for index, name in enumerate(names):
        got = np.load(os.path.join(folder, f"stage_{index}.npy"))
        want = golden[f"stage_{index}"]
        if want.dtype == np.uint8 and want.ndim == 1:  # packed spikes
            want = np.unpackbits(want, count=got.size).reshape(got.shape)
        different = int((got != want.reshape(got.shape)).sum())
        total += different
        print(f"{name}: {got.size} values, {int(np.count_nonzero(got))} spikes, {different} mismatches")
    return DIFFERENT if total else 0


def main():
    """Run under guard."""
    options = arguments()
    job = Job(options)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: job.bail(STOPPED, "stopped by a signal"))
    threading.Thread(target=job.watch, daemon=True).start()
    try:
        code = job.run()
    except Exception as error:  # never call stop() after a failed run: it blocks for ever
        message = traceback.format_exc()
        infrastructure = job.infrastructure()
        failures = [
            a._exception[1] for a in (infrastructure.actors if infrastructure else []) if a._exception
        ]
        if failures or "Exception(s) occurred" in str(error):
            job.bail(CHILD, "a Lava process raised an exception\n" + "\n".join(failures))
        job.bail(BAD, message)
    job.report(code=code)
    sys.exit(code)


if __name__ == "__main__":
    main()
