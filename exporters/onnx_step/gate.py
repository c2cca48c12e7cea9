"""The gate of a TCJA block in a step model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.exporters.onnx_step.parts import Parts, StepClock
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.stream.gate import GateBuffer

__all__ = ["emit_gate"]

Array = NDArray[np.float32]


def emit_gate(parts: Parts, gate: GateBuffer, x: str, clock: StepClock, name: str) -> str:
    """The gate `F`, `[N, C]`, of the frame that arrived `gate.lookahead` steps ago.

    It computes what `runtime.stream.gate.GateBuffer` does, but each step computes exactly one TLA column and one gate.
    Those of the last frames of a window follow while the next window arrives: frames in `ring` that belong to the other
    window are masked, and the last columns of CLA are kept in `late`, `[D, N, C]`.

    Args:
        parts: The parts of the step model to which nodes are added.
        gate: The gate.
        x: Name of the block's frame, `[N, C, H, W]`.
        clock: Clock of the block's input.
        name: Prefix of the names; the states are called `.ring`, `.tm`, `.cm`, `.late` and `.past`.
    """
    e, op = parts.e, gate.op
    z = e.reduce("mean", x, [2, 3], False, f"{name}/squeeze")
    deviation = _deviation(parts, gate, z, clock, name)
    maps = []
    if op.tla is not None:
        maps.append(_temporal(parts, gate, op.tla, z, deviation, clock, name))
    if op.cla is not None:
        maps.append(_channelwise(parts, gate, op.cla, z, deviation, clock, name))
    joint = maps[0]
    if len(maps) == 2:
        joint = e.node("Mul" if op.fusion == "multiply" else "Add", maps, f"{name}/fusion")
    return e.node("Sigmoid", [joint], name)


def _deviation(parts: Parts, gate: GateBuffer, z: str, clock: StepClock, name: str) -> str:
    """Name of the mean of Z so far less its calibration mean, `[N, C]`; empty if nothing is predicted from it."""
    if "past" not in gate.initial(1) or gate.estimate is None:
        return ""
    e = parts.e
    before, following = parts.state(f"{name}.past", ("N", gate.channels))
    total = e.node("Add", [parts.restarted(before, clock, f"{name}/past/before"), z], f"{name}/past/sum")
    following(total)
    seen = parts.at(np.arange(1, e.T + 1, dtype=np.float32), clock, f"{name}/past/seen")
    mean = e.node("Div", [total, seen], f"{name}/past/mean")
    return e.node(
        "Sub", [mean, parts.at(gate.estimate.past, clock, f"{name}/past/expected")], f"{name}/past/deviation"
    )


def _temporal(
    parts: Parts, gate: GateBuffer, weight: Array, z: str, deviation: str, clock: StepClock, name: str
) -> str:
    e, C, k = parts.e, gate.channels, gate.op.k_t
    guessed = ir.same_padding(k)[1] - gate.reach
    held, following = parts.state(f"{name}.ring", (k, "N", C))
    newest = e.unsqueeze(z, [0], f"{name}/ring/newest")
    ring = e.node(
        "Concat", [parts.rows(held, 1, k, f"{name}/ring/kept"), newest], f"{name}/ring/next", axis=0
    )
    following(ring)
    taps = parts.rows(ring, guessed, k, f"{name}/ring/used") if guessed else ring
    mask, means, slopes = _tap_tables(gate, guessed)
    taps = e.node("Mul", [taps, parts.at(mask, clock, f"{name}/taps/mask")], f"{name}/taps/inside")
    if guessed:
        # [g, 1, C] + [g, 1, 1] * [N, C]: the guesses of the frames after this one
        future = parts.at(means, clock, f"{name}/taps/means")
        if deviation:
            predicted = e.node(
                "Mul", [parts.at(slopes, clock, f"{name}/taps/slopes"), deviation], f"{name}/taps/predicted"
            )
            future = e.node("Add", [future, predicted], f"{name}/taps/guesses")
        else:
            shape = e.node("Shape", [parts.rows(taps, 0, 1, f"{name}/taps/one")], f"{name}/taps/shape")
            future = e.node("Expand", [future, shape], f"{name}/taps/guesses")
        taps = e.node("Concat", [taps, future], f"{name}/taps", axis=0)
    rows = e.reshape(
        e.node("Transpose", [taps], f"{name}/taps/by_sample", perm=[1, 0, 2]), [-1, k * C], f"{name}/taps/row"
    )
    matrix = np.ascontiguousarray(weight.transpose(2, 1, 0).reshape(k * C, C))
    column = e.node("MatMul", [rows, e.constant(matrix, f"{name}.tla")], f"{name}/tla")
    return parts.delayed(column, gate.lookahead - gate.reach, ("N", C), f"{name}.tm")


def _tap_tables(gate: GateBuffer, guessed: int) -> tuple[Array, Array, Array]:
    """For each step, which frames of the ring belong to the column's window, and guesses (mean, slope) of later frames."""
    T, k, C = gate.T, gate.op.k_t, gate.channels
    mask = np.zeros((T, k - guessed, 1, 1), np.float32)
    means = np.zeros((T, guessed, 1, C), np.float32)
    slopes = np.zeros((T, guessed, 1, 1), np.float32)
    for t in range(T):
        for p in range(k - guessed):
            n = t - (k - 1 - guessed) + p  # counted from the first frame of the window that is arriving
            mask[t, p] = n >= 0 if t >= gate.reach else -T <= n < 0
        for i, n in enumerate(range(t + 1, t + 1 + guessed)):
            if gate.estimate is not None and n < T and t >= gate.reach:
                means[t, i, 0] = gate.estimate.mean[n]
                slopes[t, i] = 0 if gate.estimate.slope is None else gate.estimate.slope[t, n]
    return mask, means, slopes


def _channelwise(
    parts: Parts, gate: GateBuffer, weight: Array, z: str, deviation: str, clock: StepClock, name: str
) -> str:
    e, C, T, D = parts.e, gate.channels, parts.e.T, gate.lookahead
    before, following = parts.state(f"{name}.cm", (T, "N", C))
    pads = list(ir.same_padding(gate.op.k_c))
    # E[:, t] as a kernel [T, 1, K_C]: what Z[:, t] adds to every column
    kernel = parts.at(np.ascontiguousarray(weight.transpose(1, 0, 2)[:, :, None]), clock, f"{name}.cla")
    part = e.node("Conv", [e.unsqueeze(z, [1], f"{name}/cla/input"), kernel], f"{name}/cla/part", pads=pads)
    part = e.node("Transpose", [part], f"{name}/cla/columns", perm=[1, 0, 2])
    columns = e.node("Add", [parts.restarted(before, clock, f"{name}/cla/before"), part], f"{name}/cla/sum")
    following(columns)
    source = columns
    if D:
        held, keep = parts.state(f"{name}.late", (D, "N", C))
        keep(
            e.node(
                "Where",
                [clock.last, parts.rows(columns, T - D, T, f"{name}/late/last"), held],
                f"{name}/late/next",
            )
        )
        source = e.node("Concat", [columns, held], f"{name}/cla/all", axis=0)
    index = np.array([t - D if t >= D else T + t for t in range(T)], np.int64)
    which = e.node("Gather", [e.constant(index, f"{name}.column"), clock.t], f"{name}/cla/which")
    column = e.node("Gather", [source, which], f"{name}/cla/now", axis=0)
    estimate = gate.estimate
    if estimate is None or D == T - 1:
        return column
    base, kernels = _estimate_tables(gate, weight)
    column = e.node("Add", [column, parts.at(base, clock, f"{name}/cla/expected")], f"{name}/cla/with_mean")
    if deviation:
        row = e.unsqueeze(deviation, [1], f"{name}/cla/deviation")
        kernel = parts.at(kernels, clock, f"{name}/cla/slopes")
        more = e.node("Conv", [row, kernel], f"{name}/cla/predicted/map", pads=pads)
        more = e.node(
            "Squeeze", [more, e.constant(np.array([1], np.int64), "list_1")], f"{name}/cla/predicted"
        )
        column = e.node("Add", [column, more], f"{name}/cla/with_slope")
    return column


def _estimate_tables(gate: GateBuffer, weight: Array) -> tuple[Array, Array]:
    """What expected frames add to the column emitted at step `t`: a constant `[T, C]` and kernels `[T, 1, 1, K_C]`.

    The estimate is linear, so convolving all later frames takes one convolution of their means and one of the deviation.
    """
    T, C, D, k = gate.T, gate.channels, gate.lookahead, gate.op.k_c
    base, kernels = np.zeros((T, C)), np.zeros((T, 1, 1, k))
    if gate.estimate is not None:
        padded = np.pad(gate.estimate.mean.astype(np.float64), ((0, 0), ir.same_padding(k)))
        for t in range(D, T - 1):
            later = weight[t - D, t + 1 :].astype(np.float64)  # [n, K_C]
            base[t] = sum(later[:, m] @ padded[t + 1 :, m : m + C] for m in range(k))
            if gate.estimate.slope is not None:
                kernels[t, 0, 0] = gate.estimate.slope[t, t + 1 :] @ later
    return base.astype(np.float32), kernels.astype(np.float32)
