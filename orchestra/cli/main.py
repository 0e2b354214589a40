"""The Typer app, its verbs and its exit codes. Imports nothing that is slow to import."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from orchestra import __version__
from orchestra.cli.context import Globals, hoist, verb_of
from orchestra.cli.output import say
from orchestra.wire.errors import OrchestraError
from orchestra.wire.exit_codes import ExitCode, cli_code

EXIT_CODES = """\b
Exit codes:
  0    ok
  1    the run or the operation failed
  2    usage: the command, the config or a file is wrong
  3    not found, or the name is ambiguous
  4    conflict: something else holds it (GPU, name, a run in another state)
  5    timeout of `wait`
  130  interrupted
"""
_ENVIRONMENT = """\b
--workspace DIR and --runs-dir DIR may stand before or after the verb.
Environment: ORCHESTRA_RUNS_DIR (run folders on another disk), NO_COLOR.
RUN is an id, a name, the unique beginning of either, or @last.

"""
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def _version(wanted: bool) -> None:
    if wanted:
        print(f"orchestra {__version__}")
        raise typer.Exit


def orchestra(
    context: typer.Context,
    workspace: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The workspace; default: found from the current folder."),
    ] = None,
    runs_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where run folders lie; default: WORKSPACE/runs."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Launch, supervise, record and evaluate speech training runs on this machine.

    \b
    Examples:
      orchestra run asr --upstream wavlm --gpus 4   train, restart, evaluate
      orchestra run asr --preset asr-demo --cpu --nproc 2
      orchestra ls                                  all runs, newest first
      orchestra show @last                          one run: state, scores, code
      orchestra logs @last -f                       its ranks' output
      orchestra eval @last --split test-clean       one more number for it
    """
    context.obj = Globals(workspace, runs_dir)


#: In the order of --help: the verb's module under `verbs/`; its function is called like it.
VERBS = {
    "run": "run",
    "resume": "resume",
    "clone": "clone",
    "eval": "evaluate",
    "export": "export",
    "predict": "predict",
    "score": "score",
    "tui": "tui",
    "ls": "ls",
    "queue": "queue",
    "show": "show",
    "diff": "diff",
    "label": "label",
    "checkpoints": "checkpoints",
    "logs": "logs",
    "metrics": "metrics",
    "events": "events",
    "tensorboard": "tensorboard",
    "replay": "replay",
    "wait": "wait",
    "stop": "stop",
    "rm": "rm",
    "gc": "gc",
    "gpus": "gpus",
    "up": "up",
    "reap": "reap",
    "service": "service",
    "task": "task",
    "tasks": "tasks",
    "upstreams": "upstreams",
    "fetch": "fetch",
    "presets": "presets",
    "config": "config",
    "data": "data",
    "doctor": "doctor",
    "init": "init",
}


def build(verbs: Sequence[str]) -> typer.Typer:
    """The program with these verbs; a command line needs only its own, and starts sooner."""
    app = _typer()
    app.callback(epilog=_ENVIRONMENT + EXIT_CODES)(orchestra)
    for name in verbs:
        module = import_module(f"orchestra.cli.verbs.{VERBS[name]}")
        if hasattr(module, "VERBS"):  # a group, such as `config show`
            group = _typer()
            for inner, function in module.VERBS.items():
                group.command(inner, epilog=EXIT_CODES, context_settings=_SETTINGS)(function)
            app.add_typer(group, name=name, help=module.HELP, epilog=EXIT_CODES)
        else:
            function = getattr(module, VERBS[name])
            app.command(name, epilog=EXIT_CODES, context_settings=_SETTINGS)(function)
    return app


def overview() -> typer.Typer:
    """The program as `orchestra --help` shows it: verbs without options, which take long to set up.

    They do nothing: it is for command lines that name none of them.
    """
    app = _typer()
    app.callback(epilog=_ENVIRONMENT + EXIT_CODES)(orchestra)
    for name, part in VERBS.items():
        module = import_module(f"orchestra.cli.verbs.{part}")
        text = module.HELP if hasattr(module, "VERBS") else getattr(module, part).__doc__
        app.command(name, help=text)(_nothing)
    return app


def _nothing() -> None:
    return


def main() -> NoReturn:
    """Run the command line of this process; never returns."""
    arguments = hoist(sys.argv[1:])
    verb = verb_of(arguments)
    try:
        app = build([verb]) if verb in VERBS else overview()
        sys.exit(app(arguments, prog_name="orchestra", standalone_mode=False))
    except KeyboardInterrupt:  # the app turns its own into 130 as well
        sys.exit(ExitCode.INTERRUPTED)
    except typer.TyperException as error:  # a wrong command line: it echoes what was given
        say(_told(error))
        sys.exit(error.exit_code)
    except OrchestraError as error:
        say(f"error: {error}")
        sys.exit(cli_code(error.exit_code))


def _told(error: typer.TyperException) -> str:
    """What Typer says of it: the usage, a hint and the error; or the help, where that is asked."""
    context: typer.Context | None = getattr(error, "ctx", None)
    message = error.format_message()
    if context is None or message == context.get_help():
        return message
    hint = f"Try '{context.command_path} {context.help_option_names[0]}' for help."
    return f"{context.get_usage()}\n{hint}\n\nError: {message}"


def _typer() -> typer.Typer:
    return typer.Typer(
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        no_args_is_help=True,
        context_settings=_SETTINGS,
    )
