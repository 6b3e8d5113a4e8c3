"""Invisible marks: 32 bits hidden in the pixels or samples themselves, for when a file has lost all that came with it.

Spread spectrum (Cox, Kilian, Leighton and Shamoon 1997, doi:10.1109/83.650120). A secret key gives 64 × 64 random
signs, the *chips*. One quarter of them is always the same and says that a mark is there and where it begins; the others
carry six symbols of eight bits, each one of 256 orthogonal Walsh functions. A picture holds the chips as a pattern of
128 × 128 pixels side by side, as strong as its texture hides; a sound holds them as gains of 64 frequency bands in 64
time steps of 16 ms, again and again. Both may begin anywhere, so that cutting does no harm, and are looked for so.

How often that finds what is not there. Whatever picture or sound comes, the detector makes numbers a of it that know
nothing of the key, and S = Σ ε a / √Σ a² over 1,024 signs ε of the key. For random signs the mean of S is 0 and its
variance 1, and by Hoeffding (1963, doi:10.1080/01621459.1963.10500830, theorem 2) P(S ≥ s) ≤ exp(−s²/2) for any a: no
normal distribution is assumed, of nothing. With n places and scales tried a mark is found if n exp(−s²/2) ≤ 10⁻⁶. The
probability is over keys: who knows the key, or has seen many marked files, can do better than chance (see `estimate`).
"""

import binascii
import hashlib
import math
import secrets
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft, linalg, ndimage, signal

from aigc_lib.paths import cache_dir

SIDE = 64  # chips a side
PERIOD = 2 * SIDE  # of the pattern in a picture, in pixels
N_SYNC, N_SYMBOLS, N_WALSH = 1024, 6, 256
FALSE_POSITIVES = 1e-6
PSNR = 40.5  # dB, about which a marked picture has; rounding to whole levels moves it by one
STRONGEST = 8.0  # grey levels that a pixel may change
N_PERIODS = 6  # lengths at which a resized picture may repeat itself that are tried
RATE, HOP, WINDOW = 16_000, 256, 512  # of the analysis of sound: a chip lasts 16 ms
GAIN = 1.3  # dB up or down
FIRST_BIN, BINS = 10, 3  # of a band, of 31.25 Hz: 64 bands from 312 to 6,312 Hz


class Mark(NamedTuple):
    """What was found."""

    score: float = 0.0  # S at the best place, in standard deviations
    chance: float = 1.0  # at most this often, over keys, anything unmarked scores as high
    payload: int | None = None  # 32 bits; None if no mark was found, or one too weak to be read

    @property
    def found(self) -> bool:
        return self.chance <= FALSE_POSITIVES


def own_key() -> bytes:
    """The key of this installation, 32 bytes, made on first use in a file that only its owner can read."""
    file = cache_dir() / "provenance" / "mark.key"
    if not file.is_file():
        from aigc_lib.trust.provenance import write_secret

        write_secret(file, secrets.token_bytes(32))
    return file.read_bytes()


def chips(key: bytes, payload: int) -> NDArray:
    """The signs of a mark, (64, 64) in ±1: `_layout` puts symbols on the chips, the key turns them.

    Raises:
        ValueError: the payload is not 0 to 2³² − 1, or the key shorter than 16 bytes.
    """
    if not 0 <= payload < 2**32:
        raise ValueError(f"a mark carries an integer of 0 to 2**32 - 1, got {payload}")
    message = payload.to_bytes(4, "big")
    symbols = list(message + binascii.crc_hqx(message, 0).to_bytes(2, "big"))
    signs, order = _layout(key)
    values = np.ones(SIDE * SIDE)
    values[N_SYNC:] = np.tile(linalg.hadamard(N_WALSH)[symbols], 2).ravel()
    pattern = np.empty(SIDE * SIDE)
    pattern[order] = signs * values
    return pattern.reshape(SIDE, SIDE)


def _layout(key: bytes) -> tuple[NDArray, NDArray]:
    """Signs and places of the chips, (4096,) each, of a key: SHAKE-256 is a random function of it."""
    if len(key) < 16:
        raise ValueError(f"a key has at least 16 bytes, got {len(key)}")
    n = SIDE * SIDE
    stream = np.frombuffer(hashlib.shake_256(b"aigc mark" + key).digest(n // 8 + 8 * n), dtype=np.uint8)
    signs = 1.0 - 2.0 * np.unpackbits(stream[: n // 8])
    return signs, np.argsort(stream[n // 8 :].view("<u8"), kind="stable")


def detect(sums: NDArray, key: bytes, *, n_tried: int = 1, in_time: bool = False) -> Mark:
    """Look for a mark in sums over chips.

    Args:
        sums: (P, 64, 64), what was measured where the chips may be, for P positions of their grid; whole periods of a
            picture or sound are added up, so that the pattern begins anywhere and goes on at the other side.
        n_tried: how many such arrays are looked at in all, to be counted as chances.
        in_time: the pattern begins at any column, but in the first row: bands do not move.

    Returns:
        The best of all places; its chance is at most n exp(−score²/2) for n places in all.
    """
    signs, order = _layout(key)
    template = np.zeros(SIDE * SIDE)
    template[order[:N_SYNC]] = signs[:N_SYNC]
    template = template.reshape(SIDE, SIDE)
    energy = _correlated(sums**2, template**2)
    floor = 1e-9 * energy.max()  # below it a square root shows the rounding of the transform
    if not floor > 0:
        return Mark()
    scores = _correlated(sums, template) / np.sqrt(np.maximum(energy, floor))
    scores = scores[:, :1] if in_time else scores
    position, row, column = np.unravel_index(scores.argmax(), scores.shape)
    score = float(scores[position, row, column])
    chance = min(1.0, scores.size * n_tried * math.exp(-(max(score, 0.0) ** 2) / 2))
    found = Mark(score, chance)
    if not found.found:
        return found
    values = np.roll(sums[position], (-row, -column), axis=(0, 1)).ravel()[order] * signs
    symbols = values[N_SYNC:].reshape(N_SYMBOLS, 2, N_WALSH).sum(axis=1) @ linalg.hadamard(N_WALSH)  # (6, 256)
    message = bytes(symbols.argmax(axis=1).astype(np.uint8))
    right = binascii.crc_hqx(message[:4], 0) == int.from_bytes(message[4:], "big")
    return found._replace(payload=int.from_bytes(message[:4], "big")) if right else found


def _correlated(values: NDArray, pattern: NDArray) -> NDArray:
    """Σ values · pattern for every cyclic shift of the pattern, (P, 64, 64)."""
    return np.fft.irfft2(np.fft.rfft2(values) * np.fft.rfft2(pattern).conj(), s=(SIDE, SIDE))


# Pictures ------------------------------------------------------------------------------------------------------------


def mark_picture(pixels: NDArray, payload: int, *, key: bytes | None = None) -> NDArray:
    """A copy of a picture with a mark in its brightness, as strong as the texture nearby, PSNR about 40 dB.

    Args:
        pixels: uint8 (H, W) or (H, W, 3), each side at least 128.
        payload: 32 bits, 0 to 2³² − 1.
        key: at least 16 bytes; this installation's own if None.

    Raises:
        ValueError: another shape or type, payload or key; or the mark cannot be read from the marked picture, which has
            too little texture or too few pixels to carry one.
    """
    grey, key = _grey(pixels), own_key() if key is None else key
    if min(grey.shape) < PERIOD:
        raise ValueError(f"a picture needs {PERIOD} x {PERIOD} pixels to carry a mark, got {grey.shape}")
    pattern = np.kron(chips(key, payload), np.ones((2, 2)))
    pattern = np.tile(pattern, [-(-side // PERIOD) for side in grey.shape])[: grey.shape[0], : grey.shape[1]]
    change = pattern * np.minimum(_texture(grey)[1], STRONGEST / 2)
    change *= 255 * 10 ** (-PSNR / 20) / max(np.sqrt((change**2).mean()), 1e-9)
    change = change.clip(-STRONGEST, STRONGEST)
    marked = (pixels + (change if pixels.ndim == 2 else change[..., None])).round().clip(0, 255).astype(np.uint8)
    if detect(picture_sums(_grey(marked)), key, n_tried=N_PERIODS + 1).payload != payload:
        raise ValueError(f"this picture {grey.shape} cannot carry a mark: it has too little texture")
    return marked


def find_in_picture(pixels: NDArray, *, key: bytes | None = None) -> Mark:
    """Look for a mark in a picture as in `mark_picture`, which may have been cut, or resized keeping its proportions.

    A resized pattern still repeats itself: the lengths at which the picture is most like itself are tried as periods.
    Rotation, mirroring and other proportions hide a mark. Flat or small pictures have none. ValueError as there.
    """
    grey, key = _grey(pixels), own_key() if key is None else key
    if min(grey.shape) < PERIOD // 2:
        return Mark()
    best = detect(picture_sums(grey), key, n_tried=N_PERIODS + 1)
    for period in _periods(grey) if not best.found else ():
        zoom = PERIOD / period
        size = [max(1, round(side * zoom)) for side in reversed(grey.shape)]
        resized = np.asarray(Image.fromarray(grey.astype(np.float32)).resize(size, Image.Resampling.BICUBIC))
        best = max(best, detect(picture_sums(resized), key, n_tried=N_PERIODS + 1))
        if best.found:
            break
    return best


def _grey(pixels: NDArray) -> NDArray:
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise ValueError(f"expected uint8 pixels (H, W) or (H, W, 3), got {pixels.dtype} {pixels.shape}")
    return pixels.astype(np.float64) if pixels.ndim == 2 else pixels @ np.array([0.299, 0.587, 0.114])


def _texture(grey: NDArray) -> tuple[NDArray, NDArray]:
    """A picture less its surroundings, and the standard deviation of that nearby, in grey levels."""
    rest = grey - ndimage.gaussian_filter(grey, 2)
    return rest, np.sqrt(ndimage.gaussian_filter(rest**2, 4))


def _white(grey: NDArray) -> NDArray:
    rest, spread = _texture(grey)
    return (rest / (spread + 1)).clip(-3, 3)


def picture_sums(grey: NDArray) -> NDArray:
    """What `detect` sees of (H, W): (4, 64, 64), periods and chips of 2 x 2 pixels added up, 4 places of the grid."""
    white = _white(grey)
    white = np.pad(white, [(0, -side % PERIOD) for side in white.shape])
    period = white.reshape(white.shape[0] // PERIOD, PERIOD, -1, PERIOD).sum(axis=(0, 2))
    moved = (np.roll(period, (-y, -x), axis=(0, 1)) for y in (0, 1) for x in (0, 1))
    return np.stack([each.reshape(SIDE, 2, SIDE, 2).sum(axis=(1, 3)) for each in moved])


def _periods(grey: NDArray) -> list[float]:
    """Lengths in pixels at which a picture is most like itself moved down, right, or both: the best first."""
    white, (height, width) = _white(grey), grey.shape
    shape = [fft.next_fast_len(2 * side, real=True) for side in grey.shape]
    likeness = fft.irfft2(np.abs(fft.rfft2(white, s=shape)) ** 2, s=shape)  # by how far it was moved
    lags = np.arange(PERIOD * 3 // 8, max(PERIOD * 3 // 8 + 1, min(height - 16, width - 16, 3 * PERIOD)))
    ways = ((1, 0), (0, 1), (1, 1))
    deviation = {(y, x): np.sqrt((height - y * lags) * (width - x * lags)) for y, x in ways}  # of unlike ones
    total = sum(likeness[y * lags, x * lags] / deviation[y, x] for y, x in ways)
    return [_refined(likeness, lag, min(height, width)) for lag in lags[np.argsort(-total)[:N_PERIODS]]]


def _refined(likeness: NDArray, lag: int, shortest: int) -> float:
    """A period to a fraction of a pixel, from the farthest move by several of them."""
    times = max(1, (shortest - PERIOD // 4) // (lag + 1))
    fine = np.linspace(lag - 0.6, lag + 0.6, 12 * times + 1)
    lines = (likeness[:, 0], likeness[0])  # moved down, and right
    total = sum(ndimage.map_coordinates(line, [times * fine], order=3, mode="grid-wrap") for line in lines)
    return float(fine[total.argmax()])


# Sound ---------------------------------------------------------------------------------------------------------------


def mark_sound(audio: NDArray, sample_rate: int, payload: int, *, key: bytes | None = None) -> NDArray:
    """A copy of a sound in which 64 bands from 312 to 6,312 Hz are 1.3 dB louder or softer, in steps of 16 ms.

    Args:
        audio: (T,) in [-1, 1].
        sample_rate: 16,000 to 48,000 Hz.
        payload, key: as of `mark_picture`.

    Returns:
        (T,) float64. The loudest sample may be a little louder: it is scaled down as a whole if it would leave [-1, 1].

    Raises:
        ValueError: another shape, range, rate, payload or key; or the mark cannot be read from the marked sound, which
            is silent, too short (about five seconds are needed) or too tonal to carry one.
    """
    key = own_key() if key is None else key
    x = _at_rate(audio, sample_rate)
    if len(x) < SIDE * HOP:
        raise ValueError(
            f"a sound of less than a second cannot carry a mark; it needs about five, got {len(x) / RATE:.2f}"
        )
    transform = _transform()
    spectrum = transform.stft(x)  # (257, frames)
    columns = (transform.t(len(x)) * RATE).round().astype(int) // HOP % SIDE
    gains = np.repeat(chips(key, payload)[:, columns], BINS, axis=0) * (GAIN / 20)
    band = slice(FIRST_BIN, FIRST_BIN + SIDE * BINS)
    change = np.zeros_like(spectrum)
    change[band] = spectrum[band] * (10**gains - 1)
    change = transform.istft(change, k1=len(x))
    marked = audio + _resampled(change, RATE, sample_rate)[: len(audio)]
    marked /= max(1.0, np.abs(marked).max())
    if find_in_sound(marked, sample_rate, key=key).payload != payload:
        raise ValueError(
            f"this sound of {len(audio) / sample_rate:.1f} s cannot carry a mark: it is silent, too short or too tonal"
        )
    return marked


def find_in_sound(audio: NDArray, sample_rate: int, *, key: bytes | None = None) -> Mark:
    """Look for a mark in a sound, which may have been cut, coded, resampled or made louder, but not played faster.

    Arguments and ValueError as of `mark_sound`. A silent or very short sound has none.
    """
    x = _at_rate(audio, sample_rate)
    if len(x) < WINDOW or not np.abs(x).max() > 0:
        return Mark()
    return detect(sound_sums(x), own_key() if key is None else key, in_time=True)


def _transform() -> signal.ShortTimeFFT:
    return signal.ShortTimeFFT(signal.windows.hann(WINDOW, sym=False), HOP // 4, fs=RATE)


def _at_rate(audio: NDArray, sample_rate: int) -> NDArray:
    if audio.ndim != 1 or not 16_000 <= sample_rate <= 48_000:
        raise ValueError(f"expected audio (T,) at 16,000 to 48,000 Hz, got {audio.shape} at {sample_rate}")
    if not np.isfinite(audio).all() or np.abs(audio).max(initial=0) > 1:
        raise ValueError("expected audio that is finite and in [-1, 1]; scale it")
    return _resampled(audio.astype(np.float64), sample_rate, RATE)


def _resampled(audio: NDArray, rate: int, new_rate: int) -> NDArray:
    common = math.gcd(rate, new_rate)
    return audio if rate == new_rate else signal.resample_poly(audio, new_rate // common, rate // common)


def sound_sums(x: NDArray) -> NDArray:
    """What `detect` hears in (T,) at 16 kHz: (4, 64, 64), bands by time against before and after, periods added up."""
    power = np.abs(_transform().stft(np.pad(x, WINDOW))) ** 2
    bands = power[FIRST_BIN : FIRST_BIN + SIDE * BINS].reshape(SIDE, BINS, -1)
    loudness = np.log(bands + 1e-3 * power.mean()).mean(axis=1)  # (64, frames); what is 30 dB down is left alone
    # What bands nearby and moments before and after foretell, by least squares, tells nothing of the chips.
    around = np.pad(loudness - loudness.mean(), ((2, 2), (8, 8)), mode="edge")
    places = ((band, time) for band in range(5) for time in range(0, 17, 4) if (band, time) != (2, 8))
    near = np.stack([around[b : b + SIDE, t : t + loudness.shape[1]].ravel() for b, t in places], axis=1)
    level = around[2:-2, 8:-8]
    weights = np.linalg.lstsq(near[::3], level.ravel()[::3], rcond=None)[0]
    rest = level - (near @ weights).reshape(level.shape)
    spread = np.sqrt(ndimage.gaussian_filter(rest**2, (2, 8)))
    white = (rest / (spread + 0.05)).clip(-2, 2)
    moved = (white[:, i:] for i in range(4))
    padded = (np.pad(each, ((0, 0), (0, -each.shape[1] % (4 * SIDE)))) for each in moved)
    return np.stack([each.reshape(SIDE, -1, SIDE, 4).sum(axis=(1, 3)) for each in padded])
