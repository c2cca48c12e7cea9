"""A window program: holds the frames of its inputs, then sends the frames of the result."""

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from tcja_window.window.program import Program

PORTS = ("in0", "in1", "in2", "in3")


class WindowProgram(AbstractProcess):
    """Payloads `[W, H, C]` in, payloads `[W', H', C']` out, T - 1 steps later.

    Args:
        in_shapes: [W, H, C] or [n] of each input, up to four.
        out_shape: [W', H', C'] or [n].
        first: Time step (1, 2, ...) at which frame 0 arrives, the same for all inputs.
        description: The description that `Program` reads.
        arrays: Its arrays by name.
    """

    def __init__(self, *, in_shapes, out_shape, first, description, arrays):
        super().__init__(
            in_shapes=in_shapes, out_shape=out_shape, first=first, description=description, arrays=arrays
        )
        for index, name in enumerate(PORTS):  # unused ones stay unconnected
            setattr(self, name, InPort(shape=in_shapes[index] if index < len(in_shapes) else (1,)))
        self.s_out = OutPort(shape=out_shape)


@implements(proc=WindowProgram, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyWindowProgramModel(PyLoihiProcessModel):
    """Sends zeros until the first window is complete; then each step sends one frame of the previous window.

    A program of one frame answers in the same step.
    """

    in0: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    in1: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    in2: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    in3: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.program = Program(proc_params["description"], proc_params["arrays"])
        self.first, self.frames = proc_params["first"], self.program.frames
        self.held = [np.zeros(shape, np.int64) for shape in self.program.shapes[: self.program.inputs]]
        self.ready = np.zeros((self.frames, *proc_params["out_shape"]), np.int32)

    def run_spk(self):
        """One time step."""
        index = self.time_step - self.first
        place = index % self.frames
        for name, held in zip(PORTS, self.held, strict=False):
            frame = getattr(self, name).recv()
            if index >= 0:
                held[place] = frame.transpose()
        if index >= 0 and place == self.frames - 1:
            result = self.program.run(*(held[None] for held in self.held))[0]
            self.ready = np.ascontiguousarray(
                result.transpose(0, *range(result.ndim - 1, 0, -1)).astype(np.int32)
            )
        self.s_out.send(self.ready[(place + 1) % self.frames])
