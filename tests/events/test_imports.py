"""Reading events needs numpy alone."""

import subprocess
import sys


def test_no_heavy_imports():
    heavy = ["torch", "pandas", "matplotlib", "scipy", "sklearn", "spikingjelly", "onnx", "h5py", "rich"]
    code = f"import sys, tcja_deploy.events; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
