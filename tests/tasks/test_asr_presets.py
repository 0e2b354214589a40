"""The presets of asr say what the README promises, and its head can learn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from orchestra.config.compose import Request, compose
from orchestra.config.schema import DataConfig, RunConfig
from orchestra.tasks import Batch
from orchestra.wire.manifest import Utterance
from tasks.asr.config import Config, SmallHeadConfig
from tasks.asr.task import Task


def composed(workspace: Path, *presets: str) -> RunConfig:
    return compose(Request(workspace=workspace, task="asr", presets=presets)).config


def test_asr_is_superbs_recipe(tmp_path: Path) -> None:
    config = composed(tmp_path)
    assert (config.optim.kind, config.optim.lr, config.schedule.kind) == ("adam", 1e-4, "constant")
    assert (config.train.max_steps, config.train.eval_every) == (200_000, 2_000)
    data = config.data
    assert (data.train, data.valid, data.test) == ("train-clean-100", "dev-clean", ["test-clean"])
    assert data.manifests == tmp_path / "data/LibriSpeech/manifests"
    assert config.task.head.kind == "superb"


@pytest.mark.parametrize(
    ("preset", "root", "test"),
    [("asr-demo", ".demo/LibriSpeech", "test-clean"), ("digits", "data/digits", "test")],
)
def test_small_presets_replace_the_head_and_the_corpus(
    tmp_path: Path, preset: str, root: str, test: str
) -> None:
    config = composed(tmp_path, preset)
    assert config.task.head.kind == "small"
    assert (config.data.root, config.data.test) == (tmp_path / root, [test])
    assert config.data.manifests == tmp_path / root / "manifests"
    assert (config.launch.nproc, config.launch.device) == (2, "cpu")
    assert config.batch.micro_batches == 2


def test_head_learns_to_spell() -> None:
    """Each character is a vector of its own, held for six frames; eight texts are learnt."""
    config = Config(characters=" ABC", head=SmallHeadConfig(projection=16, hidden=16, dropout=0.0))
    texts = ["A", "B C", "CAB", "A A", "BB", "ACB A", "C", "BA CA"]
    utterances = [
        Utterance(f"u{i}", Path("u.flac"), 0.0, 1.0, {"text": text}) for i, text in enumerate(texts)
    ]
    task = Task(config, DataConfig())
    targets = task.collate([task.target(utterance) for utterance in utterances])
    lengths = targets["lengths"] * 6
    features = torch.eye(5)[targets["symbols"]].repeat_interleave(6, dim=1)
    # A doubled character needs something between its two halves.
    features[:, ::6] = 0.0
    batch = Batch(
        [u.id for u in utterances], features[:, :, 0], lengths, targets, [0] * 8, utterances
    )
    torch.manual_seed(0)
    head = task.build_head(5, 160).eval()  # no SpecAugment: eight texts are all there is
    optimizer = torch.optim.AdamW(head.parameters(), lr=2e-2)
    for _ in range(40):
        optimizer.zero_grad()
        terms = task.loss(head, features, lengths, batch)
        (terms.sum / terms.weight).backward()
        optimizer.step()
    with torch.no_grad():
        records = task.predict(head, features, lengths, batch)
    assert [record["hyp"] for record in records] == texts
    referred = [task.refer(r, u) for r, u in zip(records, utterances, strict=True)]
    assert task.score(referred)["wer"] == 0
