"""Greedy search climbs over neighbours, moves to the first better one, and begins anew where none is left."""

import pytest
from ConfigSpace import ConfigurationSpace
from ConfigSpace.hyperparameters import OrdinalHyperparameter

import searchspaces
from experiments.engine.outcome import Outcome
from experiments.engine.strategies.greedy import Greedy
from searchspaces import Space


def lattice(size=9, names="xy"):
    space = ConfigurationSpace()
    for name in names:
        space.add(OrdinalHyperparameter(name, list(range(size)), default_value=0))
    return Space(space, "lattice")


def told(greedy, value, trials, space, lag=0):
    """Trials one after the other; each reports when `lag` more have begun."""
    points = []
    for trial in range(trials):
        point = greedy.propose(trial, 0) if trial else space.default()
        greedy.started(trial, point)
        points.append(point)
        if trial >= lag:
            greedy.observed(trial - lag, points[trial - lag], 1.0, value(points[trial - lag]))
    return points


def steps(one, other):
    return sum(abs(one[name] - other[name]) for name in one)


def peak(at):
    return lambda point: Outcome((-float(sum((point[name] - at[name]) ** 2 for name in at)),))


def test_on_one_hill_it_goes_to_the_top_by_single_steps():
    space = lattice(names="xyz")
    top = {"x": 5, "y": 3, "z": 6}
    value = peak(top)
    points = told(Greedy(Greedy.Config(), space, 0), value, 60, space)
    assert points.index(top) < 50  # of 729
    assert len({str(point) for point in points}) == 60
    best = points[0]
    for point in points[1 : points.index(top) + 1]:
        assert steps(point, best) == 1
        best = max(best, point, key=lambda point: value(point).values)


def test_on_the_top_it_tries_every_neighbour_and_then_begins_at_a_random_point():
    space = lattice()
    points = told(Greedy(Greedy.Config(), space, 3), peak({"x": 0, "y": 0}), 20, space)
    assert sorted(map(str, points[1:3])) == ["{'x': 0, 'y': 1}", "{'x': 1, 'y': 0}"]
    assert steps(points[3], points[0]) > 1
    assert points[3] == space.draw(3, 3)
    assert steps(points[4], points[3]) == 1


def test_an_earlier_climb_goes_on_when_a_late_report_gives_it_a_new_best():
    space = lattice()
    greedy = Greedy(Greedy.Config(), space, 0)
    for trial, point in enumerate([{"x": 0, "y": 0}, {"x": 0, "y": 1}, {"x": 1, "y": 0}, {"x": 6, "y": 6}]):
        greedy.started(trial, point)
    greedy.observed(0, {"x": 0, "y": 0}, 1.0, Outcome((0.0,)))
    assert steps(greedy.propose(4, 0), {"x": 6, "y": 6}) == 1
    greedy.observed(1, {"x": 0, "y": 1}, 1.0, Outcome((1.0,)))
    assert greedy.propose(4, 0) in ({"x": 0, "y": 2}, {"x": 1, "y": 1})


def test_a_trial_counts_by_its_newest_report():
    space = lattice()
    greedy = Greedy(Greedy.Config(), space, 0)
    for trial, point in enumerate([{"x": 0, "y": 0}, {"x": 0, "y": 1}]):
        greedy.started(trial, point)
        greedy.observed(trial, point, 1.0, Outcome((float(trial),)))
    assert greedy.propose(2, 0) in ({"x": 0, "y": 2}, {"x": 1, "y": 1})
    greedy.observed(1, {"x": 0, "y": 1}, 2.0, Outcome((-1.0,)))  # it got worse than the origin
    assert greedy.propose(2, 0) == {"x": 1, "y": 0}
    greedy.observed(1, {"x": 0, "y": 1}, 3.0, Outcome((2.0,)))
    assert greedy.propose(2, 0) in ({"x": 0, "y": 2}, {"x": 1, "y": 1})


def test_nothing_climbs_from_what_failed_or_breaks_a_constraint_more():
    space = lattice()
    greedy = Greedy(Greedy.Config(), space, 0)
    for trial, point in enumerate([{"x": 4, "y": 4}, {"x": 4, "y": 5}, {"x": 5, "y": 4}, {"x": 3, "y": 4}]):
        greedy.started(trial, point)
    greedy.observed(0, {"x": 4, "y": 4}, 1.0, Outcome((0.0,), violation=0.5))
    greedy.observed(1, {"x": 4, "y": 5}, 1.0, Outcome((9.0,), violation=0.7))
    greedy.observed(2, {"x": 5, "y": 4}, 1.0, Outcome((7.0,)))
    greedy.observed(2, {"x": 5, "y": 4}, 2.0, None)
    greedy.observed(3, {"x": 3, "y": 4}, 1.0, Outcome((-5.0,), violation=0.0))
    assert steps(greedy.propose(4, 0), {"x": 3, "y": 4}) == 1
    greedy.observed(3, {"x": 3, "y": 4}, 2.0, None)
    assert greedy.propose(4, 0) == {"x": 4, "y": 3}  # what is left around the origin


def test_where_the_origin_failed_the_next_point_is_random():
    space = lattice()
    greedy = Greedy(Greedy.Config(), space, 7)
    greedy.started(0, space.default())
    assert steps(greedy.propose(1, 0), space.default()) == 1  # nobody waits for its first report
    greedy.observed(0, space.default(), 0.0, None)
    assert greedy.propose(1, 0) == space.draw(7, 1)


def test_with_two_objectives_it_climbs_from_all_that_is_not_dominated():
    space = lattice(20)
    value = lambda point: Outcome((float(point["x"]), float(-point["x"] - 3 * point["y"])))  # noqa: E731
    points = told(Greedy(Greedy.Config(), space, 0), value, 60, space)
    assert {point["x"] for point in points if point["y"] == 0} == set(range(20))  # the whole front
    assert all(point["y"] <= 1 for point in points[:39])


def test_the_neighbours_of_two_that_are_not_dominated_are_tried_in_turn():
    space = lattice()
    greedy = Greedy(Greedy.Config(), space, 0)
    ends = [{"x": 1, "y": 1}, {"x": 7, "y": 7}]
    for trial, point in enumerate(ends):
        greedy.started(trial, point)
        greedy.observed(trial, point, 1.0, Outcome((float(trial), -float(trial))))
    for trial in range(2, 10):
        point = greedy.propose(trial, 0)
        assert steps(point, ends[trial % 2]) == 1
        greedy.started(trial, point)
        greedy.observed(trial, point, 1.0, Outcome((-1.0, -1.0)))


def test_the_users_own_points_belong_to_the_first_climb():
    space = lattice()
    greedy = Greedy(Greedy.Config(), space, 0)
    for trial, (point, value) in enumerate([({"x": 0, "y": 0}, 1.0), ({"x": 8, "y": 8}, 2.0), ({"x": 4, "y": 4}, 3.0)]):
        greedy.started(trial, point)
        greedy.observed(trial, point, 1.0, Outcome((value,)))
    assert steps(greedy.propose(3, 0), {"x": 4, "y": 4}) == 1


def test_refused_points_are_passed_over():
    space = lattice()
    greedy = Greedy(Greedy.Config(), space, 5)
    greedy.started(0, space.default())
    first, second = greedy.propose(1, 0), greedy.propose(1, 1)
    assert {str(first), str(second)} == {"{'x': 0, 'y': 1}", "{'x': 1, 'y': 0}"}
    greedy.started(-1, first)
    greedy.observed(-1, first, 0.0, None)
    assert greedy.propose(1, 0) == second
    assert greedy.propose(1, 1) == space.draw(5, 1 + 1_000_003)


@pytest.mark.parametrize("lag", [0, 3])
def test_it_is_better_than_random_search_at_the_same_number_of_trials(lag):
    space = searchspaces.load(["encoder", "optimization"])
    goal = space.draw(99, 0)

    def value(point):
        place, other = space.unit(point), space.unit(goal)
        return Outcome((-sum((place[name] - other[name]) ** 2 for name in other),))

    for seed in range(2):
        ours = max(value(p).values for p in told(Greedy(Greedy.Config(), space, seed), value, 80, space, lag))
        assert ours > max(value(space.draw(seed, index)).values for index in range(200))
