"""Diagrams as text: shown as mermaid, and read as graphs so that claims about them can be checked."""

import re
from html import escape

import networkx as nx
from IPython.display import display

from aigc_lib.teaching import figures

_LABEL = r'"(?P<{0}_quoted>[^"]+)"|(?P<{0}_plain>[^"|()\[\]{{}}]+)'
# Longer brackets come first: "([" is not "(" with a label that begins with "[".
_SHAPES = {
    "stadium": (r"\(\[", r"\]\)"),
    "circle": (r"\(\(", r"\)\)"),
    "box": (r"\[", r"\]"),
    "round": (r"\(", r"\)"),
    "rhombus": (r"\{", r"\}"),
}
_SHAPE = "|".join(f"(?:{left}(?:{_LABEL.format(name)}){right})" for name, (left, right) in _SHAPES.items())
_NODE = re.compile(rf"\s*(?P<id>\w+)(?:{_SHAPE})?\s*")
_EDGE = re.compile(r'(?P<arrow>-->|-\.->|==>)\s*(?:\|\s*(?:"(?P<quoted>[^"]+)"|(?P<plain>[^"|]+?))\s*\|)?')
_ARROWS = {"-->": "solid", "-.->": "dotted", "==>": "thick"}
_HEADER = re.compile(r"(?:graph|flowchart)\s+(TD|TB|BT|LR|RL)$")
_NO_STATEMENT = re.compile(r"(?:%%|accTitle\s*:|accDescr\s*:)")


def mermaid(text: str, caption: str, alt: str) -> None:
    """Display a mermaid diagram with its caption.

    The output is Markdown with a mermaid fence, which JupyterLab draws without a network, in the colours of its theme;
    elsewhere the text of the diagram itself is shown. `alt` becomes the title that screen readers read.

    Args:
        text: the diagram; its first line says the kind ("graph TD", "sequenceDiagram").
        caption: what to see.
        alt: what the diagram shows.

    Raises:
        ValueError: the text is empty or has a fence inside; caption or alt is empty, or they are the same.
    """
    figures.require_texts(caption, alt)
    header, *body = text.strip().splitlines() or [""]
    if not header or "```" in text:
        raise ValueError(f"a diagram needs a mermaid text without a fence around it, got {text!r}")
    source = "\n".join([header, f"  accTitle: {' '.join(alt.split())}", *body])
    markdown = f'```mermaid\n{source}\n```\n\n<p style="font-style:italic">{escape(caption)}</p>'
    display({"text/markdown": markdown, "text/plain": f"{caption}\n\n{text.strip()}"}, raw=True)


def graph(text: str) -> nx.DiGraph:
    """Read a mermaid flow chart.

    Understood: the header `graph TD` (or `flowchart`, and TB, BT, LR, RL); the nodes `A`, `A[box]`, `A(round)`,
    `A{rhombus}`, `A([stadium])`, `A((circle))`; the arrows `-->`, `-.->`, `==>`, with or without `|label|`; chains
    `A --> B --> C`; groups `A & B --> C`; comments and accTitle.

    Returns:
        Its nodes are the ids, with `label` (the id where there is none) and `shape`; its edges have `label` ("" where
        there is none) and `style` ("solid", "dotted", "thick"); `.graph["direction"]` is that of the header.

    Raises:
        ValueError: the header or a line is not understood (the message has the line), a node is labelled twice, or
            an edge is drawn twice.
    """
    lines = [line.strip().rstrip(";") for line in text.splitlines()]
    header, *statements = [line for line in lines if line and not _NO_STATEMENT.match(line)] or [""]
    direction = _HEADER.match(header)
    if not direction:
        raise ValueError(f'a flow chart begins with "graph TD" or "graph LR", got {header!r}')
    result = nx.DiGraph(direction=direction[1])
    for statement in statements:
        _read_chain(statement, result)
    for name, attributes in result.nodes.items():  # those that were never labelled
        attributes.update({"label": name, "shape": "box"} | attributes)
    return result


def _read_chain(statement: str, result: nx.DiGraph) -> None:
    group, position = _read_group(statement, 0, result)
    while position < len(statement):
        edge = _EDGE.match(statement, position)
        if not edge:
            raise ValueError(f"not understood from {statement[position:]!r} on: {statement!r}")
        targets, position = _read_group(statement, edge.end(), result)
        attributes = {"label": edge["quoted"] or edge["plain"] or "", "style": _ARROWS[edge["arrow"]]}
        for pair in [(source, target) for source in group for target in targets]:
            if result.has_edge(*pair):
                raise ValueError(f"the edge {' --> '.join(pair)} is drawn twice: {statement!r}")
            result.add_edge(*pair, **attributes)
        group = targets


def _read_group(statement: str, position: int, result: nx.DiGraph) -> tuple[list[str], int]:
    """The ids of `A & B` and where they end."""
    ids = []
    while True:
        node = _NODE.match(statement, position)
        if not node:
            raise ValueError(f"a node is missing before {statement[position:]!r}: {statement!r}")
        ids.append(_add_node(node, result, statement))
        position = node.end()
        if not statement.startswith("&", position):
            return ids, position
        position += 1


def _add_node(node: re.Match, result: nx.DiGraph, statement: str) -> str:
    name = node["id"]
    labels = [(shape, node[f"{shape}_quoted"] or node[f"{shape}_plain"]) for shape in _SHAPES]
    drawn = next(({"label": label.strip(), "shape": shape} for shape, label in labels if label), {})
    known = result.nodes.get(name)
    if drawn and known and known != drawn:
        raise ValueError(f"node {name} is {known['label']!r} already: {statement!r}")
    result.add_node(name, **drawn)
    return name
