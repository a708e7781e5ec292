import keras
import numpy as np
import pytest
from helpers import compiled, images, labels
from helpers import generated as fitted
from helpers import generated_plain as plain

from keras_dynnets import puppet
from keras_dynnets.core.grouping import grouped_rows
from keras_dynnets.families.puppet.level_batches import LevelBatches


@pytest.mark.parametrize("levels", [3, None])
def test_fit_learns_and_keeps_statistics_by_level(levels):
    rng = np.random.default_rng(0)
    y = labels(256, 2)
    x = np.clip(
        100
        + 60 * y[:, None, None, None]
        + rng.normal(0, rng.uniform(5, 80, (256, 1, 1, 1)), (256, 16, 16, 3)),
        0,
        255,
    )
    model = compiled(puppet.puppeteer(plain(classes=2), levels=levels))
    model.compile(keras.optimizers.Adam(0.01), model.loss, metrics=["accuracy"])
    assert not model.ranked
    before = np.array(model.puppet.statistics)
    history = model.fit(
        x.astype("float32"), y, batch_size=16, epochs=6, validation_split=0.25, verbose=0
    ).history
    assert (
        model.ranked
        and history["loss"][-1] < 0.6 * history["loss"][0]
        and history["val_accuracy"][-1] > 0.8
    )
    changed = np.abs(np.array(model.puppet.statistics) - before).max(axis=(1, 2))
    assert (changed > 0).all()


def test_batches_of_one_level():
    levels = np.array([0, 1, 1, 0, 1, 1, 1, 0])
    batches = grouped_rows(levels, 2, np.random.default_rng(0))
    assert sorted(np.concatenate(batches)) == list(range(8)) and max(map(len, batches)) == 2
    assert all(len(set(levels[rows])) == 1 for rows in batches)
    assert len(grouped_rows(levels, 2, whole=True)) == 3
    data = LevelBatches([np.arange(8), np.arange(8) * 10], levels, 2)
    x, y = data[0]
    np.testing.assert_array_equal(10 * x, y)


def test_by_level_for_data_sets():
    import tensorflow as tf

    model, x = fitted(), images(40, seed=5)
    data = puppet.by_level(tf.data.Dataset.from_tensor_slices((x, labels(40))), model, 4)
    seen = 0
    for batch, _ in data:
        assert len(set(model.levels_of(batch.numpy()))) == 1
        seen += len(batch)
    assert seen == 40
    compiled(model).fit(data, verbose=0)
    with pytest.raises(ValueError, match="does not know the complexities"):
        compiled(puppet.puppeteer(plain())).fit(data)


def test_fit_takes_what_keras_takes():
    x, y = images(32), labels(32)
    model = compiled(fitted(levels=2))
    history = model.fit(x, y, 8, 2, 0, None, 0.25)
    assert len(history.history["val_loss"]) == 2
    assert model.predict(x, batch_size=4, steps=2, verbose=0).shape == (8, 10)
    for wrong in ({"y": y[:20]}, {"y": y, "sample_weight": np.ones(40)}):
        with pytest.raises(ValueError, match="as many, not 32, "):
            model.fit(x, verbose=0, **wrong)


def test_by_level_refuses():
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((images(8), labels(8)))
    with pytest.raises(ValueError, match="does not know the complexities"):
        puppet.by_level(data, puppet.puppeteer(plain()), 4)
    with pytest.raises(ValueError, match=r"single images, .* dataset.unbatch\(\)"):
        puppet.by_level(data.batch(4), fitted(), 4)
