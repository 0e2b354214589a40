"""The questions before each action: what will end, what stays, what can be chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Input, Label, Select, Static, TextArea

from orchestra.formats import duration, size
from orchestra.schedule.reap import Findings, Leftover, Stranger
from orchestra.schedule.seen import Seen
from orchestra.schedule.stake import Stake
from orchestra.tui.actions import Actions, Clone, Evaluate, Reap, Relabel, Remove, Resume, Stop
from orchestra.tui.background import Background
from orchestra.tui.dialog import Choice, Dialog
from orchestra.tui.fields import Field, TextField
from orchestra.tui.text import join, safe
from orchestra.wire.errors import OrchestraError
from orchestra.wire.terminal import clean

_SHOWN_RANKS = 8
_DEBOUNCE_S = 0.25


class StopDialog(Dialog):
    """Stop with grace, or now."""

    def __init__(self, actions: Actions, stakes: Sequence[Stake]) -> None:
        super().__init__(actions, count=len(stakes))
        self._stakes = stakes

    def heading(self) -> Content:
        return safe(f"Stop {_named(self._stakes)}?")

    def body(self) -> ComposeResult:
        yield Static(join(*map(_end_of, self._stakes), between="\n"))

    def choices(self) -> Sequence[Choice]:
        runs = _seen(self._stakes)
        return (
            Choice("stop", "Save and stop", lambda: Stop(runs)),
            Choice("kill", "Kill now", lambda: Stop(runs, now=True), danger=True),
        )


class RemoveDialog(Dialog):
    """Delete runs; `told`: a phrase for each (see schedule.stake.removal)."""

    def __init__(self, actions: Actions, stakes: Sequence[Stake], told: Sequence[str]) -> None:
        super().__init__(actions, count=len(stakes))
        self._stakes = stakes
        self._told = told

    def heading(self) -> Content:
        return safe(f"Delete {_named(self._stakes)} for good?")

    def body(self) -> ComposeResult:
        yield Static(join(*map(safe, self._told), between="\n"))
        yield Static(
            "Folder, checkpoints, evaluations, registry row and git references go. "
            "Other runs, and the code in your repository, stay."
        )

    def choices(self) -> Sequence[Choice]:
        runs = _seen(self._stakes)
        return (Choice("remove", "Delete", lambda: Remove(runs), danger=True),)


class ResumeDialog(Dialog):
    """From which checkpoint, with which changed values; `check` tells what that would do."""

    def __init__(
        self,
        actions: Actions,
        stakes: Sequence[Stake],
        background: Background,
        check: Callable[[Resume], str],
    ) -> None:
        super().__init__(actions, count=len(stakes))
        self._stakes = stakes
        self._background = background
        self._check = check
        self._checked: Resume | None = None

    def heading(self) -> Content:
        return safe(f"Resume {_named(self._stakes)}")

    def body(self) -> ComposeResult:
        yield Label("From")
        yield Select(_checkpoints(self._stakes), allow_blank=False, id="from", compact=True)
        yield Label("Changed values, one KEY=VALUE per line")
        yield TextField(id="sets")

    def choices(self) -> Sequence[Choice]:
        return (Choice("resume", "Resume", lambda: self._checked),)

    def on_mount(self) -> None:
        super().on_mount()
        self.changed()

    def changed(self) -> None:
        """Nothing can be confirmed until these values have been looked at."""
        self._checked = None
        self.refresh_choices()
        wanted = self._wanted()
        self.query_one("#command", Static).update(safe(f"$ {self.actions.command_of(wanted)}"))
        self.set_timer(_DEBOUNCE_S, lambda: self._look_at(wanted))

    def _wanted(self) -> Resume:
        start = self.query_one("#from", Select).value
        sets = lines_of(self.query_one("#sets", TextArea).text)
        return Resume(_seen(self._stakes), str(start) or None, sets)

    def _look_at(self, wanted: Resume) -> None:
        if self.is_attached and wanted == self._wanted():
            self._background.ask(
                "dialog",
                lambda: self._check(wanted),
                lambda text: self._accept(wanted, text),
                lambda error: self._refuse(wanted, error),
            )

    def _accept(self, wanted: Resume, text: str) -> None:
        if self.is_attached and wanted == self._wanted():
            self._checked = wanted
            self.tell(text)
            self.refresh_choices()

    def _refuse(self, wanted: Resume, error: OrchestraError) -> None:
        if self.is_attached and wanted == self._wanted():
            self.tell(str(error), wrong=True)


class EvaluateDialog(Dialog):
    """A checkpoint on a split; `splits`: those that have data."""

    def __init__(self, actions: Actions, stakes: Sequence[Stake], splits: Sequence[str]) -> None:
        super().__init__(actions, count=len(stakes))
        self._stakes = stakes
        self._splits = splits

    def heading(self) -> Content:
        return safe(f"Evaluate {_named(self._stakes)}")

    def body(self) -> ComposeResult:
        if not self._splits:
            yield Static("No split of its data has a manifest: `orchestra data prepare` makes them")
            return
        yield Label("Split")
        options = [(safe(split), split) for split in self._splits]
        yield Select(options, allow_blank=False, id="split", compact=True)
        yield Label("Checkpoint")
        found = [item for item in _checkpoints(self._stakes) if item[1]]
        found.sort(key=lambda item: item[1] != "best")
        yield Select(found, allow_blank=False, id="checkpoint", compact=True)

    def choices(self) -> Sequence[Choice]:
        return (Choice("evaluate", "Evaluate", self._action),)

    def _action(self) -> Evaluate | None:
        if not self._splits:
            return None
        split = str(self.query_one("#split", Select).value)
        checkpoint = str(self.query_one("#checkpoint", Select).value)
        return Evaluate(_seen(self._stakes), split, checkpoint)


class LabelDialog(Dialog):
    """Name, tags and note."""

    def __init__(
        self, actions: Actions, stakes: Sequence[Stake], tags: Sequence[str], remark: str
    ) -> None:
        super().__init__(actions, count=len(stakes))
        self._stakes = stakes
        self._tags = tags
        self._remark = clean(remark)

    def heading(self) -> Content:
        return safe(f"Label {_named(self._stakes)}")

    def body(self) -> ComposeResult:
        if len(self._stakes) == 1:
            yield Label("Name")
            yield Field(self._stakes[0].name, id="name")
        yield Label("Tags, with spaces between; -TAG takes one away")
        yield Static(join(safe("now: "), safe(" ".join(self._tags) or "none")))
        yield Field(id="tags", placeholder="as they are")
        yield Label("Note")
        yield Field(self._remark, id="note", placeholder="none")

    def choices(self) -> Sequence[Choice]:
        return (Choice("label", "Label", self._action),)

    def _action(self) -> Relabel | None:
        """None while nothing differs."""
        words = self.query_one("#tags", Input).value.split()
        remark = self.query_one("#note", Input).value
        action = Relabel(
            _seen(self._stakes),
            self._new_name(),
            tuple(word for word in words if not word.startswith("-")),
            tuple(word[1:] for word in words if word.startswith("-")),
            None if remark == self._remark else remark,
        )
        same = action == Relabel(action.runs)
        return None if same else action

    def _new_name(self) -> str | None:
        if len(self._stakes) != 1:
            return None
        name = self.query_one("#name", Input).value
        return None if name == clean(self._stakes[0].name) else name


class CloneDialog(Dialog):
    """A new run with the config of another, changed."""

    def __init__(self, actions: Actions, stake: Stake) -> None:
        super().__init__(actions)
        self._stake = stake

    def heading(self) -> Content:
        return safe(f"Clone {_named([self._stake])}: a new run with its config")

    def body(self) -> ComposeResult:
        yield Label("Name")
        yield Field(placeholder="made from task and upstream", id="name")
        yield Label("Changed values, one KEY=VALUE per line")
        yield TextField(id="sets")

    def choices(self) -> Sequence[Choice]:
        return (Choice("clone", "Start", self._action),)

    def _action(self) -> Clone:
        name = self.query_one("#name", Input).value.strip() or None
        return Clone(self._stake.seen, name, lines_of(self.query_one("#sets", TextArea).text))


class ReapDialog(Dialog):
    """What dead runs left behind, with the evidence; killing wants the number of processes typed.

    What can't be decided or is not ours is listed, and never killed.
    """

    def __init__(self, actions: Actions, findings: Findings) -> None:
        super().__init__(actions, count=len(findings.dead), always_typed=True)
        self._findings = findings

    def heading(self) -> Content:
        count = len(self._findings.dead)
        if not count:
            return safe("Dead runs of yours have left no process")
        return safe(f"Kill {count} process{'' if count == 1 else 'es'} of dead runs?")

    def body(self) -> ComposeResult:
        found = self._findings
        yield Static(join(*map(_left, found.dead), between="\n"))
        if found.unknown:
            yield Label("Can't be decided, never killed")
            yield Static(join(*map(_left, found.unknown), between="\n"))
        if found.strangers:
            yield Label("Looks orphaned on a GPU and is not ours, never killed")
            yield Static(join(*map(_stranger, found.strangers), between="\n"))

    def choices(self) -> Sequence[Choice]:
        if not self._findings.dead:
            return ()
        return (Choice("reap", "Kill", lambda: Reap(self._findings), danger=True),)


def lines_of(text: str) -> tuple[str, ...]:
    """The lines that say something."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _named(stakes: Sequence[Stake]) -> str:
    return f"{stakes[0].name} ({stakes[0].run_id})" if len(stakes) == 1 else f"{len(stakes)} runs"


def _seen(stakes: Sequence[Stake]) -> tuple[Seen, ...]:
    return tuple(stake.seen for stake in stakes)


def _end_of(stake: Stake) -> Content:
    """What a stop ends, and what stays."""
    lines = [safe(f"{stake.name} ({stake.run_id}), {stake.seen}", "bold")]
    ranks = [f"rank {rank.rank} pid {rank.pid}" for rank in stake.ranks[:_SHOWN_RANKS]]
    more = len(stake.ranks) - len(ranks)
    ranks += [f"{more} more"] if more else []
    lines.append(safe(f"  ends   {', '.join(ranks) or _nothing_alive(stake)}"))
    if stake.devices:
        plural = "" if len(stake.devices) == 1 else "s"
        lines.append(safe(f"  frees  {len(stake.devices)} GPU{plural}"))
    lines.append(safe(f"  keeps  {_kept(stake)}"))
    return join(*lines, between="\n")


def _nothing_alive(stake: Stake) -> str:
    return f"{', '.join(map(str, stake.jobs))}, no rank at work" if stake.jobs else "nothing"


def _kept(stake: Stake) -> str:
    newest = f"checkpoint of step {stake.checkpoints[-1]}" if stake.checkpoints else "no checkpoint"
    if any(key.evaluation is not None for key in stake.jobs):
        return f"{newest} and all finished evaluations"
    if not stake.ranks:
        return newest
    lost = f"{stake.lost_steps} step{'' if stake.lost_steps == 1 else 's'}"
    within = "" if stake.grace_s is None else f" within {duration(stake.grace_s)}"
    return f"{newest}; at step {stake.step} now: a kill loses {lost}, a stop saves them{within}"


def _checkpoints(stakes: Sequence[Stake]) -> list[tuple[Content, str]]:
    """Options of a Select; of several runs only what each of them has."""
    named = [(safe("newest good checkpoint"), ""), (safe("best"), "best"), (safe("last"), "last")]
    if len(stakes) > 1:
        return named
    return named + [(safe(f"step {step}"), str(step)) for step in reversed(stakes[0].checkpoints)]


def _left(item: Leftover) -> Content:
    """A process on two lines: who it is, why it counts as left behind."""
    facts = f"pid {item.pid}  run {item.run_id}  {_evidence(item.age_s, item.gpu_bytes)}"
    return join(safe(facts, "bold"), safe(f"  {item.verdict.why}; {item.command}"), between="\n")


def _stranger(item: Stranger) -> Content:
    facts = f"pid {item.pid}  of {item.user}  {_evidence(item.age_s, item.gpu_bytes)}"
    return join(safe(facts), safe(f"  {item.why}; {item.command}"), between="\n")


def _evidence(age_s: float, gpu_bytes: int | None) -> str:
    held = "GPU memory unknown" if gpu_bytes is None else f"{size(gpu_bytes)} on GPUs"
    return f"age {duration(age_s)}  {held}"
