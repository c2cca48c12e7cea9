"""Run a step model frame by frame on one recording; the states stay in onnxruntime.

tcja-deploy export checkpoint_max.pth --target onnx-step --lookahead 1 --output step.onnx
python examples/stream_onnx.py step.onnx recording.bin
"""

import sys

import numpy as np
import onnxruntime as ort

from tcja_deploy.events import open_data

session = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
frame_input, *state_inputs = session.get_inputs()
channels, *sensor = frame_input.shape[1:]
data = open_data(sys.argv[2], timesteps=int(about["tcja_deploy.T"]), sensor=tuple(sensor), channels=channels)
frames, _ = data[0]  # event counts [T, C, H, W]
latency = int(about["tcja_deploy.latency"])  # steps until the last frame's result is out

initial = np.load(sys.argv[1].removesuffix(".onnx") + ".states.npz")
states = {s.name: ort.OrtValue.ortvalue_from_numpy(initial[s.name]) for s in state_inputs}
binding = session.io_binding()
for step in range(len(frames) + latency):
    frame = frames[step : step + 1] if step < len(frames) else np.zeros_like(frames[:1])
    binding.bind_cpu_input(frame_input.name, np.ascontiguousarray(frame))
    for name, value in states.items():
        binding.bind_ortvalue_input(name, value)  # what the last step gave, where it lies
    for output in session.get_outputs():
        binding.bind_output(output.name)
    session.run_with_iobinding(binding)
    output, index, valid, *following = binding.get_outputs()
    states = dict(zip(states, following, strict=True))
    if index.numpy() >= 0:
        done = "final" if valid.numpy() else "so far"
        print(f"step {step}: frame {index.numpy()}, class {output.numpy().argmax()} ({done})")
