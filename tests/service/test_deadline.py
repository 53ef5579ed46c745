"""The margin: what is kept of a budget for what comes after the ranking."""

import time

import pytest

from service.deadline import Deadline, Ending, Margin


def test_the_margin_follows_what_answers_take_and_how_far_they_differ() -> None:
    margin = Margin()
    for _ in range(200):
        margin.learn(0.004)
    assert margin.seconds == pytest.approx(0.004, rel=0.01)
    for _ in range(100):
        margin.learn(0.002)
        margin.learn(0.006)
    assert margin.seconds == pytest.approx(0.008, rel=0.15)


def test_the_margin_of_a_flood_is_forgotten_with_the_first_answers_after_it() -> None:
    now_s = 0.0
    margin = Margin(lambda: now_s)
    for _ in range(200):
        margin.learn(0.1)
    for _ in range(4):
        now_s += 0.5
        margin.learn(0.002)
    assert margin.seconds < 0.025


def test_a_ranking_ends_before_the_deadline_and_has_half_of_what_is_left() -> None:
    margin = Margin()
    for _ in range(200):
        margin.learn(0.1)
    far = Deadline(time.monotonic() + 1000)
    assert margin.before(far).at_s == pytest.approx(far.at_s - 0.1, rel=1e-3)
    near = Deadline(time.monotonic() + 0.02)
    assert near.at_s - 0.01 <= margin.before(near).at_s <= near.at_s
    past = Deadline(0.0)
    assert margin.before(past) == past


def test_a_margin_learns_from_the_last_ranking_of_an_answer_to_its_end() -> None:
    margin = Margin()
    before_s = margin.seconds
    Ending(margin).sent()  # nothing was ranked
    assert margin.seconds == before_s
    for _ in range(100):
        ending, now_s = Ending(margin), time.monotonic()
        for ago_s in (3.0, 0.25, 7.0):
            ending.ranked(now_s - ago_s)
        ending.sent()
    assert margin.seconds == pytest.approx(0.25, rel=0.1)
