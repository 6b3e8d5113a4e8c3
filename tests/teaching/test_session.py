import matplotlib.pyplot as plt
import pytest
import torch

from aigc_lib.teaching.session import begin


def start(**changes):
    return begin(**({"chapter": "4", "profile": "laptop", "seed": 0, "device": "cpu"} | changes))


def test_the_text_is_the_same_on_every_device():
    assert repr(start()) == "Session(chapter='4', profile='laptop', seed=0)"


def test_the_budget_follows_the_profile():
    values = {"smoke": 1, "laptop": 20, "gpu": 300}
    assert {profile: start(profile=profile).budget(**values) for profile in values} == values


def test_equal_seed_and_stream_give_equal_numbers_and_others_do_not():
    def draw(seed, stream):
        return torch.rand(8, generator=start(seed=seed).generator(stream)).tolist()

    assert draw(3, 1) == draw(3, 1)
    assert len({tuple(draw(seed, stream)) for seed in range(4) for stream in range(4)}) == 16


def test_generators_of_one_stream_are_fresh():
    session = start()
    assert session.generator().initial_seed() == session.generator().initial_seed()
    assert session.generator() is not session.generator()


def test_layers_start_alike():
    first, second = ((start(seed=7), torch.nn.Linear(3, 3).weight)[1] for _ in range(2))
    assert torch.equal(first, second)


def test_beginning_sets_the_style_of_figures():
    plt.rcParams["axes.spines.top"] = True
    start()
    assert not plt.rcParams["axes.spines.top"]


def test_auto_takes_the_first_device_that_is_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert start(device="auto").device.type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert start(device="auto").device.type == "cuda"


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match='"cuda" is not on this machine'):
        start(device="cuda")


@pytest.mark.parametrize(
    ("changes", "choices"),
    [
        ({"chapter": "11"}, "'1', '2'"),
        ({"chapter": 4}, "'10'"),
        ({"profile": "fast"}, "'smoke', 'laptop', 'gpu'"),
        ({"device": "tpu"}, "'auto', 'cpu', 'cuda', 'mps'"),
        ({"seed": -1}, "at least 0"),
        ({"seed": 1.0}, "integer"),
        ({"seed": True}, "integer"),
    ],
)
def test_wrong_parameters_name_the_choices(changes, choices):
    with pytest.raises(ValueError, match=choices):
        start(**changes)


def test_a_stream_is_a_count():
    with pytest.raises(ValueError, match="stream"):
        start().generator(-1)
