"""What a command means: order of layers, values of flags, derived values, paths, override."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestra.config.compose import (
    Base,
    Composed,
    ConfigErrors,
    Flag,
    Request,
    compose,
    override,
)
from orchestra.config.frozen import dump, read_frozen, sha256_of
from orchestra.config.presets import list_presets
from orchestra.config.schema import HuggingFaceConfig
from orchestra.tasks import discover

from .conftest import Write


def composed(workspace: Path, *presets: str, **request: object) -> Composed:
    return compose(Request(workspace, "toy", presets, **request))  # type: ignore[arg-type]


def set_(workspace: Path, *sets: str) -> Composed:
    return composed(workspace, sets=sets)


def test_order_of_layers(workspace: Path, write: Write) -> None:
    write("deep", "[train]\nlog_every = 1\nmax_steps = 1\neval_every = 1\n[launch]\nthreads = 1")
    write("base", 'extends = "deep"\n[train]\nmax_steps = 2\neval_every = 2\n[launch]\nnproc = 2')
    write("first", 'extends = ["base"]\n[train]\neval_every = 3\n[launch]\nthreads = 3')
    write("second", "[launch]\nthreads = 4\nnproc = 4\nmax_restarts = 4")
    result = composed(
        workspace,
        "first",
        "second",
        flags=(Flag("launch.nproc", 5, "--nproc"), Flag("launch.max_restarts", 5, "--r")),
        sets=("launch.max_restarts=6",),
    )
    train, launch = result.config.train, result.config.launch
    assert (train.log_every, train.max_steps, train.eval_every) == (1, 2, 3)
    assert (launch.threads, launch.nproc, launch.max_restarts) == (4, 5, 6)
    origins = result.origins
    assert origins["train.log_every"] == "presets/deep.toml:2"
    assert origins["train.max_steps"] == "presets/base.toml:3"
    assert origins["train.eval_every"] == "presets/first.toml:3"
    assert origins["launch.threads"] == "presets/second.toml:2"
    assert origins["launch.nproc"] == "--nproc"
    assert origins["launch.max_restarts"] == "--set"
    assert origins["optim.lr"] == "presets/toy.toml:10"
    assert origins["task.kind"] == "TASK"
    assert origins["optim.eps"] == "default"


def test_a_shared_base_does_not_undo_its_users(workspace: Path, write: Write) -> None:
    write("base", "train.max_steps = 1")
    write("fast", 'extends = "base"\ntrain.max_steps = 2')
    write("tidy", 'extends = "base"\ntrain.log_every = 2')
    assert composed(workspace, "fast", "tidy").config.train.max_steps == 2


def test_extends_is_relative_to_its_file(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "top.toml").write_text('extends = "../low.toml"\n')
    (tmp_path / "low.toml").write_text("optim.lr = 7.0\n")
    assert composed(workspace, str(tmp_path / "a" / "top.toml")).config.optim.lr == 7.0


def test_a_preset_may_extend_the_built_in_one_it_hides(workspace: Path, write: Write) -> None:
    write("debug", 'extends = "debug"\n[train]\nmax_steps = 3')
    result = composed(workspace, "debug")
    assert (result.config.train.max_steps, result.config.train.eval_every) == (3, 10)
    assert result.notes == ("preset 'debug' is presets/debug.toml, not the built-in one",)


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("task.word=hi there", "hi there"),
        ('task.word="quoted"', "quoted"),
        ("task.word=3", "3"),
        ("task.word=true", "true"),
        ("task.word=a, b = 2", "a, b = 2"),
        ("task.word=1 # x", "1 # x"),
        ("task.word=", ""),
        ("task.either=3", 3),
        ('task.either="3"', "3"),
        ("task.lexicon=/l", Path("/l")),
        ("data.train=3", "3"),
        ('data.test=["a", "b"]', ["a", "b"]),
        ("optim.lr=1e-5", 1e-5),
        ("optim.lr=1", 1.0),
        ("optim.betas=[0.5, 0.6]", (0.5, 0.6)),
        ("optim={lr = 2.0, kind = 'sgd'}", None),
        ("train.deterministic=true", True),
        ("train.precision=bf16", "bf16"),
        ("train.eval_every=${train.max_steps}", 100),
        ("task.word=lr ${optim.lr}", "lr 0.001"),
        ("schedule.warmup_steps=${train.log_every}", 20),
    ],
)
def test_set_values(workspace: Path, assignment: str, value: object) -> None:
    config: object = set_(workspace, assignment).config
    for part in assignment.partition("=")[0].split("."):
        config = getattr(config, part)
    if value is not None:
        assert config == value
        assert type(config) is type(value) or isinstance(value, Path)


def test_kind_and_keys_of_another_kind_in_any_order(workspace: Path) -> None:
    for sets in (
        ("task.head.stack=5", "task.head.kind=small"),
        ("task.head={kind='small',stack=5}",),
    ):
        head = set_(workspace, *sets).config.model_dump()["task"]["head"]
        assert head == {"kind": "small", "stack": 5}


def test_a_table_without_kind_is_of_the_default_kind(workspace: Path) -> None:
    assert set_(workspace, "task.head.width=7").config.model_dump()["task"]["head"]["width"] == 7


def test_upstream_by_name(workspace: Path, write: Write) -> None:
    write("tuned", '[upstream]\nname = "hubert_large"\nrevision = "abc"\nnormalize = true')
    preset = composed(workspace, "tuned")
    assert preset.config.upstream == HuggingFaceConfig(
        name="hubert_large", source="facebook/hubert-large-ll60k", revision="abc", normalize=True
    )
    assert preset.origins["upstream.source"] == "presets/tuned.toml:2"
    flag = composed(workspace, "tuned", upstream="wavlm")
    assert flag.config.upstream == HuggingFaceConfig(
        name="wavlm", source="microsoft/wavlm-base-plus", normalize=True
    ), "another source's revision does not linger"
    assert flag.origins["upstream.source"] == "--upstream"
    assert composed(workspace, "tuned", upstream="fbank").config.upstream.kind == "fbank"
    assert set_(workspace, "upstream.name=wavlm_large").origins["upstream.source"] == "--set"


def test_paths_become_absolute(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workspace / "models" / "tiny").mkdir(parents=True)
    (workspace / "models" / "tiny" / "config.json").touch()
    (workspace / "below").mkdir()
    monkeypatch.chdir(workspace / "below")
    monkeypatch.setenv("HOME", "/home/me")
    sets = ("data.root=corpus", "data.manifests=~/m", "task.lexicon=words.txt")
    config = composed(workspace, sets=sets, upstream="../models/tiny").config
    assert config.data.root == workspace / "corpus"
    assert config.data.manifests == Path("/home/me/m")
    assert config.model_dump()["task"]["lexicon"] == workspace / "words.txt"
    assert isinstance(config.upstream, HuggingFaceConfig)
    assert Path(config.upstream.source).samefile(workspace / "models" / "tiny")
    noise = set_(workspace, "augment.noise.manifest=noise/all.jsonl").config.augment.noise
    assert noise and noise.manifest == workspace / "noise" / "all.jsonl"
    by_set = set_(workspace, "upstream.source=models/tiny")
    source = str(workspace / "models/tiny")
    expected = HuggingFaceConfig(name="tiny", source=source, shadows="models/tiny")
    assert by_set.config.upstream == expected
    said = f"upstream 'models/tiny' is {source} (a folder of that name), not the hub's model"
    assert said in by_set.notes


def test_seed_is_drawn_once_and_recorded(workspace: Path) -> None:
    first, second = composed(workspace), composed(workspace)
    assert first.config.seed != second.config.seed
    assert first.origins["seed"] == "drawn"
    assert set_(workspace, "seed=7").config.seed == 7


def test_v_is_derived_from_the_first_world_size(workspace: Path) -> None:
    result = composed(workspace, flags=(Flag("launch.nproc", 2, "--nproc"),))
    assert result.config.batch.micro_batches == 4  # ceil(10 / 4) = 3, and 2 ranks share them
    assert result.origins["batch.micro_batches"] == "derived"


def test_same_config_same_hash_and_frozen_form_is_stable(workspace: Path) -> None:
    first = set_(workspace, "seed=1", "task.word=${data.train} \"'\\ é")
    second = set_(workspace, "seed=1", "task.word=${data.train} \"'\\ é")
    assert first.sha256 == second.sha256 == sha256_of(first.toml)
    assert set_(workspace, "seed=2").sha256 != first.sha256
    path = workspace / "config.toml"
    path.write_bytes(first.toml)
    config, task = read_frozen(path, workspace)
    assert (config.model_dump(), task.name) == (first.config.model_dump(), "toy")
    assert dump(config) == first.toml


def freeze(workspace: Path, *sets: str) -> Path:
    result = set_(workspace, "seed=1", *sets)
    path = workspace / "run" / "config.toml"
    path.parent.mkdir()
    path.write_bytes(result.toml)
    (path.parent / "origins.json").write_text(json.dumps(result.origins))
    return path


def test_override_tells_what_changed(workspace: Path) -> None:
    path = freeze(workspace, "task.word=$${literal}", "optim.weight_decay=0.5")
    result = override(path, workspace, ("optim.lr=0.5", "optim.weight_decay=0.5"))
    assert result.changed == ("optim.lr",)
    assert result.origins["optim.lr"] == "--set"
    assert result.origins["train.max_steps"] == "presets/toy.toml:13"
    assert result.origins["optim.eps"] == "default"
    assert result.config.model_dump()["task"]["word"] == "${literal}"
    same = override(path, workspace, ())
    assert (same.changed, same.toml) == ((), path.read_bytes())
    with pytest.raises(ConfigErrors, match=r"did you mean optim\.lr"):
        override(path, workspace, ("optim.lrr=1",))


def test_override_keeps_v_unless_the_batch_changes(workspace: Path) -> None:
    path = freeze(workspace, "launch.nproc=2")
    two = Flag("launch.nproc", 4, "--nproc")
    assert override(path, workspace, (), flags=(two,)).config.batch.micro_batches == 4
    with pytest.raises(ConfigErrors, match=r"--nproc: launch.nproc: 3 ranks .*; 1, 2, 4 can"):
        override(path, workspace, (), flags=(Flag("launch.nproc", 3, "--nproc"),))
    evaluation = Flag("launch.nproc", 3, "--nproc")
    assert (
        override(path, workspace, (), flags=(evaluation,), training=False).config.launch.nproc == 3
    )
    doubled = override(path, workspace, ("batch.seconds=20.0",))
    assert doubled.config.batch.micro_batches == 6
    assert doubled.changed == ("batch.seconds", "batch.micro_batches")
    assert doubled.notes == (
        "batch.micro_batches was 4 and is derived anew, because batch.seconds changed",
    )


def upon(path: Path, workspace: Path, *sets: str, **request: object) -> Composed:
    base = Base(path, "clone of r1")
    return compose(Request(workspace, "toy", sets=sets, base=base, **request))  # type: ignore[arg-type]


def test_upon_a_frozen_config_nothing_of_today_leaks_in(workspace: Path, write: Write) -> None:
    path = freeze(workspace, "optim.lr=0.5", "task.word=$${x}")
    write("toy", (workspace / "presets" / "toy.toml").read_text() + "[launch]\nthreads = 7\n")
    same = upon(path, workspace)
    assert same.toml == path.read_bytes()
    assert (same.changed, same.config.launch.threads) == ((), 1)
    assert same.origins["optim.lr"] == same.origins["seed"] == "clone of r1"
    other = upon(
        path, workspace, "seed=3", upstream="wavlm", flags=(Flag("launch.nproc", 2, "--n"),)
    )
    assert (other.config.seed, other.config.optim.lr) == (3, 0.5)
    assert other.config.upstream.kind == "huggingface"
    assert {"seed", "launch.nproc", "upstream.kind"} <= set(other.changed)
    assert (other.origins["launch.nproc"], other.origins["seed"]) == ("--n", "--set")


def test_upon_a_frozen_config_v_stays_while_it_fits(workspace: Path) -> None:
    path = freeze(workspace, "launch.nproc=2")  # V = 4
    one = upon(path, workspace, "launch.nproc=1")
    assert (one.config.batch.micro_batches, one.notes) == (4, ())
    assert upon(path, workspace, "batch.seconds=20.0").config.batch.micro_batches == 6
    three = upon(path, workspace, "launch.nproc=3")
    assert three.config.batch.micro_batches == 3
    assert "was 4 and is derived anew" in three.notes[0]
    (workspace / "clone").mkdir()
    again = workspace / "clone" / "frozen.toml"  # still derived in a clone of a clone
    again.write_bytes(one.toml)
    again.with_name("origins.json").write_text(json.dumps(one.origins))
    assert upon(again, workspace, "launch.nproc=3").config.batch.micro_batches == 3


def test_upon_a_frozen_config_v_that_the_user_chose_stays(workspace: Path) -> None:
    path = freeze(workspace, "launch.nproc=2", "batch.micro_batches=4")
    with pytest.raises(ConfigErrors, match="3 ranks can't share 4"):
        upon(path, workspace, "launch.nproc=3")


def test_upon_a_frozen_config_that_no_longer_fits_the_key_is_named(workspace: Path) -> None:
    path = freeze(workspace)
    path.write_text(path.read_text().replace("either = 0", "either = 0\ngone = 1"))
    with pytest.raises(ConfigErrors, match=r"clone of r1: task\.gone: no such key"):
        upon(path, workspace)


def test_debug_combines_with_any_preset(workspace: Path) -> None:
    config = composed(workspace, "debug").config
    assert (config.train.max_steps, config.launch.nproc, config.data.workers) == (10, 1, 0)
    assert config.train.eval_every == 10, "the debug run ends with an evaluation"


def test_the_example_runs_without_any_flag(workspace: Path) -> None:
    config = compose(Request(workspace, "example")).config
    assert config.upstream.kind == "fbank"
    assert config.data.manifests is None, "random data needs no corpus"


def test_every_built_in_task_composes_with_debug(workspace: Path) -> None:
    tasks = {name for name, task in discover(workspace).items() if task.builtin}
    ready = sorted(tasks & {preset.name for preset in list_presets(workspace)})
    assert "example" in ready
    for name in ready:
        config = compose(Request(workspace, name, ("debug",))).config
        assert (config.task.kind, config.train.max_steps) == (name, 10)
