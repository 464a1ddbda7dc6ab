"""What readers may still look at is kept until they have gone."""

from __future__ import annotations

import pytest

from hyp.rcu import Rcu

pytestmark = pytest.mark.kvm_row(56)


def test_without_a_reader_nothing_waits() -> None:
    done: list[int] = []
    Rcu().call(lambda: done.append(1))
    assert done == [1]


def test_everything_waits_for_the_last_reader_and_keeps_its_order() -> None:
    rcu, done = Rcu(), list[int]()
    rcu.read_lock()
    rcu.call(lambda: done.append(1))
    rcu.read_lock()
    rcu.call(lambda: done.append(2))
    rcu.read_unlock()
    assert done == []
    rcu.read_unlock()
    assert done == [1, 2]
    rcu.read_lock()
    rcu.read_unlock()
    assert done == [1, 2]
