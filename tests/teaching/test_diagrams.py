import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigc_lib.teaching import diagrams
from aigc_lib.teaching.diagrams import graph, mermaid

PRINTED_GAN = """
graph TD
A[输入随机噪声] --> B[生成器G]
B --> C{判别器D判断}
C -->|真实/假| D{生成图像}
D --> E[计算损失函数]
E --> F[更新参数]
F --> B
"""

labels = st.text(
    st.characters(categories=["Lu", "Ll", "Lo", "Nd"], include_characters=" ,.=/'?*-<>"), min_size=1
).filter(str.strip)
brackets = st.sampled_from(["[]", "()", "{}", ("([", "])"), ("((", "))")])
arrows = st.sampled_from(["-->", "-.->", "==>"])


@st.composite
def flow_charts(draw):
    """A text, and the edges and labels it draws."""
    n_nodes = draw(st.integers(2, 6))
    names = {f"n{i}": draw(labels) for i in range(n_nodes)}
    pairs = st.tuples(st.sampled_from(sorted(names)), st.sampled_from(sorted(names)))
    edges = draw(st.dictionaries(pairs, st.one_of(st.just(""), labels), min_size=1, max_size=8))
    lines = ["graph " + draw(st.sampled_from(["TD", "LR"]))]
    for name, label in names.items():
        left, right = draw(brackets)
        quote = draw(st.sampled_from(["", '"']))
        lines.append(f"{name}{left}{quote}{label}{quote}{right}")
    for (source, target), label in edges.items():
        space = draw(st.sampled_from(["", "  "]))
        lines.append(f"{source}{space}{draw(arrows)}" + (f"|{label}|" if label else "") + f"{space}{target}")
    return "\n".join(lines), names, edges


@given(flow_charts())
def test_reading_gives_back_what_was_drawn(chart):
    text, names, edges = chart
    result = graph(text)
    assert dict(result.nodes(data="label")) == {name: label.strip() for name, label in names.items()}
    assert {(a, b): label for a, b, label in result.edges(data="label")} == {k: v.strip() for k, v in edges.items()}


def test_the_printed_diagram_of_the_gan_is_read_with_its_labels():
    result = graph(PRINTED_GAN)
    assert result.graph["direction"] == "TD"
    assert result.nodes["C"] == {"label": "判别器D判断", "shape": "rhombus"}
    assert result.edges["C", "D"] == {"label": "真实/假", "style": "solid"}
    assert [set(cycle) for cycle in nx.simple_cycles(result)] == [set("BCDEF")]


def test_chains_and_groups():
    chain = graph("graph LR\nA --> B --> C")
    group = graph("graph LR\nA & B --> C & D ==> E")
    assert set(chain.edges) == {("A", "B"), ("B", "C")}
    assert set(group.edges) == {("A", "C"), ("A", "D"), ("B", "C"), ("B", "D"), ("C", "E"), ("D", "E")}


@pytest.mark.parametrize(
    ("brackets", "shape"),
    [("", "box"), ("[x]", "box"), ("(x)", "round"), ("{x}", "rhombus"), ("([x])", "stadium"), ("((x))", "circle")],
)
def test_shapes(brackets, shape):
    assert graph(f"flowchart TB\nA{brackets}").nodes["A"]["shape"] == shape


def test_a_label_may_come_after_the_first_use_or_be_quoted():
    result = graph('graph TD\n  A --> B;\n  B["p(x | z) [nats]"]')
    assert result.nodes["B"]["label"] == "p(x | z) [nats]"
    assert result.nodes["A"]["label"] == "A"


def test_arrows_have_styles():
    result = graph("graph TD\nA --> B\nA -.-> C\nA ==>|strong| D")
    assert [result.edges["A", name]["style"] for name in "BCD"] == ["solid", "dotted", "thick"]


def test_comments_and_titles_are_no_statements():
    text = "%% drawn anew\ngraph TD\n  accTitle: Two nodes\n  accDescr: A leads to B\n\n  A --> B"
    assert set(graph(text)) == {"A", "B"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begins with"),
        ("A --> B", "begins with"),
        ("graph XY\nA --> B", "graph XY"),
        ("graph TD\nA -- yes --> B", "-- yes --> B"),
        ("graph TD\nA --> ", "missing before ''"),
        ("graph TD\nA & --> B", "missing before ' --> B'"),
        ("graph TD\nA[[x]]", r"\[\[x\]\]"),
        ("graph TD\nA[x", r"\[x"),
        ("graph TD\nsubgraph one", "subgraph one"),
        ("graph TD\nA[x] --> B\nA[y] --> C", "'x' already"),
        ("graph TD\nA --> B\nA --> B", "A --> B is drawn twice"),
    ],
)
def test_what_is_not_understood_is_refused_with_the_line(text, message):
    with pytest.raises(ValueError, match=message):
        graph(text)


class TestMermaid:
    @pytest.fixture
    def shown(self, monkeypatch):
        bundles = []
        monkeypatch.setattr(diagrams, "display", lambda bundle, raw: bundles.append(bundle))
        return bundles

    def test_the_alternative_text_is_its_title_and_the_caption_stands_below(self, shown):
        mermaid(PRINTED_GAN, "A loop <B–F>.", "Six boxes;\n five of them in a loop.")
        markdown = shown[0]["text/markdown"]
        assert markdown.startswith("```mermaid\ngraph TD\n  accTitle: Six boxes; five of them in a loop.\nA[")
        assert markdown.endswith('F --> B\n```\n\n<p style="font-style:italic">A loop &lt;B–F&gt;.</p>')
        assert shown[0]["text/plain"] == f"A loop <B–F>.\n\n{PRINTED_GAN.strip()}"

    def test_what_is_shown_is_the_same_graph(self, shown):
        mermaid(PRINTED_GAN, "caption", "alt")
        drawn = graph(shown[0]["text/markdown"].split("```")[1].removeprefix("mermaid\n"))
        assert nx.utils.graphs_equal(drawn, graph(PRINTED_GAN))

    @pytest.mark.parametrize(
        ("text", "caption", "alt"),
        [("", "c", "a"), ("```mermaid\ngraph TD\n```", "c", "a"), (PRINTED_GAN, "", "a"), (PRINTED_GAN, "c", "")],
    )
    def test_text_caption_and_alternative_are_required(self, shown, text, caption, alt):
        with pytest.raises(ValueError, match="needs a"):
            mermaid(text, caption, alt)
        assert not shown
