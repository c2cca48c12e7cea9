"""The one reader of PyTorch's formats and safetensors: no code of a file runs, nothing is allocated that it does not hold."""
