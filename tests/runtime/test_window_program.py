"""Window programs against a plain evaluation in Python's own integers, which cannot overflow or round."""

from __future__ import annotations

import itertools
import json
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcja_deploy.runtime.integers.window.program import OPS, Program

# -- the oracle: nested loops over Python integers -------------------------------------------------------------------------


def positions(shape):
    return itertools.product(*map(range, shape))


def table_of(shape, value):
    return {p: value(p) for p in positions(shape)}


def evaluate(step, arrays, shapes, out_shape, values):
    """One step on dictionaries from positions to Python integers."""
    op, inputs = step["op"], [values[i] for i in step["inputs"]]
    in_shapes = [shapes[i] for i in step["inputs"]]
    x = inputs[0] if inputs else None
    if op in ("sum", "max"):
        join = sum if op == "sum" else max
        axes = step["axes"]
        return table_of(
            out_shape,
            lambda p: join(
                v for q, v in x.items() if all(q[i] == p[i] for i in range(len(p)) if i not in axes)
            ),
        )
    if op == "permute":
        return {tuple(q[i] for i in step["order"]): v for q, v in x.items()}
    if op == "reshape":
        flat = [x[q] for q in positions(in_shapes[0])]
        return dict(zip(positions(out_shape), flat, strict=True))
    if op == "concat":
        found, before, a = {}, 0, step["axis"]
        for value, shape in zip(inputs, in_shapes, strict=True):
            found |= {(*q[:a], q[a] + before, *q[a + 1 :]): v for q, v in value.items()}
            before += shape[a]
        return found
    if op == "part":
        a, kept = step["axis"], list(range(step["start"], step["stop"], step["stride"]))
        return table_of(out_shape, lambda p: x[(*p[:a], kept[p[a]], *p[a + 1 :])])
    if op in ("add", "multiply"):

        def joined(p):
            terms = [
                v[tuple(0 if n == 1 else i for i, n in zip(p, s, strict=True))]
                for v, s in zip(inputs, in_shapes, strict=True)
            ]
            return sum(terms) if op == "add" else prod(terms)

        return table_of(out_shape, joined)
    if op == "constant":
        return table_of(out_shape, lambda p: int(arrays[step["values"]][p]))
    if op == "clip":
        return {q: min(max(v, step["low"]), step["high"]) for q, v in x.items()}
    if op == "rescale":
        return {
            q: (v * step["factor"] + (1 << step["shift"]) // 2) // (1 << step["shift"]) for q, v in x.items()
        }
    if op == "table":
        row = [int(v) for v in arrays[step["values"]]]
        return {q: row[min(max(v - step["first"], 0), len(row) - 1)] for q, v in x.items()}
    if op in ("max_pool", "sum_pool"):

        def window(p):
            taps = [
                (
                    *p[:-2],
                    *(
                        i * s + k - pad
                        for i, s, k, pad in zip(p[-2:], step["stride"], tap, step["padding"], strict=True)
                    ),
                )
                for tap in positions(step["kernel"])
            ]
            inside = [x[t] for t in taps if t in x]
            return sum(inside) if op == "sum_pool" else max(inside)

        return table_of(out_shape, window)
    weight, bias = arrays[step["weight"]], arrays[step["bias"]]
    rank, depth = weight.ndim - 2, weight.shape[1]

    def correlated(p):
        lead, o, at = p[: len(p) - rank - 1], p[len(p) - rank - 1], p[len(p) - rank :]
        total = int(bias[o])
        for c, tap in itertools.product(range(depth), positions(weight.shape[2:])):
            channel = o // (len(weight) // step["groups"]) * depth + c
            place = tuple(
                i * s + k * d - b
                for i, s, k, d, b in zip(
                    at, step["stride"], tap, step["dilation"], step["before"], strict=True
                )
            )
            total += int(weight[(o, c, *tap)]) * x.get((*lead, channel, *place), 0)
        return total

    return table_of(out_shape, correlated)


# -- programs at random ----------------------------------------------------------------------------------------------------


def _overflows(description, arrays):
    try:
        Program(description, arrays)
    except ValueError as error:
        if "beyond 62 bits" in str(error):
            return True
        raise
    return False


@st.composite
def programs(draw):
    """A description with arrays: up to seven steps, each on values that are there."""
    shape = draw(st.lists(st.integers(1, 3), min_size=4, max_size=4))
    low = draw(st.integers(-300, 1))
    seed = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    entry = {"shape": shape, "low": low, "high": low + draw(st.integers(0, 600))}
    other = {"shape": [shape[0], 1, shape[2], 1], "low": -7, "high": 1 << 20}
    description: dict[str, Any] = {"inputs": [entry, other][: draw(st.integers(1, 2))], "steps": []}
    arrays: dict[str, np.ndarray] = {}
    for _ in range(draw(st.integers(1, 7))):
        given = [tuple(i["shape"]) for i in description["inputs"]]
        before = Program(description, arrays).shapes if description["steps"] else given
        description["steps"].append(_step(draw, before, arrays, seed))
        if _overflows(description, arrays):  # a product of products may become too large
            description["steps"].pop()
    description["steps"] = description["steps"] or [{"op": "clip", "inputs": [0], "low": -5, "high": 9}]
    return description, arrays


def _step(draw, shapes, arrays, rng):
    source = draw(st.integers(0, len(shapes) - 1))
    x, name = shapes[source], f"a{len(arrays)}"
    op = draw(st.sampled_from(sorted(OPS)))
    step: dict[str, Any] = {"op": op, "inputs": [source]}
    if op in ("sum", "max"):
        return step | {
            "axes": draw(st.lists(st.integers(0, len(x) - 1), min_size=1, max_size=3, unique=True))
        }
    if op == "permute":
        return step | {"order": draw(st.permutations(range(len(x))))}
    if op == "reshape":
        return step | {"dims": [*x[:-2], prod(x[-2:])] if len(x) > 2 and draw(st.booleans()) else [1, *x]}
    if op == "concat":
        return {"op": op, "inputs": [source, source], "axis": draw(st.integers(0, len(x) - 1))}
    if op == "part":
        axis = draw(st.integers(0, len(x) - 1))
        start = draw(st.integers(0, x[axis] - 1))
        return step | {"axis": axis, "start": start, "stop": x[axis], "stride": draw(st.integers(1, 2))}
    if op in ("add", "multiply"):
        fitting = [
            i
            for i, s in enumerate(shapes)
            if len(s) == len(x) and all(a == b or 1 in (a, b) for a, b in zip(s, x, strict=True))
        ]
        return {"op": op, "inputs": [source, draw(st.sampled_from(fitting))]}
    if op == "constant":
        arrays[name] = rng.integers(-50, 50, draw(st.sampled_from([x, (1,) * len(x)])))
        return {"op": op, "inputs": [], "values": name}
    if op == "clip":
        low = draw(st.integers(-100, 100))
        return step | {"low": low, "high": low + draw(st.integers(0, 1 << 40))}
    if op == "rescale":
        return step | {"factor": draw(st.integers(-(1 << 16), 1 << 16)), "shift": draw(st.integers(0, 20))}
    if op == "table":
        arrays[name] = rng.integers(-9, 99, draw(st.integers(1, 40)))
        return step | {"values": name, "first": draw(st.integers(-30, 10))}
    if op in ("max_pool", "sum_pool") and len(x) >= 2:
        kernel = [draw(st.integers(1, n)) for n in x[-2:]]
        return step | {
            "kernel": kernel,
            "stride": [draw(st.integers(1, 2)) for _ in x[-2:]],
            "padding": [draw(st.integers(0, k // 2)) for k in kernel],
        }
    if op == "convolve":
        rank = draw(st.integers(0, min(2, len(x) - 1)))
        channels, space = x[len(x) - rank - 1], x[len(x) - rank :]
        groups = draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0]))
        kernel = [draw(st.integers(1, n)) for n in space]
        dilation = [1 if k * 2 > n else draw(st.integers(1, 2)) for k, n in zip(kernel, space, strict=True)]
        spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
        outputs = groups * draw(st.integers(1, 2))
        arrays[name] = rng.integers(-40, 41, (outputs, channels // groups, *kernel))
        arrays[name + "b"] = rng.integers(-999, 999, outputs)
        return step | {
            "weight": name, "bias": name + "b", "groups": groups, "dilation": dilation,
            "stride": [draw(st.integers(1, 2)) for _ in space],
            "before": [draw(st.integers(0, s - 1)) for s in spans],
            "after": [draw(st.integers(0, s - 1)) for s in spans],
        }  # fmt: skip
    return {"op": "clip", "inputs": [source], "low": 0, "high": 1 << 61}


@settings(max_examples=150, deadline=None)
@given(programs(), st.integers(0, 2**32 - 1))
def test_the_executor_is_a_plain_evaluation_and_keeps_its_bounds(made, seed):
    description, arrays = made
    program = Program(json.loads(json.dumps(description)), arrays)
    rng, windows = np.random.default_rng(seed), []
    for shape, (low, high) in zip(program.shapes[: program.inputs], program.bounds, strict=False):
        corners = np.where(rng.random((1, *shape)) < 0.5, low, high)
        windows.append(np.concatenate([rng.integers(low, high + 1, (1, *shape)), corners]))
    got = program.run(*windows)
    assert got.dtype == np.int64
    assert got.shape == (2, *program.shapes[-1])
    for sample, result in enumerate(got):
        values = [{p: int(w[sample][p]) for p in positions(w.shape[1:])} for w in windows]
        for k, step in enumerate(description["steps"], len(windows)):
            values.append(evaluate(step, arrays, program.shapes, program.shapes[k], values))
            assert set(values[-1]) == set(positions(program.shapes[k]))
            assert program.bounds[k][0] <= min(values[-1].values())
            assert max(values[-1].values()) <= program.bounds[k][1]
        assert values[-1] == {p: int(result[p]) for p in positions(program.shapes[-1])}


# -- what is refused ---------------------------------------------------------------------------------------------------------

BASE = {"shape": [2, 3], "low": 0, "high": 1}


def program(*steps, arrays=None, **base):
    return Program({"inputs": [{**BASE, **base}], "steps": list(steps)}, arrays or {})


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"op": "exec", "inputs": [0]}, "no such op"),
        ({"op": "__class__", "inputs": [0]}, "no such op"),
        ({"op": "sum", "inputs": [0]}, "settings"),
        ({"op": "sum", "inputs": [0], "axes": [0], "code": "1"}, "settings"),
        ({"op": "sum", "inputs": [1], "axes": [0]}, "not there yet"),
        ({"op": "sum", "inputs": [-1], "axes": [0]}, "not there yet"),
        ({"op": "sum", "inputs": [0], "axes": [2]}, "not axes"),
        ({"op": "sum", "inputs": [0], "axes": [True]}, "not an integer"),
        ({"op": "sum", "inputs": [0], "axes": 3}, "not a list"),
        ({"op": "add", "inputs": [0]}, "inputs"),
        ({"op": "multiply", "inputs": [0, 0, 0]}, "inputs"),
        ({"op": "clip", "inputs": [0], "low": 2, "high": 1}, "nothing lies"),
        ({"op": "clip", "inputs": [0], "low": 0.5, "high": 1}, "not an integer"),
        ({"op": "table", "inputs": [0], "first": 0, "values": "there"}, "no array"),
        ({"op": "reshape", "inputs": [0], "dims": [7]}, "cannot become"),
        ({"op": "rescale", "inputs": [0], "factor": 1, "shift": 63}, "63"),
        ({"op": "rescale", "inputs": [0], "factor": 1 << 62, "shift": 0}, "2"),
        ({"op": "max_pool", "inputs": [0], "kernel": [1, 1], "stride": [1, 1], "padding": [1, 1]}, "padding"),
        ("sum", "no such op"),
        ({"op": ["sum"], "inputs": [0]}, "step 0"),
    ],
)
def test_what_is_no_step_is_refused(step, message):
    with pytest.raises(ValueError, match=message):
        program(step)


def test_programs_that_could_overflow_are_refused():
    square = {"op": "multiply", "inputs": [0, 0]}
    assert program(square, high=(1 << 31) - 1).bits == [31, 62]
    with pytest.raises(ValueError, match="beyond 62 bits"):
        program(square, high=1 << 31)
    weight = {"w": np.full((1, 3), 1 << 60), "b": np.zeros(1, np.int64)}
    step = {"op": "convolve", "inputs": [0], "weight": "w", "bias": "b", "groups": 1}
    step |= {"stride": [], "before": [], "after": [], "dilation": []}
    assert program(step, arrays={**weight, "w": weight["w"] >> 1}).bounds[1] == (0, 3 << 59)
    with pytest.raises(ValueError, match="beyond 62 bits"):
        program({"op": "add", "inputs": [0, 0]}, step | {"inputs": [1]}, arrays=weight)


def test_sums_beyond_the_floats_are_exact():
    weight = np.array([[(1 << 40) + 1, -(1 << 40) - 3, 7]])
    step = {"op": "convolve", "inputs": [0], "weight": "w", "bias": "b", "groups": 1}
    step |= {"stride": [], "before": [], "after": [], "dilation": []}
    made = program(step, arrays={"w": weight, "b": np.array([5])}, low=-(1 << 19), high=1 << 19)
    x = np.array([[[1 << 19, -(1 << 19), 3], [-1, 1, 524287]]])
    want = [[[5 + sum(int(a) * int(b) for a, b in zip(row, weight[0], strict=True))] for row in x[0]]]
    assert made.run(x).tolist() == want


def test_payloads_beyond_the_bounds_are_refused():
    made = program({"op": "sum", "inputs": [0], "axes": [1]})
    with pytest.raises(ValueError, match=r"beyond 0\.\.1"):
        made.run(np.full((1, 2, 3), 2))
    with pytest.raises(ValueError, match="windows of"):
        made.run(np.zeros((1, 3, 2), np.int64))
    with pytest.raises(ValueError, match="2 windows for 1"):
        made.run(np.zeros((1, 2, 3), np.int64), np.zeros((1, 2, 3), np.int64))


STEP = {"op": "sum", "inputs": [0], "axes": [1]}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"inputs": []}, "inputs"),
        ({"inputs": [BASE] * 5}, "more than 4 inputs"),
        ({"inputs": [{**BASE, "shape": []}]}, "a window of"),
        ({"inputs": [{**BASE, "shape": [0]}]}, "a window of"),
        ({"inputs": [{**BASE, "shape": [1 << 20, 1 << 20]}]}, "payloads"),
        ({"inputs": [{**BASE, "low": 2}]}, "payloads"),
        ({"inputs": [{**BASE, "more": 2}]}, "shape, low, high"),
        ({"steps": []}, "steps"),
        ({"steps": [STEP] * 501}, "steps"),
        ({"steps": {}}, "steps"),
        ({"more": 1}, "inputs and steps"),
    ],
)
def test_descriptions_that_are_no_program_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Program({"inputs": [BASE], "steps": [STEP], **wrong}, {})


def test_arrays_of_other_kinds_are_refused():
    for array in (np.zeros(2), np.zeros(2, np.uint64), np.array(["1"])):
        with pytest.raises(ValueError, match="integers"):
            Program({"inputs": [BASE], "steps": [STEP]}, {"w": array})
