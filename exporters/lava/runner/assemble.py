"""The parts of a bundle as connected Lava processes.

Lava's ports add what several senders send to one port. Pitfalls avoided here: a port that is connected twice, virtual
ports into hierarchical processes with several senders, and processes that are connected to nothing (they never run).
"""

import json
import os

import numpy as np
from lava.lib.dl.netx.hdf5 import Network
from lava.lib.dl.netx.utils import optimize_weight_bits
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.proc.io.source import RingBuffer
from lava.proc.lif.process import LIFReset
from tcja_gate.process import GateProcess
from tcja_stages.process import Neuron, Relay
from tcja_window.process import WindowProgram

HOST = ":host"


def build(bundle, manifest, windows):
    """Build and connect the source and the parts.

    Args:
        bundle: Its folder.
        manifest: Its manifest's section on Lava.
        windows: Payloads `[N * T, ...]`, one window after another.

    Returns:
        One of the processes, and for every stage (its OutPort, the step of its first frame, the type of its values).
    """
    return Assembly(bundle, manifest).build(windows)


class Assembly:
    """The processes of one bundle."""

    def __init__(self, bundle, manifest):
        self.bundle, self.frames, self.parts = bundle, manifest["frames"], manifest["parts"]
        self.ports = {}
        self.delayed = {}
        self.root = None

    def build(self, windows):
        """See the function with this name."""
        data = windows.reshape(len(windows), *self.parts[0]["in_shape"]) if not self.named() else windows
        self.ports[HOST] = RingBuffer(data=np.ascontiguousarray(data.T, np.int32)).s_out
        outs, before = [], HOST
        for part in self.parts:
            senders = [
                self.after(name, delay)
                for name, delay in zip(part.get("inputs", [before]), part.get("delays", [0]), strict=True)
            ]
            senders = [port if port not in senders[:k] else self.copy(port) for k, port in enumerate(senders)]
            sent = getattr(self, part["kind"])(part, senders)
            self.ports.update({name: port for name, port, _, _ in sent})
            outs += [(port, step, kind) for _, port, step, kind in sent]
            before = sent[-1][0]
        return self.root, outs

    def named(self):
        """Whether parts name their inputs (version 2)."""
        return "inputs" in self.parts[0]

    def after(self, name, steps):
        """The port of a stage, delayed by some steps."""
        if not steps:
            return self.ports[name]
        if (name, steps) not in self.delayed:
            self.delayed[name, steps] = self.relay_of(self.ports[name], delay=steps)
        return self.delayed[name, steps]

    def copy(self, port):
        """A separate port with the same values."""
        return self.relay_of(port)

    def relay_of(self, port, **settings):
        """Port of a relay with default parameters that reads `port`."""
        shape = tuple(port.shape)
        relay = Relay(
            shape=shape,
            frames=self.frames,
            first=1,
            parameters={"bias": np.zeros(shape[-1], np.int64)},
            **settings,
        )
        port.connect(relay.a_in)
        return relay.s_out

    def arrays(self, part):
        """The arrays of a part's file."""
        with np.load(os.path.join(self.bundle, part["file"])) as arrays:
            return dict(arrays)

    # -- parts ---------------------------------------------------------------------------------------
    def segment(self, part, senders):
        """Consecutive layers: one netx network."""
        net = Network(
            net_config=os.path.join(self.bundle, part["file"]),
            reset_interval=self.frames,
            reset_offset=part["reset_offset"],
            input_message_bits=part["message_bits"],
        )
        net.net_config.f.close()
        layers = part["layers"]
        if len(net) != len(layers):
            raise ValueError(f"{part['file']} gave {len(net)} blocks, not {len(layers)}")
        self.root = net
        flat(senders[0], len(part["in_shape"])).connect(net.inp)
        return [
            (layer["name"], block.out, layer["step"], np.uint8)
            for block, layer in zip(net.layers, layers, strict=True)
        ]

    def gate(self, part, senders):
        """A TCJA gate."""
        self.root = gate = GateProcess(
            in_shape=tuple(part["in_shape"][::-1]),
            out_shape=tuple(part["out_shape"][::-1]),
            frames=self.frames,
            arrives=part["arrives"],
            parameters=self.arrays(part),
        )
        senders[0].connect(gate.s_in)
        return [(part["name"], gate.s_out, part["step"], np.int32)]

    def synapse(self, part, senders):
        """A convolution or matrix product whose sums another process adds to others."""
        a, port = self.arrays(part), senders[0]
        weight = a["weight"].astype(np.int64)
        if part["type"] == "dense":
            values, bits, exponent, _ = optimize_weight_bits(weight)
            process = Dense(
                weights=values,
                num_weight_bits=bits,
                weight_exp=exponent,
                num_message_bits=part["message_bits"],
            )
            port = flat(port, 1)
        else:
            geometry = {key: a[key].tolist() for key in ("stride", "padding", "dilation")}
            groups, shape = int(a["groups"]), tuple(part["in_shape"][::-1])
            if part["type"] == "transposed":
                weight, geometry, shape, port = self.upsampled(weight, groups, geometry, a, port)
            process = Conv(
                weight=np.ascontiguousarray(weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1)).astype(np.int32),
                input_shape=shape,
                groups=groups,
                num_message_bits=part["message_bits"],
                **{key: tuple(value[::-1]) for key, value in geometry.items()},
            )
        self.root = process
        port.connect(process.s_in)
        return [(part["name"], process.a_out, part["step"], np.int32)]

    def upsampled(self, weight, groups, geometry, arrays, port):
        """Weights, geometry, input shape and port of the convolution on a finer grid that equals a transposed one."""
        depth, outputs, rows, columns = weight.shape[0] // groups, *weight.shape[1:]
        weight = weight.reshape(groups, depth, outputs, rows, columns).swapaxes(1, 2)
        weight = weight.reshape(groups * outputs, depth, rows, columns)[:, :, ::-1, ::-1]
        stride, dilation = geometry["stride"], geometry["dilation"]
        padding = [
            d * (k - 1) - p for d, k, p in zip(dilation, (rows, columns), geometry["padding"], strict=False)
        ]
        width, height, channels = port.shape
        grid = [
            (n - 1) * s + 1 + o
            for n, s, o in zip((height, width), stride, arrays["output_padding"].tolist(), strict=False)
        ]
        shape = (grid[1], grid[0], channels)
        port = self.relay_of(port, stride=tuple(stride[::-1]), out_shape=shape)
        return weight, {"stride": [1, 1], "padding": padding, "dilation": dilation}, shape, port

    def neuron(self, part, senders):
        """A population: Lava's own process where possible."""
        a, shape, first = self.arrays(part), tuple(part["out_shape"][::-1]), part["arrives"] + 1
        numbers = {key: int(a[key]) for key in ("v_decay", "i_decay", "reset_value", "drop")}
        if numbers["drop"] or numbers["reset_value"]:
            parameters = {**numbers, "bias": a["bias"], "threshold": a["threshold"]}
            process = Neuron(shape=shape, frames=self.frames, first=first, parameters=parameters)
        else:
            process = LIFReset(
                shape=shape,
                vth=int(a["threshold"]) if a["threshold"].ndim == 0 else a["threshold"],
                du=numbers["i_decay"] - 1,
                dv=numbers["v_decay"],
                bias_mant=np.zeros(shape, np.int32) + a["bias"].astype(np.int32),
                bias_exp=6,
                reset_interval=self.frames,
                reset_offset=first,
            )
        return self.summed(part, process, senders, np.uint8)

    def relay(self, part, senders):
        """A relay: a sum that is sent on."""
        a = self.arrays(part)
        parameters = {
            "bias": a["bias"],
            "multiplier": int(a["multiplier"]),
            "shift": int(a["shift"]),
            "decay": None if a["decay"] < 0 else int(a["decay"]),
            "most": (1 << (int(a["bits"]) - 1)) - 1,
        }
        process = Relay(
            shape=tuple(part["out_shape"][::-1]),
            frames=self.frames,
            first=part["arrives"] + 1,
            parameters=parameters,
        )
        return self.summed(part, process, senders, np.int32)

    def summed(self, part, process, senders, kind):
        """A process whose input port adds what all senders send."""
        self.root = process
        for port in senders:
            port.connect(process.a_in)
        return [(part["name"], process.s_out, part["step"], kind)]

    def program(self, part, senders):
        """A window program."""
        self.root = process = WindowProgram(
            in_shapes=[tuple(shape[::-1]) for shape in part["in_shapes"]],
            out_shape=tuple(part["out_shape"][::-1]),
            first=part["arrives"] + 1,
            description=json.loads(json.dumps(part["program"])),
            arrays=self.arrays(part),
        )
        for k, port in enumerate(senders):
            port.connect(getattr(process, f"in{k}"))
        return [(part["name"], process.s_out, part["step"], np.int32)]


def flat(port, axes):
    """A port with its values in PyTorch's order on one axis if `axes` is 1; otherwise the port itself."""
    return port.transpose([2, 1, 0]).flatten() if len(port.shape) == 3 and axes == 1 else port
