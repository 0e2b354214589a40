"""The `upstream` table: one class for each kind. Imported through `schema`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from orchestra.config.table import Table


class FbankConfig(Table):
    """Log mel filter banks, as Kaldi computes them."""

    kind: Literal["fbank"] = "fbank"
    name: str = "fbank"
    mels: PositiveInt = 80
    deltas: Annotated[int, Field(ge=0, le=2)] = 2
    """Orders of deltas appended: 2 gives 240 dimensions from 80 mels."""
    cmvn: bool = True
    """Mean and variance normalisation over each utterance."""


class MfccConfig(Table):
    """Mel-frequency cepstral coefficients, as Kaldi computes them."""

    kind: Literal["mfcc"] = "mfcc"
    name: str = "mfcc"
    coefficients: PositiveInt = 13
    mels: PositiveInt = 23
    deltas: Annotated[int, Field(ge=0, le=2)] = 2
    """Orders of deltas appended: 2 gives 39 dimensions from 13 coefficients."""
    cmvn: bool = True
    """Mean and variance normalisation over each utterance."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.coefficients > self.mels:
            raise ValueError(f"{self.mels} mels have no {self.coefficients} coefficients")
        return self


class MelConfig(Table):
    """Log mel energies of a centred short-time Fourier transform."""

    kind: Literal["mel"] = "mel"
    name: str = "mel"
    mels: PositiveInt = 80
    deltas: Annotated[int, Field(ge=0, le=2)] = 0
    cmvn: bool = True
    """Mean and variance normalisation over each utterance."""


class LinearConfig(Table):
    """Log power spectra (201 bands) of a centred short-time Fourier transform."""

    kind: Literal["linear"] = "linear"
    name: str = "linear"
    deltas: Annotated[int, Field(ge=0, le=2)] = 0
    cmvn: bool = True
    """Mean and variance normalisation over each utterance."""


class SpectrogramConfig(Table):
    """Log power spectra (257 bands, the lowest is the energy), as Kaldi computes them."""

    kind: Literal["spectrogram"] = "spectrogram"
    name: str = "spectrogram"
    deltas: Annotated[int, Field(ge=0, le=2)] = 0
    cmvn: bool = True
    """Mean and variance normalisation over each utterance."""


class UpstreamParts(Table):
    """Sources of single parts of a model: a hub id (`ORG/MODEL@REVISION`), a URL or a local path.

    A URL or path of one file may have any name; `URL#sha256=...` names the content it must have.
    """

    config: str | None = None
    preprocessor: str | None = None
    weights: str | None = None


class HuggingFaceConfig(Table):
    """A pretrained speech model as transformers loads it."""

    kind: Literal["huggingface"] = "huggingface"
    name: str
    """What the user called it."""
    source: str
    """Hub id, URL of a folder, or the absolute path of a folder, as save_pretrained writes it."""
    revision: str | None = None
    """Of the hub: branch, tag or commit; the commit it means is frozen when a run is made."""
    parts: UpstreamParts | None = None
    """What does not come from `source`; the files of a URL are frozen here with their hashes."""
    shadows: str | None = None
    """The hub id in whose place `source` stands: an alias of orchestra.toml, or a local folder."""
    key: str = "hidden_states"
    """Which of the model's outputs is used: "hidden_states" or "last_hidden_state"."""
    layers: int | None = None
    """One layer (Python indexing, -1 is the last) instead of the learnt sum of all."""
    normalize: bool = False
    """Layer norm without parameters on each layer before the sum (S3PRL's feature_normalize)."""
    trainable: bool = False
    lr: PositiveFloat | None = None
    """Learning rate of the upstream when trainable; default: optim.lr."""


class FileConfig(Table):
    """A user's own upstream: a Python file of the workspace with one class."""

    kind: Literal["file"] = "file"
    name: str
    """What the user called it."""
    source: str
    """The file, relative to the workspace; what runs is the copy in the run's snapshot."""
    options: dict[str, Any] = {}
    """Keyword arguments of its class."""
    key: str = "hidden_states"
    """Which of its outputs is used."""
    layers: int | None = None
    """One layer (Python indexing, -1 is the last) instead of the learnt sum of all."""
    normalize: bool = False
    """Layer norm without parameters on each layer before the sum (S3PRL's feature_normalize)."""
    trainable: bool = False
    lr: PositiveFloat | None = None
    """Learning rate of the upstream when trainable; default: optim.lr."""


SpectralConfig = FbankConfig | MfccConfig | MelConfig | LinearConfig | SpectrogramConfig
"""Without weights, one layer."""
LayeredConfig = HuggingFaceConfig | FileConfig
"""With weights or code of their own, perhaps several layers, perhaps trainable."""
UpstreamConfig = Annotated[SpectralConfig | LayeredConfig, Field(discriminator="kind")]
