# %% [markdown]
# # Attention against none
#
# Is the attention worth its energy? Three networks see the same hundred recordings: the shipped one with TCJA, the same network without
# its two TCJA blocks (same script, settings, seed and training recordings: `python -m training.train_digits --without-attention`), and the
# shipped network for N-MNIST, which never saw these recordings in training.

# %%
from pathlib import Path

import tcja_deploy as td

here = Path.cwd()
root = next(p for p in (here, *here.parents) if (p / "mkdocs.yml").is_file())
shipped = root / "tcja_deploy/data"
models = {
    "without attention": td.load(root / "tests/data/attention/digits_without_attention.pth", timesteps=10),
    "TCJA": td.load(shipped / "digits_checkpoint_max.pth"),
    "TCJA, trained on N-MNIST": td.load(shipped / "nmnist_checkpoint_max.pth"),
}

# %% [markdown]
# No weight of a network without attention tells how many time steps it was trained with, so `timesteps` does.
#
# ## On the same recordings

# %%
table = td.compare(
    models,
    shipped / "digits_test_events.npz",
    conventions=["paper", "strict"],
    profiles=["asic45"],
    progress=False,
)
table

# %%
_ = table.plot()

# %% [markdown]
# ## Differences, paired
#
# From the first model. Each draw of the bootstrap takes the same recordings for both networks, so that what is hard for both does not widen
# the interval (95 %).

# %%
import pandas as pd

pd.DataFrame(
    {
        "model": found.name,
        "quantity": found.quantity,
        "difference or ratio": round(found.value, 4),
        "from": round(found.interval.low, 4),
        "to": round(found.interval.high, 4),
    }
    for found in table.comparison.differences
)

# %%
tcja = {found.quantity: found for found in table.comparison.differences if found.name == "TCJA"}
accuracy = tcja["accuracy"].interval
told = "tell the two apart" if accuracy.low > 0 or accuracy.high < 0 else "do not tell the two apart"
print(
    f"accuracy of TCJA minus that without: {accuracy.low:+.2f} to {accuracy.high:+.2f}; {len(models)} models, 100 recordings: they {told}"
)
for quantity, found in tcja.items():
    if quantity != "accuracy":
        print(
            f"{quantity}: {found.value:.3f} times that without attention ({found.interval.low:.3f} to {found.interval.high:.3f})"
        )

# %% [markdown]
# What can be said: with and without attention the network is right on the same recordings, so these recordings hold nothing that tells the
# two apart. That is not a proof that they are equally good: the digits are too easy, and each network was trained once. What the
# attention costs depends on the accounting. `paper` prices spikes and leaves the gates out; the network with attention costs more because
# it spikes more. `strict` counts the gates' own operations too, and that values behind a gate are no spikes any more: a synapse that
# gets one multiplies. Its numbers are lower bounds where a gate's sigmoid has no published price.
#
# The third network shows what a comparison across data sets does: it was trained for other pictures, so its accuracy here says nothing
# about it, and its few spikes are those of a network that sees what it does not know.
#
# `table.save("table.tex")` writes all of it as booktabs tables, `.html` with the plot. From the command line:
#
# <!-- before: import shutil; from tcja_deploy.data import path; [shutil.copy(path(f), ".") for f in ("digits_checkpoint_max.pth", "digits_test_events.npz")]; shutil.copy(the_root / "tests/data/attention/digits_without_attention.pth", ".") -->
#
# ```console
# tcja-deploy compare digits_without_attention.pth digits_checkpoint_max.pth nmnist_checkpoint_max.pth -T 10 --data digits_test_events.npz -o table.tex -o table.html
# ```
