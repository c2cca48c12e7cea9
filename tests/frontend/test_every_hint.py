"""Every hint that the loader, the tracer and the readers can give is followed by a test.

The hints are read off the code. Each is in one of the tables in which a network is refused and then follows it, or is named
here with the test that does so; a hint that is neither is one that nobody has tried.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from nir_hints import NIR_HINTS
from test_hints_of_ops import OP_HINTS
from test_trace_hints import HINTS

import tcja_deploy as td
from tcja_deploy.errors import DeployError

ROOT = Path(__file__).parents[2]
READERS = ("tcja_deploy/frontend", "tcja_deploy/torch_file", "tcja_deploy/nir_file")
UNSUPPORTED = {"Unsupported", "UnsupportedInContext", "OtherReading", "LoopRefusal", "OtherLength", "refusal"}


def pieces(value: ast.expr, names: dict[str, list[str]]) -> list[str]:
    """The texts that an expression may be; what is filled in at run time is left out."""
    match value:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=values):
            return ["\0".join(v.value if isinstance(v, ast.Constant) else "" for v in values)]  # type: ignore[misc]
        case ast.IfExp(body=body, orelse=other):
            return [*pieces(body, names), *pieces(other, names)]
        case ast.BoolOp(values=values):
            return [t for v in values for t in pieces(v, names)]
        case ast.Name(id=name):
            return names.get(name, [])
        case ast.Call(args=[_, default]):  # a table of hints, and what is said otherwise
            return pieces(default, names)
    return []


def hints() -> Iterator[str]:
    """All hints, by their longest text without what is filled in."""
    for folder in READERS:
        for file in sorted((ROOT / folder).glob("*.py")):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            names: dict[str, list[str]] = {}
            for node in ast.walk(tree):
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                    names.setdefault(node.targets[0].id, []).extend(pieces(node.value, {}))
            for node in ast.walk(tree):
                if not isinstance(node, ast.Call):
                    continue
                called = getattr(node.func, "id", getattr(node.func, "attr", ""))
                given = [k.value for k in node.keywords if k.arg == "hint"]
                given += (
                    node.args[1:2] if called in UNSUPPORTED else node.args[2:3] if called == "refuse" else []
                )
                for value in given:
                    yield from (max(t.split("\0"), key=len) for t in pieces(value, names) if t)


BY_TEST: dict[str, str] = {
    # files of weights and modules
    "choose one of ": "frontend/test_checkpoint.py::test_contradicting_options",
    "take the weights with the code of the network": (
        "frontend/test_every_hint.py::test_unknown_layouts_load_by_their_code"
    ),
    "pass --arch with the network that is meant: ": "frontend/test_checkpoint.py::test_arch_overrules_the_pooling",
    "pass --timesteps": "frontend/test_checkpoint.py::test_no_attention_needs_timesteps",
    "pass --input-shape C,H,W": "frontend/test_checkpoint.py::test_frame_size_that_no_sensor_has",
    "pass --trust-pickle if you trust": "frontend/test_load.py::test_pickled_module_needs_consent",
    "the module's class must be importable": "frontend/test_load.py::test_classes_of_the_current_folder_are_found",
    "save the checkpoint as torch.save": "frontend/test_load.py::test_state_dict_under_a_usual_name",
    "choose one, for instance --weights-key ": "frontend/test_state_dicts.py::test_nothing_tells_which",
    "--weights-key takes one of: ": "frontend/test_state_dicts.py::test_weights_come_before_averaged_ones",
    "build the network with the arguments": "frontend/test_named_code.py::test_hint_of_a_misfit_works",
    "save the weights of the network as it computes": (
        "frontend/test_state_dicts.py::test_what_is_no_weight_is_refused_by_key_and_the_hint_works"
    ),
    "the file is damaged, or made by another program": (
        "torch_file/test_read_weights.py::test_large_tensor_of_a_small_file"
    ),
    "copy or download it again": "frontend/test_load.py::test_truncated_files",
    "unpack it first if the model lies inside": "torch_file/test_read_weights.py::test_another_archive",
    "save torch.jit.load(path).state_dict()": (
        "torch_file/test_read_weights.py::test_torchscript_is_told_and_the_hint_works"
    ),
    "write forward for time as the first axis": (
        "frontend/test_outputs_and_axes.py::test_time_on_the_last_axis_is_told_and_the_hint_works"
    ),
    "unpack the archive and pack it again without compression": (
        "torch_file/test_archives.py::test_other_packing_is_refused_and_the_hint_works"
    ),
    "unpack it with tar -xf": "torch_file/test_read_weights.py::test_tar_files_of_2016",
    # named code
    "write FILE.py:NAME": "frontend/test_named_code.py::test_classes_modules_and_packages",
    "rename the file": "frontend/test_named_code.py::test_name_that_python_has_itself",
    "it takes: ": "frontend/test_named_code.py::test_arguments_that_do_not_fit",
    "it takes no arguments": "frontend/test_named_code.py::test_arguments_that_do_not_fit",
    "=VALUE, or name a function that needs nothing": (
        "frontend/test_named_code.py::test_hint_of_a_missing_argument_works"
    ),
    "name a class of networks": "frontend/test_named_code.py::test_classes_modules_and_packages",
    "name a function or class of a file": "frontend/test_named_code.py::test_files_that_do_not_import",
    ", or run in the folder that holds it": "frontend/test_named_code.py::test_classes_modules_and_packages",
    "it defines": "frontend/test_named_code.py::test_classes_modules_and_packages",
    # weights that are written again
    "name the code of the network: models.py:NAME": (
        "exporters/lava/test_tuning.py::test_a_pickled_module_is_not_written_and_the_hint_works"
    ),
    "save the network without parametrisations": (
        "exporters/lava/test_tuning.py::test_weights_that_the_source_does_not_hold_have_no_place"
    ),
    # NIR
    "known HDF5 files are .nir files": "nir_file/test_nir_container.py::test_reads_what_nir_reads",
    "export it again": "nir_file/test_nir_container.py::test_notes_of_an_export_are_used",
    "name the class or function that builds it": "frontend/test_named_code.py::test_arguments_without_code",
    # modules
    "pass a path or a torch.nn.Module": "frontend/test_load.py::test_something_else_than_a_model",
    "pass the module it was made from": (
        "frontend/test_every_hint.py::test_scripts_load_as_the_module_they_were_made_from"
    ),
    "pass input_shape=": "frontend/test_trace_time.py::test_input_shape_is_needed",
    "write, for instance, 2,128,128": "frontend/test_trace_time.py::test_empty_frames",
    "pass timesteps=T": "frontend/test_trace_time.py::test_timesteps_that_nothing_tells",
    "if the network is meant for T = ": (
        "frontend/test_trace_loops.py::test_a_loop_that_ends_before_the_window_is_refused"
    ),
    "pass the number of time steps that the code is written for": (
        "frontend/test_trace_loops.py::test_a_loop_that_goes_on_after_the_window_is_refused"
    ),
    "export it with snntorch.export_nir": "exporters/nir/test_nir_foreign.py::test_snntorch_file",
    "what was read is proven by running": "frontend/test_proof.py::test_without_proof_the_source_says_so",
    "docs/neurons.md lists the modules": "frontend/test_identify.py::test_cells_that_are_reset_to_their_threshold",
    "what depends on more than the input": "frontend/test_proof.py::test_random_numbers_are_found",
    "give it ": "frontend/test_trace_hints.py::test_following_the_hint_loads",
    " time steps, or name the right T": "frontend/test_trace_hints.py::test_following_the_hint_loads",
    " time steps) and features can be repeated": "frontend/test_hints_of_ops.py::test_following_the_hint_of_an_op_loads",
    "switch the reduced precision off": "frontend/test_every_hint.py::test_full_precision_loads",
    # Norse
    "give all neurons of a layer the same value": "frontend/test_norse.py::test_lif",
    "dt and the time constants have to be in the same unit": (
        "frontend/test_norse.py::test_time_constants_and_dt_are_those_of_the_module"
    ),
    "use norse.torch.functional.reset": "frontend/test_norse.py::test_lif_box_with_soft_reset",
    "neurons here start and rest where they are reset": "frontend/test_norse.py::test_lif",
    "known: ": "frontend/test_norse.py::test_lif",
    "set record_states=False": "frontend/test_norse.py::test_lif",
    "use the layer over time": "frontend/test_norse.py::test_lif",
    "use cells (LIFCell, LICell)": "frontend/test_norse.py::test_networks_agree_spike_for_spike_on_recordings",
}
"""The beginning of a hint, and the test that follows it."""


def test_every_hint_is_followed_by_a_test() -> None:
    tried = [hint for table in (HINTS, OP_HINTS) for hint, *_ in table.values()] + list(NIR_HINTS)
    untried = {
        hint
        for hint in hints()
        if not any(t in hint or hint in t for t in tried) and not hint.startswith(tuple(BY_TEST))
    }
    assert untried == set()


def test_the_tests_named_here_are_there() -> None:
    for hint, place in BY_TEST.items():
        file, _, name = place.partition("::")
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), hint
    given = list(hints())
    for hint in BY_TEST:
        assert any(text.startswith(hint) for text in given), f"nothing gives the hint {hint!r} any more"


# -- hints that no other test follows ------------------------------------------------------------------------------------------
def test_scripts_load_as_the_module_they_were_made_from() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU()).eval()
    with pytest.raises(DeployError, match="pass the module it was made from"):
        td.load(torch.jit.script(net), timesteps=2, input_shape=(4,))
    td.load(net, timesteps=2, input_shape=(4,))


def test_full_precision_loads() -> None:
    from spikingjelly.activation_based import neuron

    net = torch.nn.Sequential(torch.nn.Linear(4, 3), neuron.LIFNode()).eval()
    net[1]._neuron_precision = "bf16"
    with pytest.raises(DeployError, match="switch the reduced precision off"):
        td.load(net, timesteps=2, input_shape=(4,), prove=False)
    net[1]._neuron_precision = None
    td.load(net, timesteps=2, input_shape=(4,), prove=False)


def test_unknown_layouts_load_by_their_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dense.py").write_text(
        "from torch import nn\ndef build():\n    return nn.Sequential(nn.Linear(4, 3), nn.ReLU())\n"
    )
    torch.save(torch.nn.Sequential(torch.nn.Linear(4, 3)).state_dict(), tmp_path / "w.pth")
    with pytest.raises(DeployError, match=r"models\.py:NAME --weights FILE"):
        td.load(tmp_path / "w.pth")
    td.load("dense.py:build", weights="w.pth", timesteps=2, input_shape=(4,))


@pytest.mark.parametrize("hint", NIR_HINTS)
def test_following_the_hint_of_a_nir_file_loads(hint: str) -> None:
    refused, followed = NIR_HINTS[hint]
    with pytest.raises(DeployError) as caught:
        refused()
    assert hint in str(caught.value)
    followed()
