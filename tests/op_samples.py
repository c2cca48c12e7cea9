"""Every op of the IR with inputs it accepts, in numbers that float32 adds and multiplies without rounding.

Inputs and weights are multiples of 1/8 of a few units, so sums of products are multiples of 1/64 (or of a power of two near it)
far below 2**24 of them: any order of summation gives the same bits, and two implementations have to agree exactly. Ops whose
rule has a logarithm, an exponential or a division that rounds say so in `Sample.exact`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from op_making import KINDS, Making, Sample, fitting, values

from tcja_deploy.ir import Dim, Op
from tcja_deploy.ir import ops as ir

Array = NDArray[np.float32]
Draw = Callable[[st.SearchStrategy[Any]], Any]


# -- synapses --------------------------------------------------------------------------------------------------------
def conv2d(m: Making) -> Sample:
    groups, kernel, dilation, stride = m.groups(), m.pair(1, 3), m.pair(1, 2), m.pair(1, 3)
    padding = (*m.pair(0, 2), *m.pair(0, 2))
    inputs, outputs = groups * m.int(1, 2), groups * m.int(1, 2)
    h = fitting(m, kernel[0], dilation[0], padding[0] + padding[2])
    w = fitting(m, kernel[1], dilation[1], padding[1] + padding[3])
    lead = m.pick(("T", "N"), ("N",), ("T", "N", 2))
    if m.int(0, 3) == 0:  # attention over the plane of time steps and channels
        kernel, dilation, stride, padding = (
            (kernel[0], 1),
            (1, 1),
            (1, 1),
            (kernel[0] - 1, 0, kernel[0] - 1, 0),
        )
        return m.sample(
            conv2d_op(m, outputs, inputs, kernel, stride, padding, dilation, groups), ("N", inputs, "T", w)
        )
    return m.sample(
        conv2d_op(m, outputs, inputs, kernel, stride, padding, dilation, groups), (*lead, inputs, h, w)
    )


def conv2d_op(
    m: Making, outputs: int, inputs: int, kernel: Any, stride: Any, padding: Any, dilation: Any, g: int
) -> Op:
    return ir.Conv2d(m.weight(outputs, inputs // g, *kernel), m.bias(outputs), stride, padding, dilation, g)


def conv_transpose2d(m: Making) -> Sample:
    groups, kernel, stride, dilation = m.groups(), m.pair(1, 3), m.pair(1, 3), m.pair(1, 2)
    inputs, each = groups * m.int(1, 2), m.int(1, 2)
    extra = tuple(m.int(0, max(s, d) - 1) for s, d in zip(stride, dilation, strict=True))
    h, w = m.pair(1, 4)
    sizes = [
        (n - 1) * s + d * (k - 1) + o + 1
        for n, s, d, k, o in zip((h, w), stride, dilation, kernel, extra, strict=True)
    ]
    padding = tuple(m.int(0, min(2, (n - 1) // 2)) for n in sizes)
    op = ir.ConvTranspose2d(
        m.weight(inputs, each, *kernel),
        m.bias(groups * each),
        stride,
        padding,
        extra,
        dilation,
        groups,  # type: ignore[arg-type]
    )
    return m.sample(op, (*m.pick(("T", "N"), ("N",)), inputs, h, w))


def conv1d(m: Making) -> Sample:
    groups, kernel, dilation, stride = m.groups(), m.int(1, 4), m.int(1, 2), m.int(1, 2)
    padding = m.pair(0, 2)
    inputs, outputs = groups * m.int(1, 2), groups * m.int(1, 2)
    length = fitting(m, kernel, dilation, sum(padding))
    where = m.pick("features", "features", "length is time", "channels are time")
    if where == "length is time":
        padding = (dilation * (kernel - 1), 0)
        dims: tuple[Dim, ...] = ("N", inputs, "T")
    elif where == "channels are time":
        groups, inputs, outputs = 1, m.T, m.pick(m.T, outputs)
        dims = ("N", "T", length)
    else:
        dims = (*m.pick(("T", "N"), ("N",)), inputs, length)
    return m.sample(
        ir.Conv1d(
            m.weight(outputs, inputs // groups, kernel), m.bias(outputs), stride, padding, dilation, groups
        ),
        dims,
    )


def linear(m: Making) -> Sample:
    inputs, outputs = m.int(1, 5), m.int(1, 5)
    lead = m.pick(("T", "N"), ("N",), ("T", "N", 2), "time")
    if lead == "time":
        return m.sample(ir.Linear(m.weight(m.pick(m.T, outputs), m.T), None), ("N", 3, "T"))
    return m.sample(ir.Linear(m.weight(outputs, inputs), m.bias(outputs)), (*lead, inputs))


def batch_norm(cls: type[Op], rank: int) -> Callable[[Making], Sample]:
    def make(m: Making) -> Sample:
        channels = m.int(1, 4)
        # var + eps = 1, 4 or 16: the root and its reciprocal are exact.
        var = m.rng.choice([0.75, 3.75, 15.75], channels).astype(np.float32)
        op = cls(m.weight(channels), m.weight(channels), m.weight(channels), var, 0.25)  # type: ignore[call-arg]
        return m.sample(op, (*m.pick(("T", "N"), ("N",)), channels, *m.lengths(rank)))

    return make


# -- neurons ---------------------------------------------------------------------------------------------------------
def neuron(cls: type[ir.Neuron]) -> Callable[[Making], Sample]:
    """Two implementations do the same elementary operations in the same order, so no number has to be dyadic."""

    def make(m: Making) -> Sample:
        constants: dict[str, Any] = {
            "v_threshold": m.pick(1.0, 0.5, 0.7),
            "v_reset": m.pick(0.0, None, -0.25, 0.3),
            "strict": m.pick(False, True),
        }
        if cls is not ir.IF:
            constants["decay_input"] = m.pick(True, False)
        if cls is ir.LIF:
            constants["tau"] = m.pick(2.0, 4.0, 1.0, 3.0, 1.7)
        if cls is ir.PLIF:
            constants["decay"] = m.pick(0.5, 0.25, 1.0, 0.3)
        return m.sample(cls(**constants), ("T", "N", *m.lengths(m.int(0, 3))))

    return make


def affine_constants(m: Making, features: tuple[int, ...]) -> dict[str, Any]:
    """Constants of an affine charge, for all or one per channel."""

    def each(*numbers: float) -> Array:
        many = bool(features) and m.pick(False, True)
        shape = (features[0], *(1,) * (len(features) - 1)) if many else (1,)
        return m.rng.choice(numbers, shape).astype(np.float32)

    return {
        "leak": each(0.25, 0.9, 0.0, 1.0, -0.5), "offset": each(0.0) if m.pick(True, False) else each(0.1, -0.3),
        "gain": each(1.0) if m.pick(True, False) else each(0.7, 2.0), "v_initial": m.pick(0.0, 0.4, -1.0),
        "floor": m.pick(None, None, 0.0, -0.2), "v_reset": m.pick(0.0, None, 0.3, 1.2), "strict": m.pick(False, True),
    }  # fmt: skip


def affine_neuron(m: Making) -> Sample:
    features = m.lengths(m.int(0, 3))
    firing = {"v_threshold": m.pick(1.0, 0.5, -0.1), "drop": m.pick(None, 0.8)}
    return m.sample(ir.AffineNeuron(**affine_constants(m, features), **firing), ("T", "N", *features))


def affine_integrator(m: Making) -> Sample:
    features = m.lengths(m.int(0, 3))
    threshold = m.pick(None, 0.5)
    return m.sample(
        ir.AffineIntegrator(**affine_constants(m, features), v_threshold=threshold), ("T", "N", *features)
    )


def recurrence(m: Making) -> Sample:
    """Neurons that no other op is: every function, several states, delays, constants for each channel or step."""
    features = m.lengths(m.int(0, 3))
    steps = m.pick(1, m.T)
    shape = (2, steps, *((features[0], *(1,) * (len(features) - 1)) if features else ()))
    table = m.rng.choice([0.5, 0.7, -0.25], shape).astype(np.float32)
    charge = ("mul v0 0.9", "add h0 x")
    program, result, after = m.pick(
        ((*charge, "ge h1 c0", "where h2 0.25 h1"), "h2", ("h3", "h2")),
        ((*charge, "div h1 0.7", "max h2 0.0", "min h3 4.0", "round h4", "sub h1 h5"), "h5", ("h6", "x")),
        ((*charge, "gt h1 c1", "neg h1", "gt h3 1.0", "sub h2 h4", "sub h1 h5"), "h5", ("h6", "v1")),
        (("mul x c0", "mul v0 c1", "add h0 h1", "ge h2 0.5"), "h3", ("x", "v0")),
        ((*charge, "abs h1", "sqrt h2", "sign h1", "floor h1", "ceil h3", "le h5 h6", "lt h1 v1", "eq h7 h8", "ne h4 0.0",
          "add h9 h10", "mul h11 c0"), "h12", ("h3", "h1")),
        (("mul v0 c0",), "h0", ("x", "0.5")),
    )  # fmt: skip
    initial = (m.pick(0.0, 0.3), m.pick(0.0, -1.0))
    return m.sample(ir.Recurrence(program, result, after, initial, table), ("T", "N", *features))


def leaky_integrator(m: Making) -> Sample:
    op = ir.LI(m.pick(0.0, 0.5, 1.0, 0.3), m.pick(True, False), m.pick(0.0, 0.5, -0.3))
    return m.sample(op, ("T", "N", *m.lengths(m.int(0, 3))))


def tcja(m: Making) -> Sample:
    c = m.int(1, 4)
    k_t, k_c = m.pick((4, 4), (2, 3), (1, 1), (3, 0), (4, 0), (2, 0), (0, 4), (0, 1), (6, 5), (5, 6))
    tla = m.weight(c, c, k_t) if k_t else None
    cla = m.weight(m.T, m.T, k_c) if k_c else None
    return m.sample(
        ir.TCJA(tla, cla, m.pick("multiply", "add")), ("T", "N", c, 2, m.pick(1, 2, 4)), exact=False
    )


# -- pooling -----------------------------------------------------------------------------------------------------------
def pool(cls: type[Op]) -> Callable[[Making], Sample]:
    def make(m: Making) -> Sample:
        kernel, stride = m.pair(1, 3), m.pair(1, 3)
        padding = tuple(m.int(0, k // 2) for k in kernel)
        h, w = (fitting(m, k, 1, 2 * p) for k, p in zip(kernel, padding, strict=True))
        more = (m.pick(True, False),) if cls is ir.AvgPool2d else ()
        return m.sample(cls(kernel, stride, padding, *more), (*m.pick(("T", "N"), ("N",)), m.int(1, 2), h, w))  # type: ignore[call-arg]

    return make


def adaptive_avg_pool2d(m: Making) -> Sample:
    """Windows of 1, 2 or 4 rows and columns divide exactly; others round each of two divisions."""
    size, factor = m.pair(1, 3), m.pair(1, 4)
    ragged = m.pick(False, True)
    h, w = (
        n * (3 if f == 3 and not ragged else f) + (m.int(0, n - 1) if ragged else 0)
        for n, f in zip(size, factor, strict=True)
    )
    exact = not ragged and 3 not in factor
    return m.sample(ir.AdaptiveAvgPool2d(size), (*m.pick(("T", "N"), ("N",)), 2, h, w), exact=exact)


# -- tensors -----------------------------------------------------------------------------------------------------------
ANY_DIMS: tuple[tuple[Dim, ...], ...] = (
    ("T", "N", 2, 3, 2), ("T", "N", 4), ("T", "N"), ("N", 3), ("N", "T", 2), ("N", 2, "T"), (1, "N", 2), ("N", 2, 3, 2),
)  # fmt: skip


def input_frames(m: Making) -> Sample:
    kind = m.draw(KINDS)
    op = ir.Input(m.lengths(m.int(1, 3)), kind)
    frames = values(m.rng, kind, op.infer(T=m.T).shape(m.T, m.N))
    return Sample(op, (), m.T, m.N, (frames,))


def broadcast(cls: type[Op]) -> Callable[[Making], Sample]:
    def make(m: Making) -> Sample:
        dims = m.pick(
            (("T", "N", 2, 3), ("T", "N", 2, 3)),
            (("T", "N", 2, 3), ("T", "N", 2, 1)),
            (("T", "N", 2, 1), ("T", "N", 1, 3), ("T", "N", 1, 1)),
            (("T", "N", 2), ("N", 2)),  # a value of the window beside a stream
            ((1, "N", 2), ("T", "N", 2), ("T", "N", 1)),
            (("N", 2, "T"), ("N", 1, "T")),
            (("N", 2), ("N", 2), ("N", 1)),
        )
        return m.sample(cls(), *dims)

    return make


def concat(m: Making) -> Sample:
    lead = m.pick(("T", "N"), ("N",), ("N", "T"))
    shapes = [(*lead, 2, m.int(1, 3), 2) for _ in range(m.int(2, 3))]
    return m.sample(ir.Concat(len(lead) + 1), *shapes)


def permute(m: Making) -> Sample:
    dims = m.pick(*ANY_DIMS)
    return m.sample(ir.Permute(tuple(m.draw(st.permutations(range(len(dims)))))), dims)


def reshape(m: Making) -> Sample:
    before, after, named = m.pick(
        (("T", "N", 2, 6), ("T", "N", 12), (0, 1)),
        (("T", "N", 12), ("T", "N", 2, 3, 2), (0, 1)),
        (("T", "N", 4), (1, "T", 1, "N", 2, 2), (0, 1)),
        (("N", 4, "T"), ("N", 2, 2, "T"), (0, 2)),
        (("N", 4, "T"), ("N", 4, 1, "T", 1), (0, 2)),
        (("N", 4), ("N", 1, 4), (0,)),
        (("T", "N", 6), (m.T, "N", 2, 3), (1,)),  # time becomes a plain axis
        (("N", "T", 6), ("N", m.T * 2, 3), (0,)),  # time and features become one axis
        ((m.T, "N", 6), ("T", "N", 3, 2), (0, 1)),  # a plain axis becomes time
    )
    return m.sample(ir.Reshape(after, named), before)


def reduction(m: Making) -> Sample:
    dims = m.pick(*ANY_DIMS)
    open_axes = [i for i, d in enumerate(dims) if d != "N"]
    axes = tuple(m.draw(st.lists(st.sampled_from(open_axes), min_size=1, unique=True)))
    return m.sample(ir.Reduce(m.pick("mean", "max", "sum"), axes, m.pick(True, False)), dims)


def vote(m: Making) -> Sample:
    voters = m.int(1, 4)
    lead = m.pick(("T", "N"), ("N",), ("T", "N", 2))
    return m.sample(ir.Vote(voters), (*lead, voters * m.int(1, 3) + m.int(0, voters - 1)))


def affine(m: Making) -> Sample:
    scale, offset = m.pick((1.0, 0.0), (0.5, 0.0), (-2.0, 0.0), (0.0, 0.25), (1.0, -1.5), (-1.0, 1.0))
    return m.sample(ir.Affine(scale, offset), m.pick(*ANY_DIMS))


def cut(m: Making) -> Sample:
    dims = m.pick(("T", "N", 5, 4), ("N", 5, 4), ("N", "T", 5))
    axis = m.pick(*(i for i, d in enumerate(dims) if d != "N"))
    length = m.T if dims[axis] == "T" else int(dims[axis])
    start = m.int(0, length - 1)
    return m.sample(ir.Slice(axis, start, m.int(start + 1, length), m.int(1, 3)), dims)


def clamp(m: Making) -> Sample:
    low, high = m.pick((0.0, 1.0), (-0.5, 0.5), (0.0, ir.LARGEST), (-ir.LARGEST, 1.0), (0.25, 2.0))
    return m.sample(ir.Clamp(low, high), m.pick(*ANY_DIMS))


MAKERS: dict[str, Callable[[Making], Sample]] = {
    "AffineIntegrator": affine_integrator,
    "AffineNeuron": affine_neuron,
    "AdaptiveAvgPool2d": adaptive_avg_pool2d,
    "Add": broadcast(ir.Add),
    "Affine": affine,
    "AvgPool2d": pool(ir.AvgPool2d),
    "BatchNorm1d": batch_norm(ir.BatchNorm1d, 0),
    "BatchNorm2d": batch_norm(ir.BatchNorm2d, 2),
    "Clamp": clamp,
    "Concat": concat,
    "Conv1d": conv1d,
    "Conv2d": conv2d,
    "ConvTranspose2d": conv_transpose2d,
    "Flatten": lambda m: m.sample(ir.Flatten(), ("T", "N", *m.lengths(m.int(1, 3)))),
    "IF": neuron(ir.IF),
    "Input": input_frames,
    "LI": leaky_integrator,
    "LIF": neuron(ir.LIF),
    "Linear": linear,
    "MaxPool2d": pool(ir.MaxPool2d),
    "Mul": broadcast(ir.Mul),
    "PLIF": neuron(ir.PLIF),
    "Permute": permute,
    "ReLU": lambda m: m.sample(ir.ReLU(), m.pick(*ANY_DIMS)),
    "Recurrence": recurrence,
    "Reduce": reduction,
    "Reshape": reshape,
    "Sigmoid": lambda m: m.sample(ir.Sigmoid(), m.pick(*ANY_DIMS), exact=False),
    "Slice": cut,
    "TCJA": tcja,
    "TimeMean": lambda m: m.sample(ir.TimeMean(), ("T", "N", *m.lengths(m.int(0, 3)))),
    "Vote": vote,
}
"""How to make each op with inputs. A new op needs an entry here; `test_ops` fails until it has one."""


@st.composite
def samples(draw: Draw, name: str) -> Sample:
    """An op of the given name with inputs."""
    return MAKERS[name](Making(draw))


@st.composite
def any_sample(draw: Draw) -> Sample:
    """Any op with inputs."""
    return MAKERS[draw(st.sampled_from(sorted(MAKERS)))](Making(draw))


def _affine(leak: float, offset: float, gain: float, **others: Any) -> ir.AffineNeuron:
    constants = (np.full(1, value, np.float32) for value in (leak, offset, gain))
    return ir.AffineNeuron(**dict(zip(("leak", "offset", "gain"), constants, strict=True)), **others)


NEURONS = st.one_of(
    st.builds(ir.IF, v_threshold=st.sampled_from([0.5, 1.0]), v_reset=st.sampled_from([None, 0.0, -0.5]), strict=st.booleans()),
    st.builds(
        ir.LIF, tau=st.sampled_from([2.0, 4.0]), decay_input=st.booleans(),
        v_reset=st.sampled_from([None, 0.0, 0.25]), strict=st.booleans(),
    ),
    st.builds(ir.PLIF, decay=st.sampled_from([0.5, 0.25]), decay_input=st.booleans(), v_reset=st.sampled_from([None, 0.0])),
    st.builds(
        _affine, leak=st.sampled_from([0.0, 0.5, 1.0]), offset=st.sampled_from([-0.25, 0.0, 0.5]),
        gain=st.sampled_from([0.5, 1.0]), v_initial=st.sampled_from([0.0, 0.25]), drop=st.sampled_from([None, 0.75]),
        v_reset=st.sampled_from([None, 0.0, -0.25]), strict=st.booleans(),
    ),
)  # fmt: skip
"""Neurons whose charge does not round small numbers."""
