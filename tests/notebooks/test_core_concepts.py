"""What chapter 2 shows: its diagrams, read as graphs, and its table of systems, held against the library."""

import inspect
import re
from functools import cache
from importlib import import_module
from importlib.util import find_spec

import networkx as nx
import pytest

from aigc_lib.teaching.diagrams import graph
from tests.notebooks.rules import ROOT, Chapter

# The edges of the document's six diagrams, lines 664 to 741.
PRINTED = {
    "gan": "AB BC CD DE EF FB",
    "vae": "AB BC CD DE",
    "audio": "AB BC",
    "video": "AB BC CD DE",
    "creation": "AB BC AD DE EF",
    "dissemination": "AB BC CD DE",
}

SYSTEMS = {
    "GAN": "gan.Generator",
    "VAE": "vae.VAE",
    "RNN": "rnn.RNNLanguageModel",
    "Transformer": "transformer.LanguageModel",
    "WaveNet": "wavenet.WaveNet",
    "WaveGlow": "waveglow.WaveGlow",
    "FlowNet": "flownet.FlowNet",
    "StyleGAN": "stylegan.StyleGenerator",
}
IN_THE_LIBRARY = [name for name, path in SYSTEMS.items() if find_spec(f"aigc_lib.models.{path.split('.')[0]}")]


@cache
def cells():
    return {cell.id: cell for cell in Chapter(ROOT / "notebooks" / "02_core_concepts.ipynb").cells}


def diagram(cell_id):
    """The diagram that a cell shows, as a graph."""
    shown = [out.data["text/markdown"] for out in cells()[cell_id].outputs if "text/markdown" in out.get("data", {})]
    (text,) = re.findall(r"```mermaid\n(.*?)```", "\n".join(shown), flags=re.DOTALL)
    return graph(text)


def printed(name):
    return diagram(f"core-{name}-diagram-printed")


def corrected(name):
    return diagram(f"core-{name}-diagram-corrected")


def without(drawn, *nodes):
    return drawn.subgraph(set(drawn) - set(nodes))


def sources(drawn):
    return [node for node, degree in drawn.in_degree() if degree == 0]


@pytest.mark.parametrize("name", PRINTED)
def test_a_printed_diagram_has_the_edges_of_the_document(name):
    assert {f"{a}{b}" for a, b in printed(name).edges} == set(PRINTED[name].split())


def test_real_and_generated_images_reach_the_discriminator_and_each_loss_updates_one_player():
    game = corrected("gan")
    assert nx.has_path(game, "real", "D")
    assert set(game.predecessors("D")) == {"real", "fake", "theta_D"}
    assert set(game.successors("L_D")) == {"theta_D"}
    assert set(game.successors("L_G")) == {"theta_G"}
    assert sources(printed("gan")) == ["A"]  # noise alone enters


def test_the_vae_draws_z_and_generates_from_the_prior_without_an_input():
    vae = corrected("vae")
    assert set(vae.predecessors("z")) == {"q", "eps"}
    assert set(vae.predecessors("elbo")) == {"likelihood", "kl"}
    assert nx.has_path(without(vae, "x", "encoder", "q"), "prior", "new")
    assert sources(printed("vae")) == ["A"]  # every path starts at an input


def test_wavenet_hears_what_it_has_drawn():
    loop = corrected("audio")
    assert nx.has_path(loop, "net", "sample")
    assert nx.has_path(loop, "sample", "net")
    assert nx.is_directed_acyclic_graph(printed("audio"))


def test_flownet_compares_two_frames_and_a_new_frame_needs_a_warp():
    motion = corrected("video")
    assert set(motion.predecessors("flownet")) == {"first", "second"}
    assert not nx.has_path(without(motion, "warp"), "w", "frame")
    assert printed("video").in_degree("B") == 1


def test_audio_and_video_are_siblings():
    creation = corrected("creation")
    assert set(creation.predecessors("audio")) == set(creation.predecessors("video")) == {"brief"}
    assert not nx.has_path(creation, "audio", "video")
    assert not nx.has_path(creation, "video", "audio")
    assert "A" in nx.ancestors(printed("creation"), "D")


def test_the_response_of_the_audience_returns_to_the_generator():
    assert nx.has_path(corrected("dissemination"), "publish", "generate")
    assert nx.is_directed_acyclic_graph(printed("dissemination"))


def table_of_systems():
    """System -> (likelihood, draws), from the table of section 2.1."""
    rows = re.findall(r"(?m)^\| ([^|]+) \| [^|]+ \| (\w+) \| (yes|no) \|", cells()["core-families"].source)
    return {name: (likelihood, draws == "yes") for names, likelihood, draws in rows for name in names.split(", ")}


def test_the_table_has_the_eight_systems_and_flownet_can_do_neither():
    table = table_of_systems()
    assert set(table) == set(SYSTEMS)
    assert [name for name, abilities in table.items() if abilities == ("none", False)] == ["FlowNet"]
    assert {name for name, (likelihood, _) in table.items() if likelihood == "bound"} == {"VAE"}


@pytest.mark.parametrize("name", IN_THE_LIBRARY)
def test_a_system_of_the_library_can_do_what_the_table_says(name):
    module, _, cls = SYSTEMS[name].partition(".")
    methods = {method for method, _ in inspect.getmembers(getattr(import_module(f"aigc_lib.models.{module}"), cls))}
    likelihood, draws = table_of_systems()[name]
    assert bool(methods & {"log_likelihood", "log_prob"}) <= (likelihood == "exact")
    assert ("elbo" in methods) == (likelihood == "bound")
    if not draws:
        assert not methods & {"sample", "generate"}


def test_aigc_is_defined_once():
    prose = "\n".join(cell.source for cell in cells().values() if cell.cell_type == "markdown")
    assert len(re.findall(r"\*\*AIGC is\b", prose)) == 1


def test_the_closing_table_compares_the_four_families():
    shown = "\n".join(out.data["text/plain"] for out in cells()["core-results"].outputs)
    likelihoods = dict(line.split(" | ")[:2] for line in shown.splitlines() if " | " in line)
    expected = {"VAE": "bound", "GAN": "none", "autoregressive": "exact", "flow": "exact"}
    assert {family: likelihoods[family] for family in expected} == expected


def check_lines(cell_id):
    """The lines that the checks of a cell printed."""
    return "".join(out.get("text", "") for out in cells()[cell_id].outputs).splitlines()


def test_a_promise_of_quality_or_speed_names_its_measure():
    rows = re.findall(r"(?m)^\| (?!claim|---)([^|]+) \| ([^|]+) \|$", cells()["core-creation"].source)
    assert {claim.split()[0] for claim, _ in rows} == {"quality", "efficiency"}
    assert all(re.search(r"distance|rate|score|SSIM|hours", measure) for _, measure in rows)


def test_generation_and_selection_are_told_apart():
    source = cells()["core-dissemination"].source
    assert "**generation**" in source
    assert "**selection**" in source
    asked = [line for line in check_lines("core-conditional-check") if "asked for" in line]
    assert [line[0] for line in asked] == ["✓"] * 3  # without a condition, with the right one, with another
    assert any("UCB1" in line for line in check_lines("core-bandit-check"))


def test_in_painting_is_inference_and_not_a_pass_through_the_autoencoder():
    right, wrong = check_lines("core-inpainting-check")
    assert right.startswith("✓")
    assert "conditional mean" in right
    assert wrong.startswith("✗ refuted")
    assert "zeros in the gap" in wrong


def test_an_opinion_is_called_one():
    assert re.search(r"K2b\.8\.3\) is opinion", cells()["core-links"].source)
