"""Relays and neurons of our own, for what Lava's processes do not compute."""

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from tcja_stages.stage_arithmetic import (
    NeuronParameters,
    RelayParameters,
    neuron_step,
    relay_step,
    stuffed,
)


class Relay(AbstractProcess):
    """Adds what arrives and sends it on as a signed graded spike, in the same step or later.

    By default it is a sum; with `delay` alone, a delay line; with `stride`, the grid of a transposed convolution.

    Args:
        shape: [W, H, C] or [n].
        frames: T.
        first: Time step (1, 2, ...) at which frame 0 arrives.
        parameters: Fields of `RelayParameters`; biases of shape [C] or [n].
        delay: Number of steps that it waits before it sends.
        stride: Distance (columns, rows) between its values on the grid that it sends, or None.
        out_shape: (W', H', C) of that grid.
    """

    def __init__(self, *, shape, frames, first, parameters, delay=0, stride=None, out_shape=None):
        out_shape = out_shape or shape
        super().__init__(
            shape=shape,
            frames=frames,
            first=first,
            parameters=parameters,
            delay=delay,
            stride=stride,
            out_shape=out_shape,
        )
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=out_shape)


@implements(proc=Relay, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyRelayModel(PyLoihiProcessModel):
    """A ring of `delay + 1` frames; its memory is zeroed when frame 0 of a window arrives."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.frames, self.first = proc_params["frames"], proc_params["first"]
        self.parameters = RelayParameters(**proc_params["parameters"])
        self.stride, self.out_shape = proc_params["stride"], proc_params["out_shape"]
        self.memory = np.zeros(proc_params["shape"], np.int64)
        self.ring = np.zeros((proc_params["delay"] + 1, *self.out_shape), np.int32)

    def run_spk(self):
        """One time step."""
        total = self.a_in.recv().astype(np.int64)
        if (self.time_step - self.first) % self.frames == 0:
            self.memory[...] = 0
        self.memory, _ = relay_step(self.parameters, total, self.memory)
        value = self.memory
        if self.stride is not None:
            value = stuffed(value, self.stride, self.out_shape[:2], (0, 1))
        self.ring[self.time_step % len(self.ring)] = value
        self.s_out.send(self.ring[(self.time_step + 1) % len(self.ring)])


class Neuron(AbstractProcess):
    """A population with soft reset or a reset value, which Lava's LIF does not have.

    Args:
        shape: [W, H, C] or [n].
        frames: T.
        first: Time step (1, 2, ...) at which frame 0 arrives.
        parameters: Fields of `NeuronParameters`; biases of shape [C] or [n], thresholds likewise or a scalar.
    """

    def __init__(self, *, shape, frames, first, parameters):
        super().__init__(shape=shape, frames=frames, first=first, parameters=parameters)
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)


@implements(proc=Neuron, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyNeuronModel(PyLoihiProcessModel):
    """Current and voltage are zeroed when frame 0 of a window arrives."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.frames, self.first = proc_params["frames"], proc_params["first"]
        self.parameters = NeuronParameters(**proc_params["parameters"])
        self.current = np.zeros(proc_params["shape"], np.int64)
        self.voltage = np.zeros(proc_params["shape"], np.int64)

    def run_spk(self):
        """One time step."""
        total = self.a_in.recv().astype(np.int64)
        if (self.time_step - self.first) % self.frames == 0:
            self.current[...] = 0
            self.voltage[...] = 0
        spikes, self.current, self.voltage, _ = neuron_step(
            self.parameters, total, self.current, self.voltage
        )
        self.s_out.send(spikes.astype(np.int32))
