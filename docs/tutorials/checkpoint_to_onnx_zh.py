# %% [markdown]
# # 从检查点到 ONNX
#
# 软件包自带一个在 N-MNIST 上训练的小型 TCJA-SNN（保存格式与作者脚本相同），源码里还有十条测试录制。把下面两个路径换成你自己的即可。

# %%
from pathlib import Path
from tempfile import mkdtemp

import tcja_deploy as td

here = Path.cwd()
root = next(p for p in (here, *here.parents) if (p / "mkdocs.yml").is_file())
model = root / "tcja_deploy/data/nmnist_checkpoint_max.pth"
recordings = root / "tests/data/n-mnist/Test"

# %% [markdown]
# ## 里面有什么
#
# 文件中只读取权重，不执行任何代码。权重说明不了的信息（神经元常数、读出方式）取自公开的训练脚本，并会打印出来。

# %%
td.inspect(model)

# %%
graph = td.load(model)
for name, value in graph.source.items():
    print(f"{name}: {value}")

# %% [markdown]
# ## 导出并核对
#
# `export` 写出模型，在你的录制上与参考实现并排运行 onnxruntime，核对之后才放到目标位置，旁边附有清单和黄金样本。

# %%
import numpy as np

data = td.open_data(graph, recordings)
frames = np.stack([data[i][0] for i in range(len(data))], axis=1)  # [T, N, C, H, W]
folder = Path(mkdtemp())
report = td.export(graph, "onnx", folder / "digits.onnx", data=[frames])
print(sorted(f.name for f in report.files))
print(f"{report.agreement.neuron_steps:,} 个神经元步中有 {report.agreement.mismatches} 个不同")

# %% [markdown]
# 任何装有 onnxruntime 的机器都能运行它：

# %%
import onnxruntime

session = onnxruntime.InferenceSession(folder / "digits.onnx")
output = session.run(None, {session.get_inputs()[0].name: frames})[0]
print("预测", output.argmax(-1).tolist())
print("标签", [data[i][1] for i in range(len(data))])

# %% [markdown]
# ## 命令行
#
# ```console
# tcja-deploy export nmnist_checkpoint_max.pth --target onnx --data n-mnist/Test
# tcja-deploy verify nmnist_checkpoint_max.onnx --model nmnist_checkpoint_max.pth --data n-mnist/Test
# ```
