# %% [markdown]
# # Loihi without a Loihi
#
# Loihi computes in integers: eight-bit weights, currents that wrap, leaks that truncate. This page turns a trained network into those
# integers, reads what was written, runs it beside the float network, and says what a recording costs in time steps. No chip is needed;
# where Lava is set up, Intel's own simulation of the chip checks every value.

# %%
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

import tcja_deploy as td

here = Path.cwd()
root = next(p for p in (here, *here.parents) if (p / "mkdocs.yml").is_file())
graph = td.load(root / "tcja_deploy/data/nmnist_checkpoint_max.pth")


def recordings(part):
    """Frames `[T, N, C, H, W]` and labels `[N]` of ten recordings."""
    data = td.open_data(graph, root / "tests/data/n-mnist" / part)
    frames, labels = zip(*(data[i] for i in range(len(data))), strict=True)
    return np.stack(frames, axis=1), np.array(labels)


# %% [markdown]
# ## Quantise and export
#
# `data` decides how much head room the currents get; `test` is what float and integer network are compared on. Ten recordings of each are
# enough to show the way; take a hundred of your own training set.

# %%
calibration, _ = recordings("Train")
test = recordings("Test")
bundle = Path(mkdtemp()) / "digits.lava"
report = td.export(graph, "lava", bundle, data=[calibration], test=[test])
for line in report.summary[:2]:
    print(line)

# %% [markdown]
# Layer by layer: steps of a weight from rest to the threshold (`scale`), currents that wrapped, spikes or payloads per neuron and step in
# the float and in the integer network, and the share of neuron-steps where only one of the two spikes.

# %%
import pandas as pd

pd.DataFrame(
    {
        "stage": stage.name,
        "kind": stage.kind,
        "scale": round(stage.scale),
        "wraps": stage.wraps,
        "float": round(stage.rate_float, 4),
        "integer": round(stage.rate_integer, 4),
        "differ": f"{stage.disagreement:.3%}",
    }
    for stage in report.stages
)

# %% [markdown]
# Early layers are almost the same, deep ones differ: a small error moves a spike, and a moved spike moves others. Accuracy and rates are
# what to compare; the spikes of the deep layers never become equal. What the chip would not take as it is stands in the notes:

# %%
for note in report.notes:
    print("-", note)

# %% [markdown]
# ## What is in the bundle
#
# Layers between two gates are files as `netx` of lava-dl reads them. A gate of TCJA is no layer of Lava: its weights and its table come
# with a Lava process in `runner/`.

# %%
for file in sorted(bundle.rglob("*")):
    if file.is_file() and file.suffix != ".py":
        print(f"{file.stat().st_size:>8,} bytes  {file.relative_to(bundle)}")

# %% [markdown]
# ## The schedule
#
# A layer takes one time step. A gate looks over the whole window of T = 10 frames, so frame 0 leaves it nine steps later. Windows follow
# each other without a gap.

# %%
import json

section = json.loads((bundle / "manifest.json").read_text())["lava"]
rows, arrives = [], 0
for part in section["parts"]:
    for stage in part.get("layers", [part]):
        rows.append(
            {
                "file": part["file"],
                "stage": stage["name"],
                "kind": stage["kind"],
                "frame 0 arrives": arrives,
                "frame 0 leaves": stage["step"],
            }
        )
        arrives = stage["step"]
print(
    f"one recording takes {section['frames'] + section['latency']} steps, each further one {section['frames']}"
)
pd.DataFrame(rows)

# %% [markdown]
# ## The twin
#
# The *twin* computes with Lava's fixed-point rules in this process, a hundred times as fast as Lava. It reads the bundle's own files, so
# this is a check of what was written, on the sample that lies in the bundle:

# %%
twin = td.verify(bundle, backend="twin")
print(twin.mismatches, "of", f"{twin.neuron_steps:,}", "values differ")

# %% [markdown]
# It also runs frame by frame, as the chip would, with latency and the bytes of state:

# %%
streamed = td.stream(
    graph,
    root / "tests/data/n-mnist/Test",
    engine="twin",
    calibration=root / "tests/data/n-mnist/Train",
    progress=False,
)
table = streamed.frame()
table[table.unit != "ms"]

# %% [markdown]
# ## The real Lava
#
# `tcja-deploy lava setup` builds the environment that lava-dl needs (Python 3.10, of its own, once). Then `verify` runs the bundle in
# Lava's simulation of Loihi's arithmetic and compares every value of every stage with the twin. What follows is what happened where this
# page was built; without that environment it says so, and everything above stays as it is.

# %%
frames, _ = test
try:
    lava = td.verify(bundle, data=[frames[:, :1]], fast_conv=True)
except td.DeployError as error:
    print(f"Not run where this page was built: {error.reason}; {error.hint}")
else:
    print(lava.mismatches, "of", f"{lava.neuron_steps:,}", "values differ between Lava and the twin")

# %% [markdown]
# Equal means equal, no tolerance. It is a statement about Intel's simulation: there is no chip in this loop, and window gates and the
# readout on the host are no Loihi code. [Lava and Loihi](../lava.md) has the limits, and the figures of other networks.
#
# ## The same from the command line
#
# ```console
# tcja-deploy export nmnist_checkpoint_max.pth --target lava --data n-mnist/Train --test n-mnist/Test -o digits.lava
# tcja-deploy inspect digits.lava
# tcja-deploy verify digits.lava --backend twin
# ```
