"""The command line: parse, call one function, render. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
import warnings

import typer

from tcja_deploy.cli import (
    benchmark,
    compare,
    demo,
    energy,
    export,
    inspect,
    lava,
    profiles,
    rates,
    stream,
    verify,
)
from tcja_deploy.cli.interrupt import orderly_interrupts
from tcja_deploy.cli.notes import quietable
from tcja_deploy.errors import DeployError, ExportError, FileFormatError, UsageError
from tcja_deploy.reading.limits import out_of_memory_told
from tcja_deploy.runtime.threads import share_the_machine
from tcja_deploy.text import a_screen
from tcja_deploy.version import __version__

__all__ = ["app", "main"]

_EPILOG = (
    "Exit codes: 0 done; 2 wrong usage; 3 unreadable model or artifact; 4 unreadable data; 5 model cannot be traced; "
    "6 invalid graph; 7 target cannot express the model; 8 nothing could be written; 9 verification failed; "
    "10 invalid hardware profile; 11 external tool missing or failed; 12 named code failed; "
    "70 a defect in tcja-deploy; 130 interrupted; 141 output pipe closed."
)

app = typer.Typer(
    name="tcja-deploy",
    help="Take a trained TCJA-SNN to ONNX, Lava/Loihi and NIR, run it step by step, and account for its energy.",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
    export.export,
    inspect.inspect,
    verify.verify,
    rates.rates,
    energy.energy,
    compare.compare,
    benchmark.benchmark,
    stream.stream,
    demo.demo,
):
    app.command()(_command)
app.add_typer(profiles.app)
app.add_typer(lava.app)
for _group in (app, profiles.app, lava.app):
    for _registered in _group.registered_commands:
        if _registered.callback is not None:
            _registered.callback = quietable(_registered.callback)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"tcja-deploy {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version."
    ),
    limits: str | None = typer.Option(
        None,
        metavar="MEMORY,TIME",
        help="Memory and time that reading one file may take; 4GB,60s if not given.",
        show_default=False,
    ),
) -> None:
    """Global options; `--debug` is acted on in `main`."""
    if limits is not None:
        from tcja_deploy.reading.limits import limited, parse_limits

        context.with_resource(limited(parse_limits(limits)))


def _debug() -> None:
    """With `--debug`, the traceback before the message."""
    if "--debug" in sys.argv:
        traceback.print_exc()


def main() -> None:
    """Entry point: run a command and turn errors into messages and exit codes."""
    _print_anything()
    share_the_machine()
    try:
        with orderly_interrupts(), out_of_memory_told(), warnings.catch_warnings():
            if "--debug" not in sys.argv:
                warnings.simplefilter(
                    "ignore"
                )  # of other packages about themselves; this one reports in words
            app()
    except DeployError as error:
        _debug()
        message, code = f"error: {error}", error.exit_code
    except KeyboardInterrupt:
        message, code = "interrupted", _INTERRUPTED
    except SystemExit as ended:
        if ended.code == 1:  # what Typer makes of a BrokenPipeError
            message, code = "", _CLOSED_PIPE
        elif ended.code == _INTERRUPTED:  # and of a KeyboardInterrupt
            message, code = "interrupted", _INTERRUPTED
        else:
            raise
    except Exception as error:
        _debug()
        message, code = _unforeseen(error)
    else:
        return
    if message:
        sys.stderr.write(a_screen(message) + "\n")
    sys.exit(code)


def _unforeseen(error: Exception) -> tuple[str, int]:
    """Message and exit code for what no command foresaw: paths that the system refuses, full disks, and defects."""
    if isinstance(error, OSError) and error.filename is None and error.errno in _FULL:
        return f"error: the output could not be printed ({error.strerror})", ExportError.exit_code
    if isinstance(error, OSError) and error.filename is not None:
        kind = ExportError if error.errno in _FULL else FileFormatError
        return f"error: {os.fsdecode(error.filename)}: {error.strerror}", kind.exit_code
    if isinstance(error, OSError) and error.errno in _SYSTEM:
        said = f"error: {error.strerror}\n  -> the current folder is gone, or the system allows no more (ulimit -a)"
        return said, FileFormatError.exit_code
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        name = error.object[:200]
        return f"error: {name!r}: this name is not valid UTF-8\n  -> rename the file", UsageError.exit_code
    return (
        f"internal error: {type(error).__name__}: {error}\n"
        "  -> this is a defect in tcja-deploy; run again with 'tcja-deploy --debug ...' and report the traceback"
    ), 70


_CLOSED_PIPE, _INTERRUPTED = 141, 130
_SYSTEM = {errno.ENOENT, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM}
"""What goes wrong without a file: the current folder is gone, no more files or processes may be opened."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EIO}
"""What goes wrong with a file or device behind standard output."""


def _print_anything() -> None:
    """Characters that the terminal's encoding lacks become question marks."""
    for written in (sys.stdout, sys.stderr):
        if isinstance(written, io.TextIOWrapper):
            written.reconfigure(errors="replace")
