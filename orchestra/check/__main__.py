"""Holds a task against its contract: `python -m orchestra.check --config FILE --code DIR`.

Prints one JSON document; exits with 1 if a rule is broken.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from orchestra.check.contract import RULES, Rule, check
from orchestra.check.corpus import make_corpus
from orchestra.check.mistakes import of_task
from orchestra.check.processes import Processes
from orchestra.check.subject import Subject
from orchestra.config.frozen import read_frozen
from orchestra.data.program import Outcome, run
from orchestra.wire import lifeline
from orchestra.wire.errors import NotFoundError, OrchestraError
from orchestra.wire.exit_codes import ExitCode


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    lifeline.die_with_parent()
    parser = argparse.ArgumentParser(prog="task check", allow_abbrev=False)
    parser.add_argument("--config", type=Path, required=True, help="frozen config")
    parser.add_argument("--code", type=Path, required=True, help="folder of the tasks' code")
    parser.add_argument(
        "--make-corpus", action="store_true", help="the task's tiny one, in the config's folders"
    )
    return run(parser, _work, argv)


def _work(arguments: argparse.Namespace) -> Outcome:
    config, info = read_frozen(arguments.config, arguments.code)
    torch.set_num_threads(config.launch.threads)
    with contextlib.redirect_stdout(sys.stderr):  # a task may print
        if arguments.make_corpus:
            assert config.data.root and config.data.manifests, "whoever asks for it says where"
            make_corpus(info.name, arguments.code, config.data.root, config.data.manifests)
        subject = Subject.of(config, info)
        _require_data(subject)
        processes = Processes(arguments.config, arguments.code)
        rules = (*RULES, Rule("processes", processes, ("ranks", "resume")))
        findings = list(check(subject, rules))
    claims = {rule.name: rule.claim for rule in rules}
    broken = sum(finding.state == "broken" for finding in findings)
    document = {
        "task": info.name,
        "folder": str(info.folder),
        "upstream": config.upstream.name,
        "broken": broken,
        "findings": [
            {"rule": f.rule, "state": f.state, "text": f.text, "claim": claims[f.rule]}
            for f in findings
        ],
    }
    return Outcome(document, ExitCode.FAILED if broken else ExitCode.OK)


def _require_data(subject: Subject) -> None:
    """NotFoundError: there are none. What else is wrong with them, the rules tell."""
    try:
        with of_task(subject.folder):
            len(subject.train)
    except NotFoundError as error:
        raise NotFoundError(
            f"{error}; a task without a tiny.py is checked on data that you name: "
            "--set data.manifests=DIR, or --preset P"
        ) from error
    except OrchestraError:
        return


if __name__ == "__main__":
    sys.exit(main())
