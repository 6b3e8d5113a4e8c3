"""What to read, by goal and in an order that respects prerequisites: `data/reading.yaml` as a graph.

Choosing what fits into the hours that there are is a knapsack problem with prerequisites. The lists are short, so every
set that contains its own prerequisites is tried, and the answer is exact. Hours and worth are estimates of the authors.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import networkx as nx
import yaml

from aigc_lib import paths
from aigc_lib.teaching import bibliography

CHAPTERS = range(1, 11)
LEVELS = {1: "introduction", 2: "paper for readers of this course", 3: "demanding"}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One thing to read: a part of a source."""

    key: str  # of the bibliography
    part: str
    hours: float
    level: int  # one of LEVELS
    chapter: int  # of the course to which it belongs
    worth: dict[str, int]  # 1 to 3, for each goal that it serves
    requires: tuple[str, ...]  # names of readings that come before it


class ReadingList(NamedTuple):
    """Readings by name, the goals with what their readers want, and the day when the sources were last checked."""

    readings: dict[str, Reading]
    goals: dict[str, str]
    checked: str

    @property
    def graph(self) -> nx.DiGraph:
        """An edge leads from each reading to those that require it."""
        edges = [(before, name) for name, reading in self.readings.items() for before in reading.requires]
        graph = nx.DiGraph(edges)
        graph.add_nodes_from(self.readings)
        return graph

    def hours(self, names: list[str]) -> float:
        return sum(self.readings[name].hours for name in names)

    def worth(self, names: list[str], goal: str) -> int:
        return sum(self.readings[name].worth.get(goal, 0) for name in names)


class Plan(NamedTuple):
    """Readings in the order in which to read them, their hours in all, and what they are worth for the goal."""

    names: list[str]
    hours: float
    worth: int


def load(path: Path | None = None) -> ReadingList:
    """The course's reading list, or that in another file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a list, or a reading with an unknown source, goal, prerequisite, level or chapter, with no
            hours, or readings that require one another in a circle; the message names them.
    """
    path = path or paths.data_dir() / "reading.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        entries = content["readings"].items()
        readings = {name: Reading(**entry | {"requires": tuple(entry["requires"])}) for name, entry in entries}
        result = ReadingList(readings, content["goals"], str(content["checked"]))
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a reading list: {type(error).__name__}: {error}") from error
    if faults := _faults(result):
        raise ValueError(f"{path}: {'; '.join(faults)}")
    return result


def _faults(reading_list: ReadingList) -> list[str]:
    faults, sources = [], bibliography.load()
    for name, reading in reading_list.readings.items():
        faults += [f"{name}: no source {reading.key!r}"] * (reading.key not in sources)
        faults += [f"{name}: no reading {each!r}" for each in reading.requires if each not in reading_list.readings]
        faults += [f"{name}: no goal {goal!r}" for goal in reading.worth if goal not in reading_list.goals]
        faults += [f"{name}: worth {worth}, not 1 to 3" for worth in reading.worth.values() if worth not in (1, 2, 3)]
        faults += [f"{name}: serves no goal"] * (not reading.worth)
        faults += [f"{name}: {reading.hours} hours"] * (not 0 < reading.hours < 100)
        faults += [f"{name}: no level {reading.level}"] * (reading.level not in LEVELS)
        faults += [f"{name}: no chapter {reading.chapter}"] * (reading.chapter not in CHAPTERS)
    graph = reading_list.graph
    if not nx.is_directed_acyclic_graph(graph):
        faults.append(f"a circle of {' → '.join(edge[0] for edge in nx.find_cycle(graph))}")
    return faults


def reading_path(goal: str, hours: float = float("inf"), reading_list: ReadingList | None = None) -> Plan:
    """What to read for a goal within so many hours: of all choices that hold their prerequisites, one of most worth.

    Equal worth: the one of fewer hours, then the one that leaves out what stands later in the list. Prerequisites may
    serve other goals only; they then cost hours and add no worth. The order goes by level where prerequisites leave it
    free.

    Raises:
        ValueError: there is no such goal, or hours is negative or no number.
    """
    every = reading_list or load()
    if goal not in every.goals:
        raise ValueError(f"no goal {goal!r}; there are {', '.join(every.goals)}")
    if not hours >= 0:
        raise ValueError(f"expected hours ≥ 0, got {hours}")
    graph = every.graph
    serving = {name for name, reading in every.readings.items() if goal in reading.worth}
    candidates = serving.union(*(nx.ancestors(graph, name) for name in serving))
    rank = {name: number for number, name in enumerate(every.readings)}
    order = list(
        nx.lexicographical_topological_sort(
            graph.subgraph(candidates), key=lambda name: (every.readings[name].level, rank[name])
        )
    )
    best = (0, 0.0, [])

    def extend(n: int, names: list[str], spent: float, worth: int, possible: int) -> None:
        nonlocal best
        if (worth, -spent) > (best[0], -best[1]):
            best = (worth, spent, names)
        if n == len(order) or worth + possible < best[0]:  # even all that follow cannot reach the best
            return
        reading = every.readings[order[n]]
        value = reading.worth.get(goal, 0)
        if spent + reading.hours <= hours and set(reading.requires) <= set(names):
            extend(n + 1, [*names, order[n]], spent + reading.hours, worth + value, possible - value)
        extend(n + 1, names, spent, worth, possible - value)

    extend(0, [], 0.0, 0, every.worth(order, goal))
    worth, spent, names = best
    return Plan(names, spent, worth)
