"""The reading list: a graph without circles, and paths through it that another solver finds no better."""

import dataclasses
from datetime import date

import networkx as nx
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from aigc_lib import paths
from aigc_lib.teaching import bibliography
from aigc_lib.teaching.reading import Reading, ReadingList, load, reading_path

COURSE = load()


def best_by_integer_programme(reading_list, goal, hours):
    """The same knapsack with prerequisites, solved by HiGHS."""
    names = list(reading_list.readings)
    value = np.array([reading_list.readings[name].worth.get(goal, 0) for name in names])
    rows, limits = [[reading_list.readings[name].hours for name in names]], [min(hours, 1e6)]
    for after, name in enumerate(names):
        for before in reading_list.readings[name].requires:
            row = np.zeros(len(names))
            row[after], row[names.index(before)] = 1, -1
            rows.append(row)
            limits.append(0)
    constraint = LinearConstraint(np.array(rows), -np.inf, limits)
    found = milp(-value, constraints=constraint, integrality=np.ones(len(names)), bounds=Bounds(0, 1))
    return round(-found.fun)


def is_in_order(names, reading_list):
    return all(set(reading_list.readings[name].requires) <= set(names[:n]) for n, name in enumerate(names))


def test_every_reading_has_a_source_and_the_requirements_make_no_circle():
    sources = bibliography.load()
    assert all(reading.key in sources for reading in COURSE.readings.values())
    assert nx.is_directed_acyclic_graph(COURSE.graph)
    assert set(COURSE.graph) == set(COURSE.readings)
    assert date.fromisoformat(COURSE.checked) >= date(2026, 11, 23)


def test_every_goal_has_readings_of_all_sizes_and_a_full_path_holds_all_of_them():
    for goal in COURSE.goals:
        plan = reading_path(goal, reading_list=COURSE)
        serving = {name for name, reading in COURSE.readings.items() if goal in reading.worth}
        assert serving <= set(plan.names)
        assert set(plan.names) == serving.union(*(nx.ancestors(COURSE.graph, name) for name in serving))
        assert len(serving) >= 5


def test_the_documents_own_books_and_papers_are_on_it():
    keys = {reading.key for reading in COURSE.readings.values()}
    assert keys >= {"deeplearning2016", "sutton2018", "tomczak2022", "prince2023"}
    assert keys >= {"goodfellow2014", "sutskever2014", "vandenoord2016", "srivastava2015", "lee2017", "karras2019"}


@pytest.mark.parametrize("goal", COURSE.goals)
@pytest.mark.parametrize("hours", [0, 4, 10, 15.5, 20, 30])
def test_a_path_is_in_order_within_its_hours_adds_up_and_is_the_best(goal, hours):
    plan = reading_path(goal, hours, COURSE)
    assert is_in_order(plan.names, COURSE)
    assert plan.hours == pytest.approx(COURSE.hours(plan.names))
    assert plan.hours <= hours
    assert plan.worth == COURSE.worth(plan.names, goal) == best_by_integer_programme(COURSE, goal, hours)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_list_is_solved_exactly(data):
    readings = {}
    for n in range(data.draw(st.integers(1, 8))):
        before = tuple(name for name in readings if data.draw(st.booleans()))
        worth = data.draw(st.dictionaries(st.sampled_from("ab"), st.integers(1, 3), max_size=2)) or {"a": 1}
        hours = data.draw(st.integers(1, 9))
        readings[str(n)] = Reading(
            key="k", part="p", hours=hours, level=data.draw(st.integers(1, 3)), chapter=1, worth=worth, requires=before
        )
    some = ReadingList(readings, {"a": "", "b": ""}, "")
    hours = data.draw(st.integers(0, 40))
    plan = reading_path("a", hours, some)
    assert plan.worth == best_by_integer_programme(some, "a", hours)
    assert is_in_order(plan.names, some)
    assert plan.hours <= hours


def test_of_equal_worth_the_shorter_path_is_taken_and_nothing_useless_is_read():
    one = Reading(key="k", part="p", hours=5, level=1, chapter=1, worth={"a": 2}, requires=())
    readings = {
        "long": one,
        "short": dataclasses.replace(one, hours=2),
        "other": dataclasses.replace(one, worth={"b": 3}),
    }
    some = ReadingList(readings, {"a": "", "b": ""}, "")
    assert reading_path("a", 5, some).names == ["short"]
    assert reading_path("a", 99, some).names == ["long", "short"]


@pytest.mark.parametrize(("goal", "hours"), [("poetry", 10), ("sound", -1), ("sound", float("nan"))])
def test_an_unknown_goal_or_no_number_of_hours_is_refused(goal, hours):
    with pytest.raises(ValueError, match=r"no goal 'poetry'; there are pictures|expected hours ≥ 0"):
        reading_path(goal, hours, COURSE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": "nobody1999"}, "wavenet: no source 'nobody1999'"),
        ({"requires": ["gone"]}, "wavenet: no reading 'gone'"),
        ({"requires": ["waveglow"]}, "a circle of "),
        ({"worth": {"poetry": 1}}, "wavenet: no goal 'poetry'"),
        ({"worth": {"sound": 4}}, "wavenet: worth 4"),
        ({"worth": {}}, "wavenet: serves no goal"),
        ({"hours": 0}, "wavenet: 0 hours"),
        ({"level": 4}, "wavenet: no level 4"),
        ({"chapter": 11}, "wavenet: no chapter 11"),
        ({"pages": 3}, "is not a reading list: TypeError"),
    ],
)
def test_a_damaged_list_is_refused_with_the_name_of_the_reading(tmp_path, changes, message):
    content = yaml.safe_load((paths.data_dir() / "reading.yaml").read_text(encoding="utf-8"))
    content["readings"]["wavenet"] |= changes
    path = tmp_path / "reading.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load(path)
