"""Reading files that nobody vouches for: one reader per container format, each within limits on memory and time.

`json_text` (JSON), `archives` (zip files), `arrays` (`.npy` and `.npz`), `hdf5`, `onnx_file` (an ONNX model's metadata) and
`child` (foreign parsers in a process of their own). Nothing else in the package opens such files.
"""
