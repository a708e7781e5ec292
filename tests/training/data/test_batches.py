import numpy as np
import pytest

from keras_dynnets.training import Batches
from keras_dynnets.training.data.datasets import Split


@pytest.fixture
def split():
    rng = np.random.default_rng(0)
    return Split(rng.integers(1, 256, (50, 8, 6, 3)).astype("uint8"), np.arange(50, dtype="int32"))


def epoch_of(batches, epoch):
    batches.start_epoch(epoch)
    return [batches[i] for i in range(len(batches))]


def assert_equal(a, b):
    for (x, y), (u, v) in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, u)
        np.testing.assert_array_equal(y, v)


def test_shapes_and_types(split):
    batches = Batches(split, 16)
    x, y = batches[0]
    assert len(batches) == 3
    assert x.shape == (16, 8, 6, 3) and x.dtype == "float32"
    assert y.shape == (16,) and y.dtype == "int32"
    assert x.min() >= 0 and x.max() <= 255


def test_steps_shorten_an_epoch(split):
    assert len(Batches(split, 16, steps=2)) == 2
    assert len(Batches(split, 16, steps=9)) == 3


def test_an_epoch_sees_every_image_at_most_once(split):
    seen = np.concatenate([y for _, y in epoch_of(Batches(split, 10), 0)])
    assert sorted(seen) == list(range(50))
    assert list(seen) != list(range(50))


def test_seed_and_epoch_decide_everything(split):
    first, again = Batches(split, 16, seed=4), Batches(split, 16, seed=4)
    epochs = [epoch_of(first, e) for e in range(3)]
    assert_equal(epoch_of(again, 2), epochs[2])  # whatever came before
    assert_equal([again[1], again[0]], [epochs[2][1], epochs[2][0]])  # in any order
    assert list(epochs[0][0][1]) != list(epochs[1][0][1])
    assert list(epoch_of(Batches(split, 16, seed=5), 0)[0][1]) != list(epochs[0][0][1])


def test_keras_moves_on_to_the_next_epoch(split):
    batches, other = Batches(split, 16), Batches(split, 16)
    batches.on_epoch_end()
    assert_equal([batches[0]], [epoch_of(other, 1)[0]])


def test_no_change_without_flip_and_translate(split):
    for x, y in epoch_of(Batches(split, 16, flip=False, translate=0), 0):
        np.testing.assert_array_equal(x, split.images[y])


def test_flip_mirrors_half_of_the_images(split):
    flipped = []
    for epoch in range(10):
        for x, y in epoch_of(Batches(split, 10, flip=True, translate=0), epoch):
            for image, label in zip(x, y, strict=True):
                original = split.images[label]
                flipped.append(bool((image == original[:, ::-1]).all()))
                assert flipped[-1] or (image == original).all()
    assert 0.4 < np.mean(flipped) < 0.6


def test_translate_moves_within_its_pixels_and_mirrors_at_the_border(split):
    shifts = set()
    for epoch in range(4):
        for x, y in epoch_of(Batches(split, 10, flip=False, translate=2), epoch):
            for image, label in zip(x, y, strict=True):
                padded = np.pad(split.images[label], ((2, 2), (2, 2), (0, 0)), "reflect")
                found = [
                    (t, s)
                    for t in range(5)
                    for s in range(5)
                    if (image == padded[t : t + 8, s : s + 6]).all()
                ]
                assert len(found) == 1
                shifts.update(found)
    assert len(shifts) == 25  # every shift from -2 to 2 in both directions occurs


def test_the_split_is_left_alone(split):
    before = split.images.copy()
    epoch_of(Batches(split, 16), 0)
    np.testing.assert_array_equal(split.images, before)
