"""Captions as data: the optimum of line breaking against all splits, files that say what was meant, pictures."""

from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lib.applications.subtitles import (
    CHINESE,
    ENGLISH,
    Caption,
    CaptionRules,
    break_lines,
    burn_in,
    captioning_cost,
    read_subtitles,
    write_subtitles,
)
from aigc_lib.datasets.timed_speech import Span

VOCABULARY = ["a", "the", "cat,", "Ada", "Lovelace", "photograph", "sat.", "incomprehensibilities", "of", "x" * 50]


def timed(texts, lengths, pauses):
    """Words one after another."""
    now, words = 0.0, []
    for text, length, pause in zip(texts, lengths, pauses, strict=True):
        words.append(Span(text=text, start=now, end=now + length))
        now += length + pause
    return words


def evenly(text, seconds=0.3):
    texts = text.split()
    return timed(texts, [seconds] * len(texts), [0.0] * len(texts))


def texts_of(captions):
    return [caption.lines for caption in captions]


@st.composite
def spoken(draw, most=40):
    n = draw(st.integers(1, most))
    several = {"min_size": n, "max_size": n}
    return timed(
        draw(st.lists(st.sampled_from(VOCABULARY), **several)),
        draw(st.lists(st.floats(0.02, 3), **several)),
        draw(st.lists(st.floats(0, 3), **several)),
    )


@given(spoken(), st.sampled_from([ENGLISH, CaptionRules(width=16, speed=9.0)]))
@settings(max_examples=60, deadline=None)
def test_all_words_stay_in_order_and_within_the_limits(words, rules):
    captions = break_lines(words, rules=rules)
    said = [text for caption in captions for line in caption.lines for text in line.split()]
    assert said == [word.text for word in words]
    first = 0
    for caption in captions:
        own = words[first : first + len(" ".join(caption.lines).split())]
        first += len(own)
        assert len(caption.lines) <= 2
        assert all(len(line) <= rules.width or " " not in line for line in caption.lines)
        assert caption.start == own[0].start
        assert caption.end - caption.start <= rules.longest + 1e-9
        following = words[first].start if first < len(words) else float("inf")
        room = following - rules.gap - caption.start  # without it, half of what there is until the next
        assert caption.end <= following - rules.gap + 1e-9 if room > 0 else caption.end < following
        need = max(rules.shortest, len("".join(caption.lines)) / rules.speed)
        assert caption.end - caption.start >= min(need, room, rules.longest) - 1e-9 or room <= 0


@given(spoken(most=7))
@settings(max_examples=60, deadline=None)
def test_no_split_of_the_words_costs_less(words):
    n = len(words)
    splits = [cuts for k in range(n) for cuts in combinations(range(1, n), k)]
    counts = [[b - a for a, b in pairwise((0, *cuts, n))] for cuts in splits]
    least = min(captioning_cost(words, each) for each in counts)
    chosen = [len(" ".join(caption.lines).split()) for caption in break_lines(words)]
    assert captioning_cost(words, chosen) == pytest.approx(least)


def test_captions_end_where_sentences_do():
    words = evenly("This is the first thing I wanted to tell you. And this is the second thing, which is longer.")
    assert texts_of(break_lines(words)) == [
        ("This is the first thing", "I wanted to tell you."),
        ("And this is the second thing,", "which is longer."),
    ]


def test_a_pause_parts_words_that_have_no_punctuation():
    words = evenly("we were late") + [
        Span(text=w.text, start=w.start + 2.5, end=w.end + 2.5) for w in evenly("so we ran home")
    ]
    assert texts_of(break_lines(words)) == [("we were late",), ("so we ran home",)]


def test_a_name_stays_together():
    (caption,) = break_lines(evenly("the first programmer was called Ada Lovelace in every book"))
    assert caption.lines == ("the first programmer was called", "Ada Lovelace in every book")


def test_a_short_word_stays_five_sixths_of_a_second_and_leaves_two_frames():
    (alone,) = break_lines([Span(text="Yes.", start=1.0, end=1.2)])
    assert alone.end == pytest.approx(1 + 5 / 6)
    first, _ = break_lines(timed(["Yes.", "No."], [0.2, 7.0], [0.3, 0.0]))
    assert first.end == pytest.approx(0.5 - 2 / 24)


def test_chinese_goes_without_blanks():
    text = ["今", "天", "的", "天", "气", "很", "好，", "我", "们", "一", "起", "去", "公", "园", "散", "步", "吧。"]
    (caption,) = break_lines(timed(text, [0.3] * 17, [0.0] * 17), rules=CHINESE)
    assert caption.lines == ("今天的天气很好，", "我们一起去公园散步吧。")


def test_nothing_said_needs_no_caption():
    assert break_lines([]) == []


@pytest.mark.parametrize(
    "words",
    [
        [Span(text=" ", start=0.0, end=1.0)],
        [Span(text="two\nlines", start=0.0, end=1.0)],
        [Span(text="back", start=1.0, end=0.5)],
        [Span(text="before", start=-1.0, end=0.5)],
        [Span(text="a", start=1.0, end=2.0), Span(text="b", start=1.0, end=2.0)],
        [Span(text="when", start=0.0, end=float("nan"))],
    ],
)
def test_words_without_text_or_order_are_refused(words):
    with pytest.raises(ValueError, match="word"):
        break_lines(words)


@pytest.mark.parametrize(("lines", "start", "end"), [((), 0, 1), (("",), 0, 1), (("a\nb",), 0, 1), (("a",), 1, 1)])
def test_a_caption_has_text_and_a_time(lines, start, end):
    with pytest.raises(ValueError, match="caption"):
        Caption(lines=lines, start=start, end=end)


AWKWARD = ["你好，世界", "a --> b", "<i>x</i> & 3 < 4", "{\\an8} {x}", "back\\Nslash", "1", "&amp;", "NOTE x", "♪ café"]
AWKWARD += ["00:00:01,000 --> 00:00:02,000", "WEBVTT", "<"]


@pytest.mark.parametrize("suffix", [".srt", ".vtt"])
@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(AWKWARD) | st.text(min_size=1), min_size=1, max_size=3),
            st.integers(0, 400 * 3_600_000),
            st.integers(1, 10_000),
        ),
        min_size=1,
    )
)
@settings(max_examples=40, deadline=None)
def test_a_file_says_what_was_written(tmp_path_factory, suffix, cues):
    texts = [[" ".join(line.encode("utf-8", "replace").decode().split()) or "?" for line in cue[0]] for cue in cues]
    captions = [
        Caption(lines=tuple(lines), start=at / 1000, end=(at + length) / 1000)
        for lines, (_, at, length) in zip(texts, cues, strict=True)
    ]
    path = tmp_path_factory.mktemp("captions") / f"film{suffix}"
    write_subtitles(captions, path)
    again = read_subtitles(path)
    assert texts_of(again) == texts_of(captions)
    for one, other in zip(again, captions, strict=True):
        assert (one.start, one.end) == pytest.approx((other.start, other.end), abs=1e-6)


def test_the_two_formats_letter_by_letter(tmp_path):
    captions = [
        Caption(lines=("Fish & chips", "<now>"), start=1.5, end=2.25),
        Caption(lines=("好",), start=359_999.9996, end=360_001),
    ]
    write_subtitles(captions, tmp_path / "a.srt")
    write_subtitles(captions, tmp_path / "a.vtt")
    assert (tmp_path / "a.srt").read_text(encoding="utf-8") == (
        "1\n00:00:01,500 --> 00:00:02,250\nFish & chips\n<now>\n\n2\n100:00:00,000 --> 100:00:01,000\n好\n"
    )
    assert (tmp_path / "a.vtt").read_text(encoding="utf-8") == (
        "WEBVTT\n\n1\n00:00:01.500 --> 00:00:02.250\nFish &amp; chips\n&lt;now&gt;\n\n"
        "2\n100:00:00.000 --> 100:00:01.000\n好\n"
    )


def test_web_captions_of_others_are_read(tmp_path):
    text = "\ufeffWEBVTT - a film\r\n\r\nNOTE by hand\r\n\r\n00:01.000 --> 00:02.000 align:start\r\n"
    text += "<v Ann>Hello</v> &amp; welcome\r\n"
    (tmp_path / "a.vtt").write_bytes(text.encode())
    assert read_subtitles(tmp_path / "a.vtt") == [Caption(lines=("Hello & welcome",), start=1.0, end=2.0)]


@pytest.mark.parametrize(
    ("name", "text"), [("a.txt", ""), ("a.vtt", "1\n"), ("a.srt", "1\nnever\nx\n"), ("a.srt", "1\n")]
)
def test_what_is_no_subtitle_file_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=r"expected|begin|ends in"):
        read_subtitles(tmp_path / name)


def test_a_file_that_is_not_there_and_one_without_captions(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.srt"):
        read_subtitles(tmp_path / "none.srt")
    with pytest.raises(ValueError, match="no captions"):
        write_subtitles([], tmp_path / "a.srt")
    with pytest.raises(ValueError, match=r"\.srt or \.vtt"):
        write_subtitles([Caption(lines=("x",), start=0, end=1)], tmp_path / "a.ass")
    assert not list(tmp_path.iterdir())


def test_captions_stand_in_their_frames_and_nowhere_else():
    frames = torch.full((10, 3, 90, 160), 0.5)
    made = burn_in(frames, [Caption(lines=("Hello",), start=0.2, end=0.5)], 10)
    changed = (made != frames).flatten(1).any(dim=1)
    assert changed.tolist() == [False] * 2 + [True] * 3 + [False] * 5
    later = burn_in(frames[4:], [Caption(lines=("Hello",), start=0.2, end=0.5)], 10, first_frame=4)
    assert torch.equal(later, made[4:])


@pytest.mark.parametrize("size", [(90, 160), (99, 133), (720, 1280), (9, 5), (160, 90)])
@pytest.mark.parametrize("lines", [("Hello",), ("w" * 42, "你好，世界")])
def test_text_stays_inside_the_margins_and_the_range(size, lines):
    frames = torch.ones(1, 3, *size)
    made = burn_in(frames, [Caption(lines=lines, start=0, end=1)], 1)
    assert made.abs().max() <= 1
    rows, columns = (made != frames).any(dim=1)[0].nonzero().unbind(dim=1)
    height, width = size
    assert rows.min() >= 0.04 * height - 1
    assert rows.max() <= 0.95 * height
    assert columns.min() >= 0.05 * width - 1
    assert columns.max() <= 0.95 * width + 1


def test_white_on_the_box_can_be_read_on_a_white_picture():
    made = burn_in(torch.ones(1, 3, 180, 320), [Caption(lines=("Hello",), start=0, end=1)], 1)
    light = ((made[0, 0] + 1) / 2).clamp(0, 1)
    inside = light[light < 0.999]
    linear = torch.where(inside <= 0.04045, inside / 12.92, ((inside + 0.055) / 1.055) ** 2.4)
    assert 1.05 / (linear.min() + 0.05) > 7  # WCAG 2.2, 1.4.6: contrast of text, enhanced
    assert light.max() > 0.99


def test_chinese_is_drawn_and_not_a_box_of_the_missing():
    frames = torch.zeros(1, 3, 180, 320)
    one, other = (burn_in(frames, [Caption(lines=(text,), start=0, end=1)], 1) for text in "字幕")
    assert not torch.equal(one, other)


def test_grey_frames_are_refused():
    with pytest.raises(ValueError, match="frames"):
        burn_in(torch.zeros(1, 1, 8, 8), [], 25)
