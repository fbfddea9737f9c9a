"""Rounding and dealing: sums are exact and every stretch of the list keeps its share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from models.whole_notes import apportion, clip_by_class, deal, round_systematically


def test_apportion_by_largest_remainder():
    # 10 over 3.6, 3.3, 3.1: floors 3, 3, 3; the one left goes to the largest remainder.
    assert apportion(10, np.array([3.6, 3.3, 3.1]), np.array([9, 9, 9])).tolist() == [4, 3, 3]
    # The first may not take more than 3.
    assert apportion(10, np.array([3.6, 3.3, 3.1]), np.array([3, 9, 9])).tolist() == [3, 4, 3]
    assert apportion(10, np.array([5.0, 5.0]), np.array([2, 3])).tolist() == [2, 3]


@hypothesis_settings(max_examples=200, deadline=None)
@given(
    amounts=st.lists(st.floats(0, 50), min_size=1, max_size=40),
    offset=st.floats(0, 0.999),
    total=st.integers(0, 500),
)
def test_systematic_rounding_adds_up_and_every_prefix_is_within_one(amounts, offset, total):
    amounts = np.array(amounts)
    notes = round_systematically(amounts, total, offset)
    if amounts.sum() == 0 or total == 0:
        assert notes.sum() == 0
        return
    assert notes.sum() == total and np.all(notes >= 0)
    exact = np.cumsum(amounts) / amounts.sum() * total
    assert np.all(np.abs(np.cumsum(notes) - exact) <= 1 + 1e-9)


def test_dealing_gives_each_order_a_cross_section():
    # Two orders of 5 notes over ten listings of one note: each gets about every other one.
    order, listing, notes = deal(np.ones(10, dtype=int), np.array([5, 5]))
    assert notes.tolist() == [1] * 10 and sorted(listing.tolist()) == list(range(10))
    for one in (0, 1):
        assert abs(listing[order == one].mean() - 4.5) <= 1
        assert np.bincount(listing[order == one] // 5, minlength=2).min() >= 2


@hypothesis_settings(max_examples=100, deadline=None)
@given(
    listing_notes=st.lists(st.integers(0, 30), min_size=1, max_size=20),
    order_notes=st.lists(st.integers(0, 40), min_size=1, max_size=10),
)
def test_dealing_gives_out_all_that_is_asked_for_or_there(listing_notes, order_notes):
    order, listing, notes = deal(np.array(listing_notes), np.array(order_notes))
    assert notes.sum() == min(sum(listing_notes), sum(order_notes))
    assert np.all(np.bincount(listing, notes, len(listing_notes)) <= listing_notes)
    assert np.all(np.bincount(order, notes, len(order_notes)) <= order_notes)


def test_clip_serves_the_first_of_a_class():
    wanted, classes = np.array([3, 2, 4, 5]), np.array([1, 0, 1, 0])
    assert clip_by_class(wanted, classes, np.array([6, 5])).tolist() == [3, 2, 2, 4]


@pytest.mark.parametrize("room", [0, 7])
def test_clip_to_no_room_is_nothing(room):
    assert clip_by_class(np.array([2, 2]), np.array([0, 0]), np.array([room])).sum() == min(room, 4)
