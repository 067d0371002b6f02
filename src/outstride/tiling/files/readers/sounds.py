"""Recordings: WAV mapped by SciPy, FLAC decoded where it is needed by soundfile."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from outstride.tiling.files.axes import Moved, scaled
from outstride.tiling.files.facts import Facts
from outstride.tiling.files.readers.opened import File, Opened


@contextmanager
def wav(file: File, nd: int | None) -> Iterator[Opened]:
    """A WAV file of integers or floats, (L,) or (L, C)."""
    from scipy.io import wavfile

    file.without("level", "dataset")
    with warnings.catch_warnings():
        # Chunks beside the samples are skipped; an end before the samples' is no whole file.
        warnings.filterwarnings("ignore", category=wavfile.WavFileWarning)
        warnings.filterwarnings("error", "Reached EOF|Incomplete", wavfile.WavFileWarning)
        try:
            rate, values = wavfile.read(file.place, mmap=True)
        except ValueError:  # 24 bits cannot be mapped
            rate, values = wavfile.read(file.place)
    # Eight bits are unsigned with silence in the middle; more are signed, 24 of them the high ones of 32.
    zero, one = 0, None
    if values.dtype.kind in "iu":
        one = 1 << (8 * values.dtype.itemsize - 1)
        zero = one if values.dtype.kind == "u" else 0
    order = file.order("L" if values.ndim == 1 else "LC", values.shape, nd)
    yield Opened(Moved(values, order, *scaled(values.dtype, zero, one)), Facts(rate=int(rate)))


class _Samples:
    """An open recording, sliced as an array (L, C) of floats from -1 to 1."""

    def __init__(self, sound: Any) -> None:
        self._sound = sound
        self.shape, self.dtype = (int(sound.frames), int(sound.channels)), np.dtype(np.float32)

    def __getitem__(self, key: tuple[slice, slice]) -> Any:
        samples, channels = (range(*part.indices(n)) for part, n in zip(key, self.shape, strict=True))
        self._sound.seek(samples.start)
        found = self._sound.read(len(samples), dtype="float32", always_2d=True)
        if len(found) != len(samples):
            raise ValueError("it ends before its samples do")
        return found[:, channels.start : channels.stop]


@contextmanager
def flac(file: File, nd: int | None) -> Iterator[Opened]:
    """A FLAC file, decoded part by part."""
    import soundfile

    file.without("level", "dataset")
    with soundfile.SoundFile(file.place) as sound:
        samples = _Samples(sound)
        order = file.order("LC", samples.shape, nd)
        yield Opened(Moved(samples, order), Facts(rate=int(sound.samplerate)))
