"""How a model was read, so that `verify` can read it again: manifests keep the words, the user's cache keeps the consent.

A manifest may be anybody's. So what it names is run again only if it is the file that the user let run before, at the same
place and with the same content; everything else is looked up by content as well, and runs no code.
"""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path
from typing import Any, get_type_hints

from tcja_deploy.cli.loading import Loading
from tcja_deploy.errors import UsageError

__all__ = ["read_again", "remember_consent", "source_entries"]

_WORDS, _DIGESTS = "loaded_with", "loaded_sha256"
"""Entries of a graph's source: what the user said, and the digests of the files that it names."""


def source_entries(model: Path, how: Loading) -> dict[str, str]:
    """What a graph's source keeps, so that the model can be read again; nothing if its files are not where they are named."""
    from tcja_deploy.files import sha256

    files = _files(model, how, Path.cwd())
    if files is None:
        return {}
    return {_WORDS: command_line(model, how), _DIGESTS: " ".join(sha256(f) for f in files)}


def command_line(model: Path, how: Loading) -> str:
    """Model and options as on a command line; `parse_command_line` reads it back."""
    said = [str(model)]
    for field, value in how._asdict().items():
        flag = f"--{field.replace('_', '-')}"
        if value is True:
            said.append(flag)
        elif isinstance(value, list):
            said += [word for one in value for word in (flag, str(one))]
        elif value not in (None, False):
            said += [flag, str(value)]
    return shlex.join(said)


def parse_command_line(text: str) -> tuple[Path, Loading]:
    """What `command_line` wrote.

    Raises:
        UsageError: If the text is anything else.
    """
    try:
        model, *rest = shlex.split(text)
        types = get_type_hints(Loading)
        found: dict[str, Any] = {}
        while rest:
            field = rest.pop(0).removeprefix("--").replace("-", "_")
            told = str(types[field])
            if "bool" in told:
                found[field] = True
            elif "list" in told:
                found.setdefault(field, []).append(rest.pop(0))
            else:
                convert = next((c for n, c in _KINDS.items() if n in told), str)
                found[field] = convert(rest.pop(0))
        return Path(model), Loading(**found)
    except (ValueError, KeyError, IndexError) as error:
        raise UsageError(
            f"the manifest says in an unknown form how the model was read ({text!r})", hint="pass --model"
        ) from error


_KINDS: dict[str, Any] = {"Path": Path, "int": int, "float": float}


# -- consent ---------------------------------------------------------------------------------------------------------------
def _files(model: Path, how: Loading, folder: Path) -> list[Path] | None:
    """The file of the model or of its code, and that of the weights; `None` if one is not where its name says."""
    from tcja_deploy.frontend.named_code import code_name

    code = code_name(model)
    if code is None:
        places = [folder / model]
    elif code.origin.endswith(".py"):
        places = [folder / code.origin]
    else:
        inside = folder.joinpath(*code.origin.split("."))
        places = [inside.with_name(f"{inside.name}.py"), inside / "__init__.py"]
    found = next((p for p in places if p.is_file()), None)
    weights = [] if how.weights is None else [folder / how.weights]
    return [found, *weights] if found is not None and all(w.is_file() for w in weights) else None


def _token(file: Path) -> Path:
    """Where it is noted that the file at this path, with its present content, may run."""
    from tcja_deploy.files import sha256
    from tcja_deploy.files.system import user_cache

    name = hashlib.sha256(f"{file.resolve()} {sha256(file)}".encode()).hexdigest()
    return user_cache() / "agreed" / name


def remember_consent(model: Path, how: Loading) -> None:
    """Note that the user let the model's file run, if so; silently does nothing if the cache cannot be written to."""
    files = _files(model, how, Path.cwd()) if _runs(model, how) else None
    if files is not None:
        try:
            note = _token(files[0])
            note.parent.mkdir(parents=True, exist_ok=True)
            note.touch()
        except OSError:
            return


def _runs(model: Path, how: Loading) -> bool:
    from tcja_deploy.frontend.named_code import code_name

    return code_name(model) is not None or how.trust_pickle


# -- reading again ---------------------------------------------------------------------------------------------------------
def read_again(artifact: Path, target: str) -> tuple[Path, Loading]:
    """Model and options with which an artifact was exported, from the manifest beside it.

    Files are looked for from the current folder and from that of the artifact, and have to be the same.

    Raises:
        UsageError: If the manifest does not say, if a file is missing or has changed, or if code would run that the user
            has not allowed.
        FileFormatError: If the manifest is damaged.
    """
    from tcja_deploy.exporters.companions import beside
    from tcja_deploy.exporters.manifest import NAME, manifest_target, read_manifest
    from tcja_deploy.files import path_status, sha256
    from tcja_deploy.frontend.named_code import code_name

    missing = "this artifact is compared with the model it was exported from"
    manifest = artifact / NAME if artifact.is_dir() else beside(artifact, NAME)
    if path_status(manifest) != "file":
        raise UsageError(
            f"{missing}, and there is no manifest beside it that says which", hint="pass --model"
        )
    if (found := manifest_target(manifest)) != target:
        raise UsageError(
            f"{missing}, and the manifest beside it is that of an export to {found}, not to {target}",
            where=str(manifest),
            hint="pass --model",
        )
    about = read_manifest(manifest, target).get("model")
    source = about.get("source") if isinstance(about, dict) else None
    told, digests = (str(source.get(k, "")) if isinstance(source, dict) else "" for k in (_WORDS, _DIGESTS))
    if not told:
        raise UsageError(
            f"{missing}; its manifest does not say how that was read", hint="pass --model and its options"
        )
    model, how = parse_command_line(told)
    named = f"--model {told}"
    for folder in dict.fromkeys((Path.cwd(), artifact.resolve().parent)):
        files = _files(model, how, folder)
        if files is None:
            continue
        changed = [str(f) for f, digest in zip(files, digests.split(), strict=False) if sha256(f) != digest]
        if changed or len(files) != len(digests.split()):
            raise UsageError(
                f"{missing}; {' and '.join(changed) or 'the model'} has changed since",
                where=str(manifest),
                hint=f"pass it: {named}",
            )
        if _runs(model, how) and not _token(files[0]).is_file():
            raise UsageError(
                f"{missing}; its manifest names code that you have not allowed to run here",
                where=str(manifest),
                hint=f"if you trust it, name it yourself: {named}",
            )
        if folder != Path.cwd():
            code = code_name(model)
            model = files[0] if code is None else Path(f"{files[0]}:{code.name}")
        return model, how._replace(weights=None if how.weights is None else files[-1])
    raise UsageError(
        f"{missing}, {told}: its files are not there", where=str(manifest), hint=f"pass it: {named}"
    )
