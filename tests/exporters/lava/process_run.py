"""Runs many of our Lava processes in one Lava network: executed by Lava's Python, without the package.

    python process_run.py RUNNER FOLDER

FOLDER/job.pkl: frames [F, C, H, W], T and cases (kind, keywords, delay). The source feeds each of them through a delay of its
own; FOLDER/<k>.npy gets what case k sends, from the step at which its frame 0 leaves.
"""

import os
import pickle
import sys
import threading
import time

RUNNER, FOLDER = sys.argv[1:]
sys.path.insert(0, RUNNER)
LIMIT = 200.0


def watched(root, run):
    """Run; a failed process ends the script with its traceback, since Lava itself would hang."""
    done, end = threading.Event(), time.monotonic() + LIMIT

    def watch():
        while not done.wait(0.3):
            about = getattr(getattr(root, "runtime", None), "_messaging_infrastructure", None)
            for actor in list(about.actors) if about else []:
                failure = getattr(actor, "_exception", None) or actor.exception
                if failure or time.monotonic() > end:
                    print(failure[1] if failure else "timeout", file=sys.stderr, flush=True)
                    for other in about.actors:
                        other.kill()
                    about._smm.shutdown()
                    os._exit(3)

    threading.Thread(target=watch, daemon=True).start()
    run()
    done.set()
    root.stop()


def main():
    import numpy as np
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.conv.process import Conv
    from lava.proc.io.source import RingBuffer
    from lava.proc.lif.process import LIFReset
    from tcja_sink.process import PORTS, Sink
    from tcja_stages.process import Neuron, Relay
    from tcja_window.process import WindowProgram

    with open(os.path.join(FOLDER, "job.pkl"), "rb") as stream:
        frames, T, cases = pickle.load(stream)
    shape = tuple(int(n) for n in frames.shape[:0:-1])
    source = RingBuffer(data=np.ascontiguousarray(frames.T, np.int32))
    plain = {"bias": np.zeros(shape[-1], np.int64)}
    steps = len(frames) + max(case["delay"] + case["latency"] for case in cases)
    outs = []
    for k, case in enumerate(cases):
        port, kind, first = source.s_out, case["kind"], 1 + case["delay"]
        if case["delay"]:
            wait = Relay(shape=shape, frames=T, first=1, parameters=plain, delay=case["delay"])
            port.connect(wait.a_in)
            port = wait.s_out
        if kind == "relay":
            process = Relay(shape=shape, frames=T, first=first, **case["settings"])
        elif kind == "transposed":  # a grid with zeros between, and a convolution of it
            relay, kernel = case["settings"]
            grid = Relay(shape=shape, frames=T, first=first, **relay)
            port.connect(grid.a_in)
            port, process = grid.s_out, Conv(input_shape=relay["out_shape"], num_message_bits=24, **kernel)
        elif kind == "neuron":
            process = Neuron(shape=shape, frames=T, first=first, **case["settings"])
        elif kind == "stock":
            process = LIFReset(
                shape=shape, reset_interval=T, reset_offset=first, bias_exp=6, **case["settings"]
            )
        elif kind == "program":
            process = WindowProgram(first=first, **case["settings"])
        into = process.s_in if kind == "transposed" else process.in0 if kind == "program" else process.a_in
        out = process.a_out if kind == "transposed" else process.s_out
        for _ in range(case.get("times", 1)):
            port.connect(into)
            if case.get("times", 1) > 1:  # a second path into the same port, of the same length
                twice = Relay(shape=shape, frames=T, first=first, parameters=plain)
                port.connect(twice.a_in)
                twice.s_out.connect(process.in1 if kind == "program" else into)
                break
        first = case["delay"] + case["latency"]
        outs.append((out, (tuple(out.shape), first, np.int32, os.path.join(FOLDER, f"{k}.npy"))))
    for k in range(0, len(outs), len(PORTS)):
        chosen = outs[k : k + len(PORTS)]
        sink = Sink(kept=[kept for _, kept in chosen], count=len(frames))
        for (out, _), into in zip(chosen, sink.ports, strict=True):
            out.connect(into)
    watched(
        source,
        lambda: source.run(
            condition=RunSteps(num_steps=steps),
            run_cfg=Loihi2SimCfg(select_tag="fixed_pt"),
            compile_config={"pypy_channel_size": 4},
        ),
    )


if __name__ == "__main__":
    main()
