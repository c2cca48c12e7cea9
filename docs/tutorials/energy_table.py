# %% [markdown]
# # An energy table that a reviewer accepts
#
# No rate is assumed: spikes are counted on your recordings, synaptic operations exactly. Conventions and prices stand side by side, each
# with its source, and what nobody has published a price for is listed, never zero.

# %%
from pathlib import Path

import tcja_deploy as td

here = Path.cwd()
root = next(p for p in (here, *here.parents) if (p / "mkdocs.yml").is_file())
model = root / "tcja_deploy/data/nmnist_checkpoint_max.pth"
recordings = root / "tests/data/n-mnist/Test"

# %% [markdown]
# ## Firing rates first

# %%
rates = td.rates(model, recordings, progress=False)
rates.frame()[["value", "op", "elements", "rate_mean", "silent"]].head(5)

# %%
_ = rates.plot()

# %% [markdown]
# ## Energy
#
# `paper` is the accounting of the TCJA paper: an accumulate per spike and synapse at 0.9 pJ against a multiply-accumulate at 4.6 pJ.
# `strict` counts what the paper leaves out: the attention's multiplications, the neurons, event counts as multiply-accumulates.

# %%
energy = td.energy(model, recordings, conventions=["paper", "strict"], profiles=["asic45"], progress=False)
frame = energy.frame()
frame["energy / µJ"] = (frame["energy_pJ"] / 1e6).round(3)
frame[["convention", "network", "energy / µJ", "ratio_to_snn"]]

# %%
_ = energy.plot()

# %% [markdown]
# ## For the paper
#
# `energy.save("table.tex")` writes booktabs tables, `.html` the whole report with its assumptions and sources. Several models on the same
# recordings, differences with paired intervals:

# %%
table = td.compare(
    {"shipped": model, "shipped again": model}, recordings, conventions=["paper"], progress=False
)
table.frame()[["model", "accuracy", "parameters", "synops", "energy_0_pJ", "energy_0_to_ann"]]
