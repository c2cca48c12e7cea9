# %% [markdown]
# # Streaming, and what not waiting costs
#
# Hardware sees one frame at a time. The temporal branch of TCJA looks `K_T` frames around and the channel branch mixes the whole window,
# so an exact result has to wait. How long, and what does waiting less cost?

# %%
from pathlib import Path

import tcja_deploy as td

here = Path.cwd()
root = next(p for p in (here, *here.parents) if (p / "mkdocs.yml").is_file())
model = root / "tcja_deploy/data/nmnist_checkpoint_max.pth"
recordings = root / "tests/data/n-mnist/Test"
graph = td.load(model)

# %% [markdown]
# ## Exact
#
# Every spike of the stream is that of the window form.

# %%
exact = td.stream(graph, recordings, progress=False)
exact.require_agreement()
table = exact.frame()
table[table.unit != "ms"]

# %% [markdown]
# ## Not waiting
#
# With a look-ahead of `D` frames, blocks expect zeros of the frames to come.

# %%
import pandas as pd

rows = []
for lookahead in (0, 2, 5, 9):
    found = td.stream(graph, recordings, lookahead=lookahead, progress=False)
    rows.append(
        {
            "D": lookahead,
            "differing spikes": f"{100 * found.agreement.mismatch_rate:.2f} %",
            "accuracy": f"{100 * found.outcome.accuracy:.0f} %",
            "bytes held": found.cost.held,
        }
    )
pd.DataFrame(rows)

# %% [markdown]
# `tcja-deploy stream MODEL --data test/ --sweep --fit` fits what the blocks expect on some recordings and compares on others:
# [Step by step](../streaming.md).
