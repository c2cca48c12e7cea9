# %% [markdown]
# # From a checkpoint to ONNX
#
# The package ships a small TCJA-SNN trained on N-MNIST, saved as the authors' scripts save theirs, and its source comes with ten test
# recordings. Replace both paths with your own.

# %%
from pathlib import Path
from tempfile import mkdtemp

import tcja_deploy as td

here = Path.cwd()
root = next(p for p in (here, *here.parents) if (p / "mkdocs.yml").is_file())
model = root / "tcja_deploy/data/nmnist_checkpoint_max.pth"
recordings = root / "tests/data/n-mnist/Test"

# %% [markdown]
# ## What is in it
#
# Nothing but weights is read from the file. What they do not tell (neuron constants, the readout) is taken from the published scripts
# and printed.

# %%
td.inspect(model)

# %%
graph = td.load(model)
for name, value in graph.source.items():
    print(f"{name}: {value}")

# %% [markdown]
# ## Export, verified
#
# `export` writes the model, runs it in onnxruntime beside the reference on your recordings, and only then moves it into place, with a
# manifest and a golden sample.

# %%
import numpy as np

data = td.open_data(graph, recordings)
frames = np.stack([data[i][0] for i in range(len(data))], axis=1)  # [T, N, C, H, W]
folder = Path(mkdtemp())
report = td.export(graph, "onnx", folder / "digits.onnx", data=[frames])
print(sorted(f.name for f in report.files))
print(report.agreement.mismatches, "of", f"{report.agreement.neuron_steps:,}", "neuron-steps differ")

# %% [markdown]
# Any other machine with onnxruntime runs it:

# %%
import onnxruntime

session = onnxruntime.InferenceSession(folder / "digits.onnx")
output = session.run(None, {session.get_inputs()[0].name: frames})[0]
print("predicted", output.argmax(-1).tolist())
print("labels   ", [data[i][1] for i in range(len(data))])

# %% [markdown]
# ## The same from the command line
#
# ```console
# tcja-deploy export nmnist_checkpoint_max.pth --target onnx --data n-mnist/Test
# tcja-deploy verify nmnist_checkpoint_max.onnx --model nmnist_checkpoint_max.pth --data n-mnist/Test
# ```
