"""Printed links are judged by what they say: form of the address, month of the number, whose it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigc_lib.teaching import course_map
from aigc_lib.teaching.links import VERDICTS, is_address, judge

MAP = course_map.load()
PRINTED = {item.id: item for item in MAP.items if item.id.startswith("R10.")}
LINKS = {name: judge(item.printed, MAP.references) for name, item in PRINTED.items()}


def test_the_documents_ten_links_get_the_verdicts_of_the_course_map():
    assert len(LINKS) == 10
    for name, link in LINKS.items():
        assert link.verdict in VERDICTS
        assert (link.verdict == "right") == (PRINTED[name].verdict == "correct"), name


def test_two_numbers_belong_to_other_papers():
    assert LINKS["R10.4"].verdict == LINKS["R10.9"].verdict == "another paper's number"
    assert LINKS["R10.4"].belongs_to == "Safe Triplet Screening for Distance Metric Learning"
    assert LINKS["R10.9"].belongs_to == "Unsupervised Pretraining for Sequence to Sequence Learning"


def test_the_printed_number_of_stylegan_is_ten_months_older_than_the_paper():
    (year, month), truth = LINKS["R10.5"].month, judge("[x](https://arxiv.org/abs/1812.04948)", MAP.references)
    assert truth.belongs_to == "A Style-Based Generator Architecture for Generative Adversarial Networks"
    assert 12 * (truth.month[0] - year) + truth.month[1] - month == 10
    assert LINKS["R10.5"].verdict == "unknown number"


def test_the_address_with_a_blank_is_none_and_the_corrected_one_is():
    assert LINKS["R10.7"].verdict == "no address"
    assert is_address(MAP.references["sutton2018"].url)


@pytest.mark.parametrize("name", ["R10.8", "R10.10"])
def test_what_cannot_be_told_offline_is_said_to_be_unverified(name):
    assert LINKS[name].verdict == "not to be told offline"
    assert PRINTED[name].unverified
    assert LINKS[name].title not in {reference.title for reference in MAP.references.values()}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "www.x.org",
        "ftp://x.org",
        "http://",
        "https://x",
        "https://x y.org",
        "https://x.org/a b",
        "http://[::1",
        "中.org",
    ],
)
def test_these_are_no_addresses(text):
    assert not is_address(text)


@given(
    st.lists(st.from_regex(r"[a-z0-9-]{1,8}", fullmatch=True), min_size=1, max_size=3),
    st.sampled_from(["http", "https"]),
)
def test_every_host_of_plain_names_makes_an_address(names, scheme):
    assert is_address(f"{scheme}://{'.'.join([*names, 'org'])}/page?x=1#y")


def test_a_version_does_not_change_whose_number_it_is():
    assert judge("[Generative Adversarial Nets](https://arxiv.org/abs/1406.2661v1)", MAP.references).verdict == "right"


@pytest.mark.parametrize("printed", ["", "Generative Adversarial Nets", "[](https://x.org)", "[title] (https://x.org)"])
def test_what_is_no_link_is_refused(printed):
    with pytest.raises(ValueError, match="expected a link"):
        judge(printed, MAP.references)
