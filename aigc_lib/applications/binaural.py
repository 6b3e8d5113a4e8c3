"""Sound with a direction, for headphones: what the two ears of a rigid sphere hear (双耳渲染).

The head is that of C. P. Brown and R. O. Duda, "A structural model for binaural sound synthesis", IEEE Transactions on
Speech and Audio Processing 6(5), 1998, sections IV-A and IV-B, with ears at the ends of a diameter. ϑ is the angle
between source and ear, seen from the middle of the head:

    delay, against the head's middle (R. S. Woodworth 1938)   τ(ϑ) = −a cos ϑ / c   up to 90°, then  a (ϑ − 90°) / c
    head shadow                       H(f, ϑ) = (1 + j α(ϑ) f/f₀) / (1 + j f/f₀),   f₀ = c / (π a) = 1,248 hertz
    its strength                      α(ϑ) = 1.05 + 0.95 cos(1.2 ϑ): twice the pressure before the ear, 0.1 at 150°

There is no outer ear, no shoulder, no room. All directions at one angle from the axis through the ears sound the same:
front and back, above and below cannot be told apart.
"""

import math

import torch
from torch import Tensor

HEAD = 0.0875  # metres, a
SPEED = 343.0  # metres a second, c
CORNER = SPEED / (math.pi * HEAD)  # hertz, f₀


def angles(directions: Tensor) -> Tensor:
    """(3, …) unit vectors (x right, y up, z ahead) → (2, …): the angles to the left ear and to the right, 0 to π."""
    right = directions[0].double().clamp(-1, 1).acos()
    return torch.stack([math.pi - right, right])


def delay(angle: Tensor) -> Tensor:
    """Seconds by which an ear hears later than the middle of the head would; before it if negative."""
    return HEAD / SPEED * torch.where(angle < math.pi / 2, -angle.cos(), angle - math.pi / 2)


def shadow(angle: Tensor) -> Tensor:
    """α: the factor by which the head changes the highest frequencies; the lowest stay as they are."""
    return 1.05 + 0.95 * torch.cos(1.2 * angle)


def response(angle: Tensor, frequencies: Tensor) -> Tensor:
    """(…) and (K,) hertz → (…, K) complex128: delay and shadow. In time it begins a/c after the sound, at the least."""
    ratio = 1j * frequencies.double() / CORNER
    head = (1 + shadow(angle)[..., None] * ratio) / (1 + ratio)
    late = delay(angle)[..., None] + HEAD / SPEED  # never negative
    return head * torch.exp(-2j * math.pi * frequencies.double() * late)


def binaural(audio: Tensor, directions: Tensor, sample_rate: int) -> Tensor:
    """What left and right ear hear of a sound that comes from somewhere, or moves.

    Args:
        audio: (T,) float.
        directions: (3,) unit vector, x right, y up, z ahead; or (3, N ≥ 2): where it is at N moments, evenly spread
            from the first sample to the last. In between, both are mixed, so let there be 30 a second or more.
        sample_rate: hertz.

    Returns:
        (2, T + tail) float32, the tail 2 ms. Levels are true: with a source ahead, either ear hears it about as loud as
        it is, so scale before writing a file.

    Raises:
        ValueError: shapes do not fit, or a direction is not of length one.
    """
    moving = directions[:, None] if directions.ndim == 1 else directions
    if audio.ndim != 1 or not len(audio) or moving.ndim != 2 or len(moving) != 3:
        raise ValueError(
            f"expected sound (T ≥ 1,) and directions (3,) or (3, N), got {tuple(audio.shape)} "
            f"and {tuple(directions.shape)}"
        )
    if not torch.allclose(moving.double().norm(dim=0), torch.ones(1, dtype=torch.float64), atol=1e-4):
        raise ValueError("expected directions of length one; divide each by its norm")
    length = len(audio) + math.ceil(0.002 * sample_rate)
    size = 2 ** math.ceil(math.log2(length + 0.002 * sample_rate))
    frequencies = torch.fft.rfftfreq(size, 1 / sample_rate, dtype=torch.float64)
    n = moving.shape[1]
    place = torch.linspace(0, n - 1, len(audio), dtype=torch.float64)
    ears = torch.zeros(2, len(frequencies), dtype=torch.complex128)
    for i in range(n):
        weight = (1 - (place - i).abs()).clamp(min=0) if n > 1 else 1.0  # of neighbours they add up to one
        ears += torch.fft.rfft(audio.double() * weight, size) * response(angles(moving[:, i]), frequencies)
    return torch.fft.irfft(ears, size)[:, :length].float()
