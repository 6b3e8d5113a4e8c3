"""Chapter 6: right answers pass, and the mistakes that learners make do not."""

from aigc_lib.teaching.exercises import all_exercises


def is_right(exercise_id, answer):
    return bool(all_exercises()[exercise_id].is_right(answer))


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
