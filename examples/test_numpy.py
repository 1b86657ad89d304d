"""NumPy: a generator is copied with its process, so children of one parent draw the same numbers.

NumPy does nothing about a fork. A generator for each process comes from `Generator.spawn`:
https://numpy.org/doc/stable/reference/random/parallel.html
"""

import random

import numpy as np
import pytest

# A child by vfork has no copy: its generator is the parent's own.
pytestmark = pytest.mark.procsem_primitives("fork", "clone", "clone3")


def test_children_draw_the_same_numbers(spawn):
    first, second = spawn(np.random.random, 4), spawn(np.random.random, 4)
    assert first.result().tolist() == second.result().tolist()


def test_a_generator_with_fresh_entropy_repeats_too(spawn):
    generator = np.random.default_rng()
    first, second = spawn(generator.random, 4), spawn(generator.random, 4)
    assert first.result().tolist() == second.result().tolist()


def test_spawned_generators_differ(spawn):
    one, other = np.random.default_rng().spawn(2)
    first, second = spawn(one.random, 4), spawn(other.random, 4)
    assert first.result().tolist() != second.result().tolist()


def test_pythons_own_generator_is_seeded_anew(spawn):
    first, second = spawn(random.random), spawn(random.random)
    assert first.result() != second.result()
