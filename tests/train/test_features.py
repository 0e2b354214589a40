"""The feature cache in a run: read, shared, exact after a kill, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch

from orchestra.data import feature_store
from orchestra.data.recording_hashes import RecordingHashes
from orchestra.tasks import Batch, Stored, Task
from orchestra.train import capsule_files, features
from orchestra.train.features import content_of
from orchestra.upstreams.families.base import PretrainedUpstream
from orchestra.upstreams.rounded import LARGEST
from orchestra.wire.capsules import (
    DOCUMENT,
    capsule_of,
    capsules_in,
    read_document,
    what_happened,
)
from orchestra.wire.errors import DataError, NotFiniteError, UsageError
from orchestra.wire.features import usage
from orchestra.wire.folders import Job
from orchestra.wire.job import CODE, EvaluationSpec
from orchestra.wire.manifest import Utterance, write_manifest
from tests.exactness.launching import (
    WORKSPACE,
    Kill,
    final_state,
    launch,
    log_of,
    predicted,
    write_job,
)
from tests.train.cached import SMALL, cached_job, model_of
from tests.train.running import config_of, records_of, run_here
from tests.upstreams.conftest import SaveModel


@pytest.fixture
def hubert(save_model: SaveModel) -> Path:
    return save_model("hubert")


def losses(job: Job, attempt: int = 1) -> dict[int, float]:
    return {r.step: r.values["loss"] for r in records_of(job, attempt) if r.kind == "train"}


def count_forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each batch of recordings that the upstream computes."""
    extract, rows = PretrainedUpstream.extract, list[int]()
    probe = features.probe

    def probed(*arguments: Any) -> torch.Tensor:
        before = len(rows)
        heard = probe(*arguments)
        del rows[before:]
        return heard

    def counted(self: Any, wavs: torch.Tensor, lengths: torch.Tensor) -> Any:
        rows.append(len(wavs))
        assert wavs.shape[1] == lengths.max(), "no neighbour's padding"
        return extract(self, wavs, lengths)

    monkeypatch.setattr(PretrainedUpstream, "extract", counted)
    monkeypatch.setattr(features, "probe", probed)
    return rows


def test_each_utterance_is_computed_once_and_losses_stay_within_rounding(
    tmp_path: Path, hubert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = cached_job(tmp_path / "plain/run", hubert, cache={"features": False})
    run_here(plain)
    rows = count_forwards(monkeypatch)
    job = cached_job(tmp_path / "runs/first", hubert)
    run_here(job)
    folder = tmp_path / "runs/.features"
    stored = usage(folder).entries
    assert set(rows) == {1}
    assert len(rows) == stored > 30
    exact = losses(plain)
    for step, loss in losses(job).items():
        assert loss == pytest.approx(exact[step], rel=2e-3)
    assert not list((folder / ".new").iterdir())

    rows.clear()
    ahead = cached_job(tmp_path / "ahead/run", hubert, data={"workers": 2})
    run_here(ahead)
    assert len(rows) == stored, "workers looked for some before they were computed"
    assert final_state(ahead) == final_state(job)

    rows.clear()
    other = cached_job(tmp_path / "runs/second", hubert, data={"workers": 2})
    run_here(other)
    assert rows == [], "the second run reads what the first one stored"
    assert final_state(other) == final_state(job)
    assert predicted(other) == predicted(job)


def test_a_later_run_neither_decodes_nor_computes(
    tmp_path: Path, hubert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(9):
        noise = 0.1 * np.random.default_rng(n).standard_normal(2400 + 160 * n)
        soundfile.write(tmp_path / f"{n}.flac", noise, 16000)
    lines = [
        {"id": f"u{n}", "path": f"{tmp_path}/{n}.flac", "duration_s": 0.15, "label": n % 3}
        for n in range(9)
    ]
    for split in ("train", "dev", "test"):
        write_manifest(tmp_path / "m", split, lines, "a test")
    few = {"data": {"manifests": str(tmp_path / "m")}, "train": {"max_steps": 3}}
    few |= {"batch": {"seconds": 0.6, "max_micro_seconds": 0.6, "micro_batches": 2}}
    job = cached_job(tmp_path / "runs/run", hubert, kind="pooled", **few)
    run_here(job)
    rows = count_forwards(monkeypatch)
    monkeypatch.setattr("orchestra.data.audio.read_audio", None)
    again = cached_job(tmp_path / "runs/again", hubert, kind="pooled", **few)
    run_here(again)
    assert rows == []
    assert losses(again) == losses(job)
    monkeypatch.undo()
    monkeypatch.setenv(CODE, str(WORKSPACE))
    rows = count_forwards(monkeypatch)
    soundfile.write(tmp_path / "4.flac", 0.5 * noise, 16000)
    run_here(cached_job(tmp_path / "runs/changed", hubert, kind="pooled", **few))
    assert len(rows) == 1, "what was recorded anew is computed anew, and nothing else"
    soundfile.write(tmp_path / "4.flac", 0 * noise, 16000)
    quiet = [cached_job(tmp_path / f"runs/quiet{n}", hubert, kind="pooled", **few) for n in "12"]
    for each in quiet:  # the second one has it from the cache
        run_here(each)
        told = [r.values["text"] for r in records_of(each) if r.kind == "notice"]
        assert any("1 utterance is silent" in text and "u4" in text for text in told)
    refusing = {**few, "data": {**few["data"], "silent": "refuse"}}
    with pytest.raises(DataError, match="utterance u4: nothing to hear"):
        run_here(cached_job(tmp_path / "runs/refusing", hubert, kind="pooled", **refusing))
    (tmp_path / "4.flac").unlink()
    with pytest.raises(DataError, match=r"utterance 'u4': .*4.flac: No such file"):
        run_here(cached_job(tmp_path / "runs/missing", hubert, kind="pooled", **few))


def test_a_run_killed_in_its_first_epoch_ends_as_one_that_was_not(
    tmp_path: Path, hubert: Path
) -> None:
    whole = cached_job(tmp_path / "whole/run", hubert)
    run_here(whole)
    job = cached_job(tmp_path / "killed/run", hubert)
    kill = Kill(rank=0, step=2, batch=1)  # of 12 in the whole run; an epoch has more than 4
    assert launch(job, ranks=1, kill=kill) != 0
    cache = tmp_path / "killed/.features"
    assert 0 < usage(cache).entries < usage(tmp_path / "whole/.features").entries
    run_here(job, attempt=2)
    assert final_state(job) == final_state(whole)
    assert predicted(job) == predicted(whole)
    assert losses(job, 2) == losses(whole)


def test_an_evaluation_reads_the_cache(
    tmp_path: Path, hubert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = cached_job(tmp_path / "runs/run", hubert, train={"max_steps": 2}, checkpoint={"every": 2})
    run_here(job)
    rows = count_forwards(monkeypatch)
    folder = job.run.evaluation(9)
    folder.path.mkdir()
    EvaluationSpec("test", "best", 0.0, origin="user").write(folder)
    folder.job.config.write_bytes(job.config.read_bytes())
    run_here(folder.job)
    assert rows == []
    assert folder.predictions.read_bytes() == job.run.evaluation(1).predictions.read_bytes()


def test_a_damaged_entry_is_computed_again_and_said(tmp_path: Path, hubert: Path) -> None:
    job = cached_job(tmp_path / "runs/run", hubert)
    run_here(job)
    entries = sorted((tmp_path / "runs/.features").glob("*/*/*.safetensors"))
    good = entries[0].read_bytes()
    torn, flipped = good[:-100], good[:-7] + bytes([good[-7] ^ 1]) + good[-6:]
    entries[0].write_bytes(flipped)
    entries[1].write_bytes(torn)
    again = cached_job(tmp_path / "runs/again", hubert)
    run_here(again)
    told = [r.values["text"] for r in records_of(again) if r.kind == "notice"]
    assert len([t for t in told if "damaged" in t and "computed again" in t]) == 2
    assert entries[0].read_bytes() == good
    assert final_state(again) == final_state(job)


def test_audio_is_named_by_its_recording_and_which_part_of_it(tmp_path: Path) -> None:
    def named(task: Task, name: str, offset_s: float = 0.0, duration_s: float = 0.5) -> str:
        found = Utterance("u", tmp_path / name, offset_s, duration_s, {})
        return content_of(task, RecordingHashes(tmp_path / "hashes"))(found)

    for name, level in (("a", 0.1), ("b", 0.1), ("c", 0.2)):
        soundfile.write(tmp_path / f"{name}.wav", np.full(16000, level), 16000)
    config, info = config_of(write_job(tmp_path / "run", kind="asr"))
    task = info.task_class()(config.task, config.data)
    first = named(task, "a.wav")
    assert named(task, "b.wav") == first, "a copy"
    others = [("c.wav", 0.0, 0.5), ("a.wav", 0.25, 0.5), ("a.wav", 0.0, 0.25)]
    assert first not in {named(task, *other) for other in others}

    class Louder(type(task)):  # type: ignore[misc]
        def read(self, utterance: Utterance) -> Any:
            return 2 * super().read(utterance)

    louder = Louder(config.task, config.data)
    assert named(louder, "a.wav") != first
    assert named(louder, "a.wav") == named(louder, "a.wav", 0.25), "the same samples"


def test_the_sum_is_learnt_over_the_chosen_layers(tmp_path: Path, hubert: Path) -> None:
    job = cached_job(tmp_path / "runs/run", hubert, cache={"layers": [1, -1]})
    run_here(job)
    weights = safetensors.torch.load_file(job.run.checkpoint(12) / "model.safetensors")
    assert weights["featurizer.weights"].shape == (2,)
    assert weights["featurizer.weights"].abs().min() > 0
    entry = next((tmp_path / "runs/.features").glob("*/*/*.safetensors"))
    assert safetensors.torch.load_file(entry)["layers"].shape[0] == 2


def test_one_layer_alone_is_stored_where_one_is_used(tmp_path: Path, hubert: Path) -> None:
    job = cached_job(tmp_path / "runs/run", hubert, upstream={"layers": 2}, train={"max_steps": 1})
    run_here(job)
    entry = next((tmp_path / "runs/.features").glob("*/*/*.safetensors"))
    assert safetensors.torch.load_file(entry)["layers"].shape[0] == 1


def test_what_cannot_be_cached_is_refused(tmp_path: Path, hubert: Path) -> None:
    with pytest.raises(ValueError, match="trainable"):
        cached_job(tmp_path / "a", hubert, upstream={"trainable": True})
    augment = {"augment": {"speed": {}}}
    with pytest.raises(ValueError, match="augment changes the audio"):
        cached_job(tmp_path / "augmented", hubert, **augment)
    with pytest.raises(ValueError, match=r"upstream.layers = 1"):
        cached_job(tmp_path / "b", hubert, upstream={"layers": 1}, cache={"layers": [1, 2]})
    with pytest.raises(UsageError, match="no layer 7; the upstream has 4"):
        model_of(cached_job(tmp_path / "c", hubert, cache={"layers": [1, 7]}))
    with pytest.raises(UsageError, match="has no weights"):
        run_here(write_job(tmp_path / "d", **SMALL, cache={"features": True}))


def test_a_full_disk_stops_caching_and_not_training(
    tmp_path: Path, hubert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = cached_job(tmp_path / "whole/run", hubert)
    run_here(whole)
    monkeypatch.setattr("orchestra.data.feature_store.RESERVE_BYTES", 2**60)
    job = cached_job(tmp_path / "runs/run", hubert)
    run_here(job)
    told = [r.values["text"] for r in records_of(job) if r.kind == "notice"]
    assert len([text for text in told if "nothing more is stored" in text]) == 1
    assert usage(tmp_path / "runs/.features").entries == 0
    assert final_state(job) == final_state(whole), "what is computed is what would be read"


def test_entries_deleted_while_a_run_reads_them_are_computed(
    tmp_path: Path, hubert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"train": {"max_steps": 2}, "checkpoint": {"every": 2}}
    job = cached_job(tmp_path / "runs/run", hubert, **few)
    run_here(job)
    read = feature_store.read_into

    def deleted_first(entry: Any, rows: torch.Tensor) -> None:
        entry.path.unlink(missing_ok=True)
        read(entry, rows)

    monkeypatch.setattr(feature_store, "read_into", deleted_first)
    again = cached_job(tmp_path / "runs/again", hubert, **few)
    run_here(again)
    assert final_state(again, 2) == final_state(job, 2)


def batch_of(seconds: list[float]) -> Batch:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([round(16000 * s) for s in seconds])
    wavs = torch.zeros(len(seconds), int(lengths.max()))
    for row, length in enumerate(lengths.tolist()):
        wavs[row, :length] = torch.randn(length, generator=generator)
    names = [f"u{n}" for n in range(len(seconds))]
    return Batch(names, wavs, lengths, {"labels": torch.zeros(len(seconds), dtype=torch.long)}, [])


def test_too_large_and_not_finite_features_are_refused_by_id_and_layer(
    tmp_path: Path, hubert: Path
) -> None:
    model = model_of(cached_job(tmp_path / "a", hubert))
    batch = batch_of([0.1, 0.2])
    norm = model.upstream.model.encoder.layers[1].final_layer_norm
    norm.weight.data.fill_(2 * LARGEST)
    with pytest.raises(DataError, match=r"layer 2 .* utterance u0 reaches .* float16"):
        model.predict(batch)
    norm.weight.data.fill_(float("nan"))
    with pytest.raises(DataError, match=r"layer 2 .* utterance u0 is not finite"):
        model.predict(batch)


def test_predictions_from_features_that_are_not_finite_are_refused_without_a_cache_too(
    tmp_path: Path, hubert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(cached_job(tmp_path / "a", hubert, cache={"features": False}))
    batch = batch_of([0.2, 0.1])
    extract = model.upstream.extract

    def damaged(wavs: torch.Tensor, lengths: torch.Tensor) -> Any:
        features = extract(wavs, lengths)
        layers = [layer.clone() for layer in features.layers["hidden_states"]]
        layers[3][1, 0] = float("inf")
        return dataclasses.replace(features, layers={"hidden_states": layers})

    model.eval()
    with torch.no_grad():
        model.predict(batch)
        monkeypatch.setattr(model.upstream, "extract", damaged)
        with pytest.raises(DataError, match="layer 3 of the features of utterance u1 is not"):
            model.predict(batch)


def test_training_on_features_that_are_not_finite_names_the_utterance(
    tmp_path: Path, hubert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = cached_job(
        tmp_path / "run",
        hubert,
        cache={"features": False},
        train={"max_steps": 30, "eval_every": 100},
    )
    extract = PretrainedUpstream.extract

    def damaged(self: Any, wavs: torch.Tensor, lengths: torch.Tensor) -> Any:
        features = extract(self, wavs, lengths)
        layers = list(features.layers["hidden_states"])
        layers[1] = layers[1].clone()
        layers[1][0, 0, 0] = float("nan")
        return dataclasses.replace(features, layers={"hidden_states": layers})

    monkeypatch.setattr(PretrainedUpstream, "extract", damaged)
    culprit = r"layer 1 of the features of utterance train-\d+ is not finite"
    with pytest.raises(NotFiniteError, match=rf"20 steps in a row, .*: {culprit}"):
        run_here(job)
    told = [r.values["text"] for r in records_of(job) if r.kind == "notice"]
    assert any(re.search(rf"step 1: {culprit}; capsule", text) for text in told)
    (capsule, *_) = capsules_in(job.run.capsules)
    assert re.fullmatch(culprit, what_happened(read_document(capsule)))


def test_a_capsule_keeps_the_features_that_its_step_had(tmp_path: Path) -> None:
    layers = torch.randn(3, 2, 9, 5, generator=torch.Generator().manual_seed(1)).half()
    stored = Stored(layers, torch.tensor([9, 4]), ["a", "b"])
    batch = dataclasses.replace(batch_of([0.2, 0.1]), stored=stored, seeds=[1, 2])
    place = capsule_of(tmp_path / "capsules", 1, 1, 0)
    place.folder.parents[1].mkdir()
    capsule_files.write(place, {}, [(0, batch)], None)
    document = json.loads((place.folder / DOCUMENT).read_bytes())
    ((_, back),) = capsule_files.read_batches(place, document, torch.device("cpu"))
    assert back.stored is not None
    assert torch.equal(back.stored.layers, layers)
    assert back.stored.lengths.tolist() == [9, 4]


@pytest.mark.slow
@pytest.mark.exactness
def test_two_ranks_share_a_cache(tmp_path: Path, hubert: Path) -> None:
    """Each stores what it computes; a second run of both reads it, to the last bit."""
    tables = {"batch": {"micro_batches": 4}, "data": {"workers": 1}}
    job, again = (cached_job(tmp_path / f"runs/{name}", hubert, **tables) for name in "ab")
    assert launch(job, ranks=2) == 0, log_of(job)
    stored = usage(tmp_path / "runs/.features")
    assert launch(again, ranks=2) == 0, log_of(again)
    assert usage(tmp_path / "runs/.features") == stored
    assert final_state(again) == final_state(job)
    alone = cached_job(tmp_path / "alone/run", hubert, **tables)
    assert launch(alone, ranks=2) == 0, log_of(alone)
    assert final_state(alone) == final_state(job)
