"""Everything a run needs is looked for first, and told at once with its remedy."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from orchestra.config.compose import Flag, Request, compose
from orchestra.config.schema import AugmentConfig, RunConfig, SpeedConfig
from orchestra.schedule import preflight as module
from orchestra.schedule.preflight import Finding, PreflightError, preflight
from orchestra.wire.errors import ConflictError, OrchestraError
from orchestra.wire.folders import RunsFolder
from orchestra.wire.manifest import write_manifest
from orchestra.workspace import init_workspace
from tests.fakes.nvml import FakeNvml

CPU = "orchestra run example --cpu"
WAVLM = {
    "model_type": "wavlm",
    "num_hidden_layers": 12,
    "hidden_size": 768,
    "feat_extract_norm": "group",
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return init_workspace(tmp_path / "workspace").root


@pytest.fixture
def runs(root: Path) -> RunsFolder:
    return RunsFolder(root / "runs")


def config(root: Path, *sets: str, gpus: int = 0, ids: tuple[str, ...] = ()) -> RunConfig:
    flags = (Flag("launch.device", "cpu", "--cpu"),)
    if gpus:
        flags = (
            Flag("launch.device", "gpu", "--gpus"),
            Flag("launch.nproc", gpus, "--gpus"),
            Flag("launch.gpu_ids", list(ids), "--gpu-ids"),
        )
    return compose(Request(root, "example", flags=flags, sets=sets)).config


def test_counts_of_all_splits(root: Path, runs: RunsFolder) -> None:
    manifests = root / "m"
    for split, count in (("train", 3), ("valid", 2), ("test", 1)):
        lines = [{"id": str(n), "path": "x", "duration_s": 1800.0} for n in range(count)]
        write_manifest(manifests, split, lines, "a test")
    given = config(root, f"data.manifests={manifests}", "batch.max_micro_seconds=1800.0")
    found = preflight(given, runs, cpu_command=CPU)
    details = {finding.what: finding.detail for finding in found}
    assert details["split train"] == "3 utterances, 1.50 h, longest 1800.0 s"
    assert {"split valid", "split test", "disk"} <= set(details)


def long_in(root: Path, split: str, *sets: str) -> RunConfig:
    """A config whose manifests hold one utterance above batch.max_micro_seconds = 16."""
    for name in ("train", "valid", "test"):
        lines = [{"id": "a", "path": "x", "duration_s": 20.5 if name == split else 1.0}]
        write_manifest(root / "m", name, lines, "a test")
    return config(root, f"data.manifests={root}/m", *sets)


def test_what_is_too_long_to_train_on_is_refused_before_anything_starts(
    root: Path, runs: RunsFolder
) -> None:
    with pytest.raises(PreflightError) as caught:
        preflight(long_in(root, "train"), runs, cpu_command=CPU)
    said = str(caught.value)
    assert "train lasts 20.5 s, more than batch.max_micro_seconds = 16" in said
    assert '--set batch.too_long="isolate"' in said and "`orchestra data stats`" in said


@pytest.mark.parametrize(
    ("split", "sets", "splits", "told"),
    [
        ("train", ('batch.too_long="isolate"',), None, True),
        ("train", ("batch.max_micro_seconds=20.5",), None, False),
        ("valid", (), None, False),  # evaluation isolates
        ("train", (), ("train",), False),  # the same
    ],
)
def test_what_is_too_long_may_be_isolated(
    root: Path,
    runs: RunsFolder,
    split: str,
    sets: tuple[str, ...],
    splits: tuple[str, ...] | None,
    told: bool,
) -> None:
    found = preflight(long_in(root, split, *sets), runs, cpu_command=CPU, splits=splits)
    details = {finding.what: finding.detail for finding in found}
    assert ("20.5 s" in details.get("too long", "")) == told


def test_what_augmentation_makes_too_long_or_short_enough_counts(
    root: Path, runs: RunsFolder
) -> None:
    for split in ("train", "valid", "test"):
        write_manifest(root / "m", split, [{"id": "a", "path": "x", "duration_s": 19.0}], "a test")
    looked = [config(root, "data.manifests=m", "batch.max_micro_seconds=20")]
    slowed = AugmentConfig(speed=SpeedConfig(factors=[0.9, 1.0]))
    looked.append(looked[0].model_copy(update={"augment": slowed}))
    cropped = slowed.model_copy(update={"crop_s": 8.0})
    looked.append(looked[0].model_copy(update={"augment": cropped}))
    text = r"lasts 19\.0 s, slowed down by augment\.speed 21\.1 s, more than .* = 20"
    for one, refused in zip(looked, (False, True, False), strict=True):
        with pytest.raises(PreflightError, match=text) if refused else nullcontext():
            preflight(one, runs, cpu_command="")


def test_noises_and_rooms_are_counted_and_missing_ones_told_together(
    root: Path, runs: RunsFolder
) -> None:
    lines = [{"id": str(n), "path": "x", "duration_s": 1800.0} for n in range(2)]
    write_manifest(root / "m", "noise", lines, "a test")
    write_manifest(root / "m", "void", [], "a test")
    noise = "augment.noise.manifest=m/noise.jsonl"
    found = preflight(config(root, noise), runs, cpu_command="")
    assert Finding("augment.noise", "2 recordings, 1.00 h") in found
    sets = ("augment.noise.manifest=m/void.jsonl", "augment.rir.manifest=m/none.jsonl")
    with pytest.raises(PreflightError) as caught:
        preflight(config(root, *sets), runs, cpu_command="")
    assert f"augment.noise.manifest: {root}/m/void.jsonl lists no recordings" in str(caught.value)
    assert "augment.rir.manifest: no manifest of split 'none'" in str(caught.value)
    assert preflight(config(root, *sets), runs, cpu_command="", splits=())


def test_a_file_that_the_task_names_and_that_is_missing_is_told_before_anything_starts(
    root: Path, runs: RunsFolder
) -> None:
    given = compose(Request(root, "pr", flags=(Flag("launch.device", "cpu", "--cpu"),))).config
    lexicon = root / "data/LibriSpeech/librispeech-lexicon.txt"
    with pytest.raises(PreflightError, match=f"task.lexicon: there is no {lexicon}; set it"):
        preflight(given, runs, cpu_command=CPU)
    lexicon.parent.mkdir(parents=True)
    lexicon.write_text("A AH0\n")
    with pytest.raises(PreflightError) as caught:  # for the manifests
        preflight(given, runs, cpu_command=CPU)
    assert "task.lexicon" not in str(caught.value)


def test_a_joint_split_is_counted_and_a_missing_part_named(root: Path, runs: RunsFolder) -> None:
    joint = long_in(root, "none", 'data.train="train+valid"')
    details = {f.what: f.detail for f in preflight(joint, runs, cpu_command=CPU)}
    assert details["split train+valid"].startswith("2 utterances")
    with pytest.raises(PreflightError, match="no manifest of split 'dev'"):
        preflight(long_in(root, "none", 'data.train="train+dev"'), runs, cpu_command=CPU)


def test_missing_data_upstream_and_disk_are_told_together(
    root: Path, runs: RunsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "model").mkdir()
    monkeypatch.setattr(module, "LEAST_FREE_BYTES", 2**62)
    wrong = config(
        root,
        f"data.manifests={root}/m",
        "data.prepare=make it from {root} in {manifests}",
        f"data.root={root}/corpus",
        f'upstream={{kind="huggingface", name="mine", source="{root}/model"}}',
    )
    with pytest.raises(PreflightError) as caught:
        preflight(wrong, runs, cpu_command=CPU)
    text = str(caught.value)
    assert f"`make it from {root}/corpus in {root}/m`" in text
    assert f"{root}/model has no config.json" in text
    assert "MiB are free" in text and "--runs-dir" in text


def test_the_remedy_can_be_pasted_into_a_shell(root: Path, runs: RunsFolder) -> None:
    wrong = config(
        root,
        f"data.manifests={root}/my data",
        "data.prepare=make --root {root} {manifests}",
        f"data.root={root}/it's",
    )
    with pytest.raises(PreflightError) as caught:
        preflight(wrong, runs, cpu_command=CPU)
    (line,) = str(caught.value).splitlines()
    words = shlex.split(line.split("`")[1])
    assert words == ["make", "--root", f"{root}/it's", f"{root}/my data"]


def pretrained(root: Path, source: str) -> RunConfig:
    return config(root, f'upstream={{kind="huggingface", name="mine", source="{source}"}}')


def test_what_the_upstream_is(root: Path, runs: RunsFolder) -> None:
    folder = root / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(WAVLM))
    with pytest.raises(PreflightError, match=r"has no model\.safetensors: pickled weights"):
        preflight(pretrained(root, str(folder)), runs, cpu_command=CPU)
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    found = preflight(pretrained(root, str(folder)), runs, cpu_command=CPU)
    (upstream,) = (finding.detail for finding in found if finding.what == "upstream")
    assert upstream == f"mine = {folder}, 13 hidden states of 768"
    (folder / "config.json").write_text(json.dumps({**WAVLM, "model_type": "bert"}))
    with pytest.raises(PreflightError, match=r"^upstream 'mine': .*type 'bert'.*one of wav2vec2,"):
        preflight(pretrained(root, str(folder)), runs, cpu_command=CPU)


OWN = """
from orchestra.upstreams.base import Upstream

class Mine(Upstream):
    stride, min_samples = 320, 400
    def __init__(self, dim):
        super().__init__()
        self.dim = dim
    def layer_dims(self, key):
        return [self.dim] * 3
    def extract(self, wavs, lengths):
        raise NotImplementedError
"""


def test_an_own_upstream_is_made(root: Path, runs: RunsFolder) -> None:
    (root / "upstreams").mkdir()
    (root / "upstreams" / "mine.py").write_text(OWN)

    def own(options: str) -> RunConfig:
        table = 'kind="file", name="mine", source="upstreams/mine.py"'
        return config(root, f"upstream={{{table}, options={options}}}")

    found = preflight(own("{dim=7}"), runs, cpu_command=CPU, root=root)
    (upstream,) = (finding.detail for finding in found if finding.what == "upstream")
    assert upstream == "mine = upstreams/mine.py, 3 hidden states of 7"
    with pytest.raises(PreflightError, match=r"'mine': upstreams/mine\.py: Mine.*'dim'"):
        preflight(own("{}"), runs, cpu_command=CPU, root=root)
    with pytest.raises(PreflightError, match=r"no upstream upstreams/mine\.py in"):
        preflight(own("{dim=7}"), runs, cpu_command=CPU, root=root, code=root / "snapshot")


def test_a_hub_id_that_cannot_be_reached(
    root: Path, runs: RunsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    wrong = pretrained(root, "some-lab/none")
    with pytest.raises(PreflightError, match="'mine': some-lab/none is not in the local cache"):
        preflight(wrong, runs, cpu_command=CPU)


def test_a_hub_that_does_not_answer(
    root: Path, runs: RunsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestra.schedule.upstreams.DESCRIBE_LIMIT_S", 0.001)
    with pytest.raises(PreflightError, match=r"no answer about some-lab/none in 0\.001 s"):
        preflight(pretrained(root, "some-lab/none"), runs, cpu_command=CPU)


def test_broken_manifests_are_told_with_the_others(root: Path, runs: RunsFolder) -> None:
    line = {"id": "a", "path": "x", "duration_s": 1.0}
    for split in ("train", "valid", "test"):
        write_manifest(root / "m", split, [line], "a test")
        (root / "m" / f"{split}.jsonl").write_text("{}")
    with pytest.raises(PreflightError) as caught:
        preflight(config(root, f"data.manifests={root}/m"), runs, cpu_command=CPU)
    assert str(caught.value).count("line 1: not an utterance") == 3


def test_only_the_split_of_an_evaluation_is_needed(root: Path, runs: RunsFolder) -> None:
    line = {"id": "a", "path": "x", "duration_s": 1.0}
    write_manifest(root / "m", "extra", [line], "a test")
    only = config(root, f"data.manifests={root}/m")
    found = preflight(only, runs, cpu_command=CPU, splits=("extra",))
    assert found[0].what == "split extra"
    with pytest.raises(PreflightError, match="it has extra"):
        preflight(only, runs, cpu_command=CPU)


def test_a_file_instead_of_the_runs_folder(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(OrchestraError, match="can't be written"):
        preflight(config(root), RunsFolder(file / "runs"), cpu_command=CPU)


@pytest.fixture
def holder(nvml: FakeNvml) -> Iterator[None]:
    """Run `busy` holds the first of two GPUs."""
    nvml.idle(2)
    program = (
        "import sys; from pathlib import Path; from orchestra.gpu.leases import Leases\n"
        "leases = Leases(); leases.acquire(1, [], 'busy', Path('/ws')); print('held', flush=True)\n"
        "sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    yield
    process.kill()
    process.communicate()


def test_more_gpus_than_there_are(root: Path, runs: RunsFolder, holder: None) -> None:
    with pytest.raises(ConflictError) as caught:
        preflight(config(root, gpus=3), runs, cpu_command=CPU)
    text = str(caught.value)
    assert "3 GPUs asked for, this machine has 2 usable" in text
    assert "GPU 0 is leased by run busy of user" in text
    assert f"`{CPU}`" in text


def test_busy_gpus_are_waited_for(root: Path, runs: RunsFolder, holder: None) -> None:
    found = preflight(config(root, gpus=2), runs, cpu_command=CPU)
    assert [item.detail for item in found if item.what == "GPUs"] == ["2 of 2"]


def test_hidden_and_misnamed_gpus(
    root: Path, runs: RunsFolder, nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.idle(2)
    with pytest.raises(ConflictError, match=r"no GPU '5' here.*2 usable.*On the CPU"):
        preflight(config(root, gpus=1, ids=("5",)), runs, cpu_command=CPU)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(ConflictError, match="CUDA_VISIBLE_DEVICES hides"):
        preflight(config(root, gpus=2), runs, cpu_command=CPU)


def test_the_workspaces_pool_and_limit_count(root: Path, runs: RunsFolder, nvml: FakeNvml) -> None:
    nvml.idle(3)
    (root / "orchestra.toml").write_text('[gpus]\nids = ["0", "1"]\nlimit = 1\n')
    with pytest.raises(ConflictError, match=r"3 exist; gpus.ids of orchestra.toml leaves"):
        preflight(config(root, gpus=3), runs, cpu_command=CPU, root=root)
    with pytest.raises(ConflictError, match=r"may hold 1 at once .*, 2 more are asked for"):
        preflight(config(root, gpus=2), runs, cpu_command=CPU, root=root)
    found = preflight(config(root, gpus=1), runs, cpu_command=CPU, root=root)
    assert [item.detail for item in found if item.what == "GPUs"] == ["1 of 2"]


def test_a_gpu_that_is_cut_up_counts_only_if_it_is_named(
    root: Path, runs: RunsFolder, nvml: FakeNvml
) -> None:
    nvml.idle(2)
    nvml.write(*nvml.state.read_text().splitlines(), "mig")
    with pytest.raises(ConflictError, match=r"has 1 usable; GPU 1 is unknown: .*MIG.*--gpu-ids"):
        preflight(config(root, gpus=2), runs, cpu_command=CPU)
    found = preflight(config(root, gpus=2, ids=("0", "1")), runs, cpu_command=CPU)
    assert [item.detail for item in found if item.what == "GPUs"] == ["2 of 2"]


def test_no_driver_is_named(root: Path, runs: RunsFolder, nvml: FakeNvml) -> None:
    nvml.write("broken")
    with pytest.raises(ConflictError, match=r"no usable GPU \(NVML: Driver Not Loaded\)"):
        preflight(config(root, gpus=1), runs, cpu_command=CPU)
