"""Speak a sentence with eSpeak NG, through the C library that the package espeakng-loader ships.

The library has one global state per process: what it says depends a little on what it said before
(noise generators, voice flutter). Who wants the same bytes again starts from a new process.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from orchestra.wire.errors import OrchestraError

# Values of speak_lib.h.
_OUTPUT_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_RATE, _PITCH, _PITCH_RANGE = 1, 3, 4
_CHARS_UTF8 = 1
_POSITION_CHARACTER = 1

_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


@dataclass(frozen=True)
class EspeakFiles:
    """Where the shared library and its voice data lie."""

    library: Path
    data: Path


@dataclass(frozen=True)
class Voice:
    """How a sentence is spoken."""

    name: str  # language and variant as eSpeak names them: `en-us+f2`
    words_per_minute: int
    pitch: int  # 0 .. 100
    pitch_range: int  # 0 (monotone) .. 100


def locate_espeak() -> EspeakFiles:
    """The files of the installed package.

    Raises:
        OrchestraError: it is not installed; the message has the command that installs it.
    """
    try:
        import espeakng_loader
    except ModuleNotFoundError:
        raise OrchestraError(
            "the spoken corpus needs eSpeak NG, which is not installed: "
            "pip install 'orchestra[demo]'"
        ) from None
    return EspeakFiles(
        library=Path(espeakng_loader.get_library_path()),
        data=Path(espeakng_loader.get_data_path()),
    )


class Espeak:
    """The library, loaded and initialised. One per process, for the life of the process."""

    def __init__(self, files: EspeakFiles) -> None:
        """Load the library.

        Raises:
            OrchestraError: it doesn't load or finds no voices.
        """
        try:
            self._library = ctypes.CDLL(str(files.library))
        except OSError as error:
            raise OrchestraError(f"cannot load eSpeak NG: {error}") from error
        self._files = files
        self._pieces: list[bytes] = []
        self._callback = _Callback(self._collect)
        # eSpeak copies the path into a buffer of 160 bytes and silently drops a longer one, which
        # a virtual environment deep in a home folder has; a descriptor's path is always short.
        self._data_fd = os.open(files.data, os.O_RDONLY | os.O_DIRECTORY)
        data = f"/proc/self/fd/{self._data_fd}".encode()
        self.rate = int(self._library.espeak_Initialize(_OUTPUT_SYNCHRONOUS, 0, data, _DONT_EXIT))
        """Samples per second of what `say` returns."""
        if self.rate <= 0:
            raise OrchestraError(f"eSpeak NG found no voice data in {files.data}")
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, voice: Voice) -> npt.NDArray[np.float32]:
        """Speech of shape (samples,) at `rate`, in [-1, 1].

        Raises:
            OrchestraError: there is no such voice, or the library refuses the text.
        """
        variant = voice.name.partition("+")[2]
        # eSpeak itself falls back to the plain voice, and two speakers would be one.
        missing = not (self._files.data / "voices" / "!v" / variant).exists()
        if missing or self._library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise OrchestraError(f"eSpeak NG has no voice {voice.name!r}")
        self._library.espeak_SetParameter(_RATE, voice.words_per_minute, 0)
        self._library.espeak_SetParameter(_PITCH, voice.pitch, 0)
        self._library.espeak_SetParameter(_PITCH_RANGE, voice.pitch_range, 0)
        self._pieces.clear()
        data = text.encode() + b"\0"
        status = self._library.espeak_Synth(
            data, ctypes.c_size_t(len(data)), 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None
        )
        if status != 0 or not self._pieces:
            raise OrchestraError(f"eSpeak NG did not speak {text!r} as {voice.name!r}")
        samples = np.frombuffer(b"".join(self._pieces), dtype=np.int16)
        return samples.astype(np.float32) / np.float32(32768)

    def _collect(self, samples: object, count: int, _events: object) -> int:
        if count > 0:
            self._pieces.append(ctypes.string_at(samples, 2 * count))  # type: ignore[arg-type]
        return 0
