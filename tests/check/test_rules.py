"""Each rule of the contract finds the task that breaks it, and says so clearly."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orchestra.check.compare import difference
from orchestra.check.contract import RULES, Rule, check
from orchestra.check.subject import Subject
from orchestra.schedule import new_task as new_task_module
from orchestra.testing import find, subject_of
from orchestra.wire.errors import DataError, OrchestraError
from orchestra.wire.manifest import Utterance
from orchestra.workspace import init_workspace

SMALL = ("task.train_utterances=12", "task.other_utterances=7", "train.max_steps=4")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """The example task, which keeps the contract."""
    return subject_of("example", Path("/nowhere"), tmp_path_factory.mktemp("none"), sets=SMALL)


@pytest.fixture
def example(sound: Subject) -> Any:
    return sound.task_class


def finding(name: str, subject: Subject, task_class: Any = None, **tables: Any) -> Any:
    """What that rule finds in the subject with another task class."""
    rule = next(rule for rule in RULES if rule.name == name)
    return find(rule, replace(subject, task_class=task_class or subject.task_class, **tables))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_sound_task_keeps_every_rule(rule: Rule, sound: Subject) -> None:
    found = find(rule, sound)
    assert found.ok, found.text
    assert found.text and rule.claim.endswith("."), rule.claim


def test_config_that_loads_what_is_heavy(sound: Subject, tmp_path: Path) -> None:
    light = (sound.folder / "config.py").read_text()
    (tmp_path / "config.py").write_text(f"{light}\nimport numpy\n")
    found = finding("config", sound, folder=tmp_path)
    assert found.state == "broken" and "config.py loads numpy" in found.text
    (tmp_path / "large_package.py").write_text("")
    path = f"import sys; sys.path.append({str(tmp_path)!r})"
    (tmp_path / "config.py").write_text(f"{light}\n{path}\nimport csv, large_package\n")
    assert "config.py loads large_package:" in finding("config", sound, folder=tmp_path).text
    (tmp_path / "config.py").write_text("raise SystemExit")
    assert finding("config", sound, folder=tmp_path).text.endswith(
        "config.py: SystemExit, without a word of why"
    )
    (tmp_path / "config.py").write_text("import nothing_such")
    assert "No module named 'nothing_such'" in finding("config", sound, folder=tmp_path).text


def test_imports_that_ranks_must_not_have(sound: Subject, tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text("import torch\n")
    assert finding("imports", sound, folder=tmp_path).ok
    for line, name in (
        ("import typer.main", "typer.main"),
        ("from orchestra import registry", "orchestra.registry"),
        ("    from git import Repo", "git.Repo"),
    ):
        (tmp_path / "more.py").write_text(f"def late():\n    pass\n    {line.strip()}\n")
        text = finding("imports", sound, folder=tmp_path).text
        assert text.startswith(f"more.py, line 3: imports {name}: a task knows of nothing but")


def test_ids_that_stand_twice_and_utterances_of_no_length(sound: Subject, example: Any) -> None:
    class Twice(example):
        def utterances(self, split: str) -> Any:
            found = super().utterances(split)
            return [*found, found[0]]

    assert "ids must be unique, but train-00000 stand" in finding("ids", sound, Twice).text

    class Empty(example):
        def utterances(self, split: str) -> Any:
            return [replace(each, duration_s=0.0) for each in super().utterances(split)]

    text = finding("ids", sound, Empty).text
    assert "duration_s of train-00000, train-00001, train-00002 and 9 more is not above 0" in text


def test_joint_splits_that_are_not_taken_apart(sound: Subject, example: Any) -> None:
    class Deaf(example):
        def utterances(self, split: str) -> Any:
            return super().utterances(split.partition("+")[0])

    assert (
        "has 12 utterances, not the 12 and then the 7" in finding("joint splits", sound, Deaf).text
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda wav: wav.astype(np.float64), "gives float64"),
        (lambda wav: wav.tolist(), "gives a list, not a NumPy array"),
        (lambda wav: wav * np.float32(32768), ": scale to [-1, 1]"),
        (lambda wav: wav[:, None], ", 1), not float32 (samples,)"),
        (lambda wav: wav[: len(wav) // 2], "but duration_s is"),
        (lambda wav: wav * np.float32(np.nan), "NaN or infinite samples"),
        (
            lambda wav: wav + np.float32(np.random.default_rng().normal()),
            "other samples the second",
        ),
    ],
)
def test_waveforms(sound: Subject, example: Any, change: Any, text: str) -> None:
    class Other(example):
        def read(self, utterance: Any) -> Any:
            return change(super().read(utterance))

    found = finding("waveforms", sound, Other)
    assert found.state == "broken" and text in found.text and "read('train-0" in found.text


def test_what_is_learnt_must_survive(sound: Subject, example: Any) -> None:
    class Tuples(example):
        def learn(self, utterances: Any) -> Any:
            return {"classes": ("a", "b")}

    assert "a tuple became a list" in finding("learnt", sound, Tuples).text

    class Tensors(example):
        def learn(self, utterances: Any) -> Any:
            return {"mean": torch.zeros(3)}

    assert "what JSON has no word for" in finding("learnt", sound, Tensors).text

    class Forgetful(example):
        shift = 0

        def learn(self, utterances: Any) -> Any:
            self.shift = 1
            return {}

        def target(self, utterance: Any) -> Any:
            return super().target(utterance) + self.shift

    assert "after recall: keep all that `learn` finds" in finding("learnt", sound, Forgetful).text

    class Knowing(example):
        known = False

        def learn(self, utterances: Any) -> Any:
            self.known = True
            return {}

        def target(self, utterance: Any) -> Any:
            if not self.known:
                raise DataError(f"utterance {utterance.id}: an unknown label")
            return super().target(utterance)

    text = finding("learnt", sound, Knowing).text
    assert "utterance train-00000: an unknown label; keep all that `learn` finds out" in text


def test_what_is_given_to_learn_and_target_stays_as_it_is(sound: Subject, example: Any) -> None:
    class Sorting(example):
        def learn(self, utterances: Any) -> Any:
            utterances.reverse()
            return super().learn(utterances)

    assert "learn changes the utterances" in finding("learnt", sound, Sorting).text

    class Marking(example):
        def target(self, utterance: Any) -> Any:
            utterance.fields["seen"] = True
            return super().target(utterance)

    assert "target changes the fields of train-00000" in finding("learnt", sound, Marking).text


def test_a_label_that_can_not_be_used_in_a_split_that_is_only_tested(
    sound: Subject, example: Any
) -> None:
    class Unseen(example):
        def target(self, utterance: Any) -> Any:
            if utterance.id == "test-00001":
                raise DataError("utterance test-00001: label 'purple' is not known")
            return super().target(utterance)

    found = finding("labels", sound, Unseen)
    assert found.state == "broken"
    assert found.text.startswith("split 'test': utterance test-00001: label 'purple' is not known")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: replace(t, weight=torch.tensor(0.0)), "the weight is 0; it must be above 0"),
        (lambda t: replace(t, sum=t.sum * torch.inf), "the sum is inf"),
        (lambda t: replace(t, scalars={"x": torch.zeros(2)}), "x has shape (2,)"),
        (
            lambda t: replace(t, outputs=replace(t.outputs, weights=torch.ones(9))),
            "the weights of `outputs` sum up to 9, not 6",
        ),
    ],
)
def test_loss_terms(sound: Subject, example: Any, change: Any, text: str) -> None:
    class Other(example):
        def loss(self, *given: Any) -> Any:
            return change(super().loss(*given))

    found = finding("loss", sound, Other)
    assert found.state == "broken" and text in found.text


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: replace(t, sum=t.sum.detach()), "nothing is learnt from the sum"),
        (
            lambda t: replace(t, sum=t.sum + torch.sqrt(t.sum * 0)),
            "is not finite, although the loss is",
        ),
        (lambda t: replace(t, weight=6.0), "weight of loss() is of type float; give a tensor"),
        (lambda t: t.sum, "loss() is of type Tensor; give orchestra.tasks.LossTerms(sum, weight)"),
        (lambda t: None, "loss() is None; give orchestra.tasks.LossTerms"),
    ],
)
def test_losses_that_teach_nothing(sound: Subject, example: Any, change: Any, text: str) -> None:
    class Other(example):
        def loss(self, *given: Any) -> Any:
            return change(super().loss(*given))

    found = finding("loss", sound, Other)
    assert found.state == "broken" and text in found.text


@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        ("ids", {"utterances": lambda self, s: [3]}, "an item of utterances('train') is of type"),
        (
            "ids",
            {"utterances": lambda self, s: [Utterance(1, Path("a"), 0.0, 1.0, {})]},
            "the id of an item of utterances('train') is of type int; give text",
        ),
        ("learnt", {"learn": lambda self, u: ["a"]}, "learn() is of type list; give a dict"),
        ("loss", {"build_head": lambda self, d, s: None}, "build_head() is None; give a torch.nn"),
        ("loss", {"collate": lambda self, t: {"labels": [1]}}, "collate()['labels'] is of type"),
        ("records", {"predict": lambda self, *given: "abc"}, "predict() is of type str; give a"),
        ("records", {"predict": lambda self, *given: ["a"]}, "an item of predict() is of type str"),
        ("score", {"refer": lambda self, p, u: None}, "refer() is None; give a dict"),
        ("score", {"score": lambda self, r: 3.0}, "score() is of type float; give a dict"),
        ("score", {"metrics": ["accuracy"]}, "metrics must name each metric as 'min' or 'max'"),
    ],
)
def test_what_is_not_of_its_kind(
    sound: Subject, example: Any, name: str, change: dict[str, Any], text: str
) -> None:
    found = finding(name, sound, type("Other", (example,), change))
    assert found.state == "broken" and text in found.text


def test_a_parameter_that_learns_nothing(sound: Subject, example: Any) -> None:
    class Idle(example):
        def build_head(self, dim: int, stride: int) -> Any:
            head = super().build_head(dim, stride)
            head.spare = torch.nn.Linear(2, 2)
            return head

    assert "2 parameters get no gradient (head.spare.weight" in finding("loss", sound, Idle).text


def test_a_mean_is_no_sum(sound: Subject, example: Any) -> None:
    class Mean(example):
        def loss(self, *given: Any) -> Any:
            terms = super().loss(*given)
            return replace(terms, sum=terms.sum / terms.weight)

    found = finding("loss adds up", sound, Mean)
    assert found.state == "broken" and "give sums, not means" in found.text

    class Less(example):
        def loss(self, *given: Any) -> Any:
            terms = super().loss(*given)
            return replace(terms, weight=terms.weight - 1)

    text = finding("loss adds up", sound, Less).text
    assert "alone is 0; it must be above 0 in every batch" in text and "train-000" in text

    class Some(example):
        def loss(self, *given: Any) -> Any:
            terms = super().loss(*given)
            return terms if float(terms.weight) > 1 else replace(terms, scalars={})

    assert "'train_accuracy' is missing in some" in finding("loss adds up", sound, Some).text


def heedless(example: Any) -> Any:
    """The task with a head that looks at padding."""

    class Heedless(example):
        def build_head(self, dim: int, stride: int) -> Any:
            head = super().build_head(dim, stride)
            own = head.forward
            head.forward = lambda features, lengths: own(
                features - features.mean((1, 2), keepdim=True), lengths
            )
            return head

    return Heedless


def test_padding(sound: Subject, example: Any) -> None:
    for name, what in (("loss and padding", "loss: "), ("predict and padding", "prediction of ")):
        found = finding(name, sound, heedless(example))
        assert found.state == "broken" and what in found.text
        assert "with other padding: mask it by the lengths" in found.text


def test_randomness_of_its_own(sound: Subject, example: Any) -> None:
    class Drawing(example):
        generator = np.random.default_rng(0)

        def loss(self, head: Any, features: Any, *given: Any) -> Any:
            noise = torch.from_numpy(self.generator.standard_normal(features.shape[2]))
            return super().loss(head, features + noise.float(), *given)

    found = finding("loss and seeds", sound, Drawing)
    assert found.state == "broken" and "draw from batch.seeds" in found.text

    class Counting(example):
        calls = 0

        def loss(self, *given: Any) -> Any:
            self.calls += 1
            terms = super().loss(*given)
            return replace(terms, sum=terms.sum * self.calls)

    assert (
        "after another batch with the same seeds" in finding("loss and seeds", sound, Counting).text
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda records: records[1:], "one for each, with its id"),
        (lambda records: [*records, records[0]], "one for each, with its id"),
        (lambda records: [{**r, "id": "x"} for r in records], "predict gives records of ['x'"),
        (
            lambda records: [{**r, "s": torch.tensor(1)} for r in records],
            "can't be written as JSON",
        ),
        (lambda records: [{**r, "s": float("nan")} for r in records], "can't be written as JSON"),
        (lambda records: [{**r, "s": {1: 2}} for r in records], "is changed by JSON"),
    ],
)
def test_records(sound: Subject, example: Any, change: Any, text: str) -> None:
    class Other(example):
        def predict(self, *given: Any) -> Any:
            return change(super().predict(*given))

    found = finding("records", sound, Other)
    assert found.state == "broken" and text in found.text


def test_a_prediction_is_the_same_each_time(sound: Subject, example: Any) -> None:
    class Dropping(example):
        def predict(self, head: Any, features: Any, *given: Any) -> Any:
            torch.nn.functional.dropout(features, 0.1)
            return super().predict(head, features, *given)

    assert "predict draws random numbers" in finding("records", sound, Dropping).text

    class Counting(example):
        calls = 0

        def predict(self, *given: Any) -> Any:
            self.calls += 1
            return [{**record, "at": 1e9 + self.calls} for record in super().predict(*given)]

    assert "the second time: keep no state" in finding("records", sound, Counting).text


@pytest.mark.parametrize(
    ("name", "spoil", "what"),
    [
        ("loss", lambda head, features, batch: features.mul_(0.5), "features"),
        ("loss", lambda head, features, batch: batch.targets["labels"].zero_(), "labels"),
        ("predict", lambda head, features, batch: batch.utterances.clear(), "batch's utterances"),
        (
            "predict",
            lambda head, features, batch: next(head.parameters()).data.add_(1.0),
            "head's ",
        ),
    ],
)
def test_what_is_given_stays_as_it_is(
    sound: Subject, example: Any, name: str, spoil: Any, what: str
) -> None:
    def spoiling(self: Any, head: Any, features: Any, lengths: Any, batch: Any) -> Any:
        answer = getattr(example, name)(self, head, features, lengths, batch)
        spoil(head, features, batch)
        return answer

    found = finding(f"{name} and inputs", sound, type("Other", (example,), {name: spoiling}))
    assert found.state == "broken" and f"{name} changes the {what}" in found.text


def test_neighbours_and_earlier_batches(sound: Subject, example: Any) -> None:
    class Counting(example):
        def predict(self, *given: Any) -> Any:
            records = super().predict(*given)
            return [{**record, "of": len(records)} for record in records]

    assert (
        "of is 6, then 1 alone: look at no neighbour"
        in finding("predict and neighbours", sound, Counting).text
    )

    class Remembering(example):
        seen = 0

        def predict(self, *given: Any) -> Any:
            records = super().predict(*given)
            self.seen += len(records)
            return [{**record, "seen": self.seen} for record in records]

    assert "on 2 ranks" in finding("ranks", sound, Remembering).text


def test_predictions_that_need_labels_or_a_corpus(sound: Subject, example: Any) -> None:
    class Peeking(example):
        def predict(self, head: Any, features: Any, lengths: Any, batch: Any) -> Any:
            records = super().predict(head, features, lengths, batch)
            labels = [utterance.fields.get("label", -1) for utterance in batch.utterances]
            return [{**r, "predicted": label} for r, label in zip(records, labels, strict=True)]

    found = finding("predict without labels", sound, Peeking)
    assert found.state == "broken" and "what `score` needs is added by `refer`" in found.text

    class Naming(example):
        def predict(self, *given: Any) -> Any:
            return [{**record, "as": record["id"]} for record in super().predict(*given)]

    found = finding("predict without labels", sound, Naming)
    assert found.state == "broken" and "under another id and without labels" in found.text

    class Demanding(example):
        def collate(self, targets: Any) -> Any:
            return {"labels": torch.tensor([0 if each is None else each for each in targets])}

    assert (
        "collate gives ['labels'] for utterances without labels"
        in finding("predict without labels", sound, Demanding).text
    )

    class Rooted(example):
        def build_head(self, dim: int, stride: int) -> Any:
            if self.data.root is not None:
                raise DataError(f"{self.data.root} is gone")
            return super().build_head(dim, stride)

    found = finding("predict without corpus", sound, Rooted)
    assert found.state == "broken" and found.text == "/nowhere is gone"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"metrics": {"accuracy": "up"}}, "metrics must name each metric as 'min' or 'max'"),
        ({"metrics": {}}, "metrics must name each metric"),
        ({"metrics": {"accuracy": "max", "f1": "max"}}, "score of 'valid' lacks f1"),
        ({"score": lambda self, records: {"accuracy": 3.0}}, "for records without labels"),
        ({"refer": lambda self, p, u: p.update(label=1) or p}, "refer changes the prediction"),
        ({"refer": lambda self, p, u: {**p, "id": "y", "label": 1}}, "refer gives id 'y' to"),
        ({"refer": lambda self, p, u: {**p, "label": {1}}}, "refer: the record of valid-00000"),
        (
            {"score": lambda self, r: {"accuracy": 1.0} if any(map(_popped, r)) else {}},
            "score changes the records",
        ),
    ],
)
def test_scores(sound: Subject, example: Any, change: dict[str, Any], text: str) -> None:
    found = finding("score", sound, type("Other", (example,), change))
    assert found.state == "broken" and text in found.text


def _popped(record: Any) -> bool:
    return record.pop("label", None) is not None


def test_a_score_that_is_no_number(sound: Subject, example: Any) -> None:
    class Other(example):
        def score(self, records: Any) -> Any:
            return {name: float("nan") for name in super().score(records)}

    assert "no finite number for {'accuracy': nan}" in finding("score", sound, Other).text


def test_state_that_no_checkpoint_holds(sound: Subject, example: Any) -> None:
    class Counting(example):
        steps = 0

        def loss(self, *given: Any) -> Any:
            self.steps += 1
            terms = super().loss(*given)
            return replace(terms, sum=terms.sum * self.steps)

    found = finding("resume", sound, Counting)
    assert found.state == "broken"
    assert "after a resume in step 2 of 4" in found.text and "parameter or a buffer" in found.text


def test_state_that_is_no_tensor(sound: Subject, example: Any) -> None:
    class Extra(example):
        def build_head(self, dim: int, stride: int) -> Any:
            head = super().build_head(dim, stride)
            kind = type(head)
            head.__class__ = type("Extra", (kind,), {"get_extra_state": lambda self: {"a": 1}})
            return head

    assert "is of type dict: a checkpoint holds tensors" in finding("resume", sound, Extra).text


def test_one_cause_is_one_finding(sound: Subject, example: Any) -> None:
    class Nan(example):
        def loss(self, *given: Any) -> Any:
            terms = super().loss(*given)
            return replace(terms, sum=terms.sum * torch.nan)

    found = list(check(replace(sound, task_class=Nan)))
    assert [f.rule for f in found if f.state == "broken"] == ["loss"]
    skipped = {f.rule: f.text for f in found if f.state == "skipped"}
    assert skipped["resume"] == "not looked at before 'loss' is kept"


class Oops(Exception):
    """An error of a task's own."""


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Oops, "Oops, without a word of why"),
        (SystemExit, "SystemExit, without a word of why"),
        (StopIteration("end"), "StopIteration: end"),
        (DataError(""), "DataError, without a word of why"),
    ],
)
def test_whatever_is_raised_is_told(sound: Subject, example: Any, error: Any, text: str) -> None:
    class Other(example):
        def loss(self, *given: Any) -> Any:
            raise error

    found = finding("loss", sound, Other, folder=Path(__file__).parent)
    assert found.state == "broken"
    assert found.text.startswith("test_rules.py, line ") and found.text.endswith(text)


def test_a_mistake_is_found_with_its_line_and_spares_the_other_rules(
    sound: Subject, example: Any, tmp_path: Path
) -> None:
    code = "def loss(self, *given):\n    return {}['nothing']\n"
    (tmp_path / "task.py").write_text(code)
    names: dict[str, Any] = {}
    exec(compile(code, tmp_path / "task.py", "exec"), names)  # noqa: S102
    wrong = type("Wrong", (example,), {"loss": names["loss"]})
    (tmp_path / "config.py").write_text((sound.folder / "config.py").read_text())
    found = {f.rule: f for f in check(replace(sound, task_class=wrong, folder=tmp_path))}
    assert found["config"].ok, found["config"].text
    assert found["loss"].text == "task.py, line 2, in loss: KeyError: 'nothing'"
    assert found["loss"].state == "broken" and found["score"].ok


@pytest.mark.parametrize(
    ("file", "code", "text"),
    [
        ("task.py", "import nothing_such\n", "task.py, line 1, in <module>: ModuleNotFoundError"),
        ("task.py", "class Task(:\n", "SyntaxError: invalid syntax (task.py, line 1)"),
        ("task.py", "Task = 3\n", "no class Task(orchestra.tasks.Task)"),
        (
            "tiny.py",
            "def make(root, seed):\n    return 1 / 0\n",
            "tiny.py, line 2, in make: ZeroDivisionError",
        ),
        ("tiny.py", "def make(root, seed):\n    pass\n", "its prepare.py can't read what tiny.py"),
    ],
)
def test_code_that_can_not_even_be_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, code: str, text: str
) -> None:
    monkeypatch.setattr(
        new_task_module,
        "_data",
        lambda *given: subprocess.CompletedProcess([], 0, '{"corpora": []}', ""),
    )
    workspace = init_workspace(tmp_path / "workspace")
    new_task_module.new_task(workspace, "mine")
    (workspace.root / "tasks" / "mine" / file).write_text(code)
    with pytest.raises(OrchestraError) as caught:
        subject_of("mine", workspace.root, tmp_path / "folder")
    assert text in str(caught.value)


def test_without_data_nothing_else_is_looked_at(sound: Subject, example: Any) -> None:
    class Bare(example):
        def utterances(self, split: str) -> Any:
            return []

    states = {found.rule: found.state for found in check(replace(sound, task_class=Bare))}
    assert (states["config"], states["ids"], states["resume"]) == ("ok", "broken", "skipped")


@pytest.mark.parametrize(
    ("one", "other", "text"),
    [
        (1.0, 1.00001, None),
        ({"a": [1, 2.0]}, {"a": [1, 2.1]}, "a[1] is 2.0, then 2.1"),
        ({"a": 1}, {"b": 1}, "has ['a'], then ['b']"),
        ([1], [1, 2], "has 1 items, then 2"),
        ("x", "y", "is 'x', then 'y'"),
        (float("nan"), float("nan"), None),
    ],
)
def test_differences_in_words(one: Any, other: Any, text: str | None) -> None:
    assert difference(one, other) == text
