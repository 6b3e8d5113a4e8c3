"""Chapter 6: right answers pass, and the mistakes that learners make do not."""

import math

import numpy as np

from aigc_lib.teaching.exercises import all_exercises


def is_right(exercise_id, answer):
    return bool(all_exercises()[exercise_id].is_right(answer))


def rms(samples):
    return math.sqrt(sum(x * x for x in samples) / len(samples))


def test_ducking_compares_root_mean_squares_in_decibels_of_amplitude():
    assert is_right("6.0-duck", lambda voice, music, below: rms(voice) / rms(music) * 10 ** (-below / 20))
    assert not is_right("6.0-duck", lambda voice, music, below: rms(voice) / rms(music) * 10 ** (-below / 10))
    assert not is_right("6.0-duck", lambda voice, music, below: rms(music) / rms(voice) * 10 ** (-below / 20))
    peak = lambda voice, music, below: max(map(abs, voice)) / max(map(abs, music)) * 10 ** (-below / 20)  # noqa: E731
    assert not is_right("6.0-duck", peak)


def test_only_fifths_that_move_the_same_way_are_parallel():
    assert is_right("6.1-parallels", 2)
    assert not is_right("6.1-parallels", 1)  # soprano and alto alone
    assert not is_right("6.1-parallels", 6)


def longest_run(new, old):
    return max(
        (
            n
            for i in range(len(new))
            for j in range(len(old))
            for n in range(len(new) - i + 1)
            if new[i : i + n] == old[j : j + n]
        ),
        default=0,
    )


def test_a_run_is_contiguous_in_both_lists():
    assert is_right("6.1-longest-run", longest_run)
    assert not is_right("6.1-longest-run", lambda new, old: len(set(new) & set(old)))
    assert not is_right("6.1-longest-run", lambda new, old: sum(a == b for a, b in zip(new, old, strict=False)))


def equal_power(t, rho):
    return math.cos(t * math.pi / 2), math.sin(t * math.pi / 2)


def corrected(t, rho):
    a, b = equal_power(t, rho)
    return a / (power := math.sqrt(1 + 2 * rho * a * b)), b / power


def test_a_fade_that_knows_the_correlation_keeps_the_power():
    assert is_right("6.2-fades", corrected)
    assert not is_right("6.2-fades", equal_power)  # right for independent windows only
    assert not is_right("6.2-fades", lambda t, rho: (1 - t, t))  # right for rho = 1 only
    assert not is_right("6.2-fades", lambda t, rho: (1.0, 0.0))  # keeps the power, and never fades
    assert not is_right("6.2-fades", lambda t, rho: corrected(1 - t, rho))


def test_eight_bins_of_one_ratio_stretch_by_at_most_a_tenth():
    ratios = {n: 4 ** (1 / n) for n in range(1, 12)}
    assert min(n for n, ratio in ratios.items() if math.sqrt(ratio) <= 1.1) == 8
    assert is_right("6.2-bins", 8)
    assert not is_right("6.2-bins", 15)  # the whole bin held against 1.1
    assert not is_right("6.2-bins", 4)


def test_contrast_is_least_where_the_shares_weigh_the_variances():
    shares = [i / 1000 for i in range(1001)]
    assert min(shares, key=lambda a: 4 * (1 - a) ** 2 + a**2) == 0.8
    assert is_right("6.3-dullest", 0.8)
    assert not is_right("6.3-dullest", 0.2)  # the share of the first
    assert not is_right("6.3-dullest", 0.5)


def timecode(frame, base, drop=0):
    minutes = frame // (60 * base)
    seconds, frames = divmod(frame + drop * (minutes - minutes // 10), base)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{frames:02d}"


def test_a_time_code_counts_frames_and_drops_none():
    assert is_right("6.3-timecode", timecode)
    assert not is_right("6.3-timecode", lambda frame, base: timecode(frame, base, drop=2))
    assert not is_right("6.3-timecode", lambda frame, base: timecode(frame + 1, base))  # counted from 1
    assert not is_right("6.3-timecode", lambda frame, base: timecode(frame, base).replace("0", ""))


def blended(sounds, time, distance):
    weights = [alpha * math.exp(-25 * distance(start, end, time)) for start, end, _, alpha in sounds]
    return sum(w * target for w, (_, _, target, _) in zip(weights, sounds, strict=True)) / sum(weights)


def test_a_blend_counts_distance_from_the_edges():
    def from_edges(start, end, time):
        return max(start - time, time - end, 0)

    def from_middle(start, end, time):
        return abs(time - (start + end) / 2)

    assert is_right("6.4-blend", lambda sounds, time: blended(sounds, time, from_edges))
    assert not is_right("6.4-blend", lambda sounds, time: blended(sounds, time, from_middle))
    assert not is_right("6.4-blend", lambda sounds, time: blended([(*s[:3], 1.0) for s in sounds], time, from_edges))


def test_early_sound_is_worse_than_late_sound():
    def by(early, late):
        def verdict(ms):
            within = [-late[i] <= ms <= early[i] for i in (0, 1)]
            return "unnoticed" if within[0] else "noticed" if within[1] else "rejected"

        return verdict

    assert is_right("6.4-verdict", by((45, 90), (125, 185)))
    assert not is_right("6.4-verdict", by((125, 185), (45, 90)))  # the sign turned round
    assert not is_right("6.4-verdict", by((45, 90), (45, 90)))  # symmetric


def test_the_mean_of_eight_has_an_eighth_of_the_squared_error():
    assert is_right("6.6-average", 10 * math.log10(8))
    assert not is_right("6.6-average", 20 * math.log10(8))  # an eighth of the error itself
    assert not is_right("6.6-average", 8)


def block_means(made, seen):
    return made.reshape(seen.shape[0], 2, seen.shape[1], 2).mean(axis=(1, 3))


def test_the_nearest_consistent_array_moves_all_four_of_a_block_alike():
    def spread(made, seen):
        return made + np.kron(seen - block_means(made, seen), np.ones((2, 2)))

    def first_of_four(made, seen):
        made[::2, ::2] += 4 * (seen - block_means(made, seen))  # consistent too, but not the nearest
        return made

    assert is_right("6.6-consistent", spread)
    assert not is_right("6.6-consistent", first_of_four)
    assert not is_right("6.6-consistent", lambda made, seen: np.kron(seen, np.ones((2, 2))))  # forgets what was made
    assert not is_right("6.6-consistent", lambda made, seen: made)


def test_the_word_error_rate_counts_insertions_and_divides_by_what_was_said():
    assert is_right("6.7-word-errors", 5 / 6)
    assert not is_right("6.7-word-errors", 5 / 8)  # divided by what was heard
    assert not is_right("6.7-word-errors", 3 / 6)  # substitutions alone


def test_a_caption_stays_as_long_as_it_takes_to_read_within_bounds():
    assert is_right("6.7-needed", lambda lines: min(7, max(5 / 6, sum(map(len, lines)) / 17)))
    assert not is_right("6.7-needed", lambda lines: max(5 / 6, sum(map(len, lines)) / 17))  # may stay for ever
    assert not is_right("6.7-needed", lambda lines: min(7, sum(map(len, lines)) / 17))  # a word flashes by
    assert not is_right("6.7-needed", lambda lines: min(7, max(5 / 6, len(lines) / 17)))  # counts lines


def pixel(d, height, azimuth=lambda x, z: math.atan2(x, z), half=0.5):
    x, y, z = d
    column = (azimuth(x, z) + math.pi) / math.pi * height - half
    return column, (math.pi / 2 - math.atan2(y, math.hypot(x, z))) / math.pi * height - half


def test_a_direction_lies_in_one_pixel_of_the_panorama():
    assert is_right("6.5-pixel", pixel)
    assert not is_right("6.5-pixel", lambda d, height: pixel(d, height, lambda x, z: math.atan2(z, x)))
    assert not is_right("6.5-pixel", lambda d, height: pixel(d, height, half=0))  # a corner, not a middle
    assert not is_right("6.5-pixel", lambda d, height: pixel(d, height, lambda x, z: math.asin(x / math.hypot(x, z))))


def test_one_time_between_the_ears_belongs_to_two_azimuths():
    low = 34.73
    assert math.isclose(math.radians(low) + math.sin(math.radians(low)), 300e-6 * 343 / 0.0875, abs_tol=1e-3)
    assert is_right("6.5-azimuths", (low, 180 - low))
    assert not is_right("6.5-azimuths", (low, -low))  # there it is the other ear
    assert not is_right("6.5-azimuths", (36.0, 144.0))  # sin θ for half the sum
    assert not is_right("6.5-azimuths", (180 - low, low))
