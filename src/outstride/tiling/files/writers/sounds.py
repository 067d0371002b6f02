"""WAV and FLAC, made of the samples at the end."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from outstride.tiling.files.writers.disk import sync_file
from outstride.tiling.files.writers.interface import NUMBERS, RESULT, Encoder, Made, Wanted
from outstride.tiling.files.writers.rows import Rows

USUAL_RATE = 44100
#: Samples a second that each format can say.
HIGHEST_RATES = {".wav": 2**32 - 1, ".flac": 655350}
_MOST_CHANNELS = 8
_BLOCK = 1 << 16
#: What a WAV can say of its size, less its words.
_MOST_BYTES = 2**32 - 1024


def wav(folder: Path, wanted: Wanted) -> Made:
    """A WAV file of 32-bit floats."""
    if 4 * prod(wanted.shape) >= _MOST_BYTES:
        raise wanted.unfit(f"a .wav for {wanted.shape}", "less than 4 GB of samples, or a .flac or .npy")
    encode, rows = _samples(folder, wanted, ".wav")

    def finish() -> None:
        from scipy.io import wavfile

        path = folder / NUMBERS
        samples: Any = (
            np.memmap(path, rows.dtype, "r", shape=rows.shape)
            if rows.shape[0]
            else np.empty(rows.shape, rows.dtype)
        )
        wavfile.write(folder / RESULT, wanted.facts.rate or USUAL_RATE, samples)
        sync_file(folder / RESULT)

    def again(path: Path) -> AbstractContextManager[Any]:
        from scipy.io import wavfile

        return nullcontext(_Turned(wavfile.read(path, mmap=True)[1], wanted.shape))

    return Made(_Turned(rows, wanted.shape), encode, finish, rows.sync, rows.close, again)


def flac(folder: Path, wanted: Wanted) -> Made:
    """A FLAC file of 24 bits, in which samples beyond -1 and 1 are cut off."""
    encode, rows = _samples(folder, wanted, ".flac")
    if rows.shape[1] > _MOST_CHANNELS:
        raise wanted.unfit(
            f"a .flac for {rows.shape[1]} channels", f"1 to {_MOST_CHANNELS} channels, or a .wav"
        )

    def finish() -> None:
        import soundfile

        beyond = 0
        with soundfile.SoundFile(
            folder / RESULT, "w", wanted.facts.rate or USUAL_RATE, rows.shape[1], "PCM_24", format="FLAC"
        ) as sound:
            for start in range(0, rows.shape[0], _BLOCK):
                part = rows[slice(start, min(start + _BLOCK, rows.shape[0])), slice(0, rows.shape[1])]
                beyond += int((~(np.abs(part) <= 1)).sum())
                sound.write(np.nan_to_num(np.clip(part, -1, 1)))
        if beyond:
            wanted.facts.notes.append(f"{beyond} samples lie beyond -1 to 1 and are cut off")
        sync_file(folder / RESULT)

    return Made(_Turned(rows, wanted.shape), encode, finish, rows.sync, rows.close)


def _samples(folder: Path, wanted: Wanted, kind: str) -> tuple[Encoder, Rows]:
    shape = wanted.shape
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] != 1) or wanted.dtype.kind != "f":
        raise wanted.unfit(f"a {kind} for {shape} of {wanted.dtype}", "(1, C, L) or (C, L) of floats")
    if wanted.range_ is not None:
        raise wanted.unfit(f"bytes for a {kind}", "a result without 'output_range'")
    encode = Encoder(wanted)
    encode.dtype = np.dtype(np.float32)
    return encode, Rows(folder / NUMBERS, (shape[-1], shape[-2]), encode.dtype)


class _Turned:
    """Samples (L, C) as (C, L) or (1, C, L)."""

    def __init__(self, array: Any, shape: tuple[int, ...]) -> None:
        self._array, self.shape, self.dtype = array, shape, array.dtype

    def __setitem__(self, key: tuple[slice, ...], part: Any) -> None:
        self._array[key[-1], key[-2]] = part.reshape(part.shape[-2:]).T

    def __getitem__(self, key: tuple[slice, ...]) -> Any:
        two = self._array if self._array.ndim == 2 else self._array[:, None]
        part = np.asarray(two[key[-1], key[-2]]).T
        return part if len(self.shape) == 2 else part[None]
