import numpy as np
import pytest
from helpers import generated
from helpers import images as made_up

from keras_dynnets import profile, zoo
from keras_dynnets.profile import Measurement

NAMES = [f"class {i}" for i in range(10)]


def pixels(path):
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def where(picture, color, tolerance=12):
    """Gives the rows and columns of the pixels of a colour."""
    return np.nonzero((abs(picture - color) <= tolerance).all(-1))


@pytest.fixture
def by_hand():
    """Makes a measurement of six images.

    The easiest and hardest images of class 0 are images 0 and 2, those of class 1 images 4 and 5.
    """
    gates = np.zeros((6, 3, 2), "uint8")
    gates[[0, 1, 2]] = 1
    return Measurement(gates, np.zeros((6, 2)), np.array([10, 50, 90, 50, 20, 90]) * 10**6, 10**8)


COLORS = np.array([[255, 0, 0], [9, 9, 9], [0, 255, 0], [9, 9, 9], [0, 0, 255], [255, 0, 255]])
BY_HAND_LABELS = [0, 0, 0, 1, 1, 1]


def test_pictures_of_a_real_measurement(measurement, images, labels, tmp_path):
    folder = tmp_path / "new" / "folder"
    paths = [
        profile.macs_histogram(measurement, folder / "a.png"),
        profile.execution_rates(measurement, labels, NAMES, str(folder / "b.png")),
        profile.easy_and_hard(
            measurement, images.astype("float32"), labels, NAMES, folder / "c.png", k=3
        ),
    ]
    assert sorted(folder.iterdir()) == paths
    for path in paths:
        assert pixels(path).shape[1] == 1700
        assert len(np.unique(pixels(path))) > 50


def test_histogram_shows_the_counts(tmp_path):
    macs = np.array([10] * 5 + [70] * 15) * 10**6
    measured = Measurement(np.zeros((20, 0, 0), "uint8"), np.zeros((20, 2)), macs, 10**8)
    rows, columns = where(
        pixels(profile.macs_histogram(measured, tmp_path / "a.png")), (0x2F, 0x6E, 0xA5)
    )
    left, right = rows[columns < 600], rows[columns > 600]
    assert np.ptp(right) == pytest.approx(3 * np.ptp(left), rel=0.02)


@pytest.mark.parametrize("gates_share", [1.0, 0.4])
def test_equal_images_have_a_histogram(tmp_path, gates_share):
    macs = np.full(3, int(gates_share * 10**9))
    measured = Measurement(np.zeros((3, 0, 0), "uint8"), np.zeros((3, 2)), macs, 10**9)
    rows, columns = where(
        pixels(profile.macs_histogram(measured, tmp_path / "a.png")), (0x2F, 0x6E, 0xA5)
    )
    assert np.ptp(rows) > 300 and np.ptp(columns) > 20


def test_heat_map_shows_the_rates(by_hand, tmp_path):
    picture = pixels(
        profile.execution_rates(by_hand, BY_HAND_LABELS, ["on", "off"], tmp_path / "a.png")
    )[:, :1400]
    on, off = where(picture, (253, 231, 37)), where(picture, (68, 1, 84))
    assert len(on[0]) == pytest.approx(len(off[0]), rel=0.05)
    assert on[0].max() < off[0].min()
    blocks = np.diff(np.unique(on[1]))
    assert (blocks > 10).sum() == 2  # three blocks stand apart


def test_class_without_images_is_grey(by_hand, tmp_path):
    picture = pixels(profile.execution_rates(by_hand, [0] * 6, ["a", "b"], tmp_path / "a.png"))[
        :, :1400
    ]
    assert len(where(picture, (0xE4, 0xE6, 0xE8), 2)[0]) > 10_000


def test_easy_left_hard_right(by_hand, tmp_path):
    images = np.tile(COLORS[:, None, None].astype("uint8"), (1, 8, 8, 1))
    picture = pixels(
        profile.easy_and_hard(by_hand, images, BY_HAND_LABELS, ["a", "b"], tmp_path / "a.png", k=1)
    )
    red, green, blue, purple = (where(picture, COLORS[i]) for i in (0, 2, 4, 5))
    for easy, hard in ((red, green), (blue, purple)):
        assert easy[1].max() < hard[1].min()
        assert easy[0].min() == hard[0].min()
    assert red[0].max() < blue[0].min()


def test_chosen_classes_only(by_hand, tmp_path):
    images = np.tile(COLORS[:, None, None].astype("uint8"), (1, 8, 8, 1))
    path = profile.easy_and_hard(
        by_hand, images, BY_HAND_LABELS, ["a", "b"], tmp_path / "a.png", classes=[1]
    )
    assert len(where(pixels(path), COLORS[4])[0]) and not len(where(pixels(path), COLORS[0])[0])


@pytest.mark.parametrize("old", [None, b"an older picture"])
def test_nothing_half_written(by_hand, tmp_path, monkeypatch, old):
    from matplotlib.figure import Figure

    path = tmp_path / "a.png"
    if old:
        path.write_bytes(old)

    def savefig(self, target, **kwargs):
        target.write_bytes(b"half a pic")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", savefig)
    with pytest.raises(OSError, match="disk full"):
        profile.macs_histogram(by_hand, path)
    assert list(tmp_path.iterdir()) == ([path] if old else [])
    assert not old or path.read_bytes() == old


def test_an_older_picture_is_replaced(by_hand, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    assert profile.macs_histogram(by_hand, path) == path
    assert path.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [path]


def test_settings_and_figures_of_the_user_stay(by_hand, tmp_path):
    import matplotlib
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams)
    profile.macs_histogram(by_hand, tmp_path / "a.png")
    assert dict(matplotlib.rcParams) == before
    assert not pyplot.get_fignums()


def test_errors(by_hand, tmp_path):
    path, images = tmp_path / "sub" / "a.png", np.zeros((6, 8, 8, 3), "uint8")
    with pytest.raises(ValueError, match="ends in .png"):
        profile.macs_histogram(by_hand, tmp_path / "sub" / "a.pdf")
    with pytest.raises(ValueError, match="2 classes and 3 names"):
        profile.execution_rates(by_hand, BY_HAND_LABELS, ["a", "b", "c"], path)
    with pytest.raises(ValueError, match="6 images were measured and 5"):
        profile.easy_and_hard(by_hand, images[:5], BY_HAND_LABELS, ["a", "b"], path)
    with pytest.raises(ValueError, match="of class 7"):
        profile.easy_and_hard(by_hand, images, BY_HAND_LABELS, ["a", "b"], path, classes=[7])
    plain = profile.measure(zoo.load("resnet20", weights=None), np.zeros((2, 32, 32, 3), "uint8"))
    with pytest.raises(ValueError, match="measure a network with gates"):
        profile.execution_rates(plain, [0, 1], NAMES, path)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def puppet():
    return generated()


def test_pictures_of_a_puppet(puppet, tmp_path):
    x = made_up(60, seed=4)
    paths = [
        profile.complexity_histogram(puppet, x, tmp_path / "a.png"),
        profile.simple_and_complex(puppet, x.astype("uint8"), tmp_path / "b.png", k=4),
        profile.kernels_along_ode(puppet, tmp_path / "c.png"),
        profile.stored_bytes(puppet, tmp_path / "d.png"),
    ]
    for path in paths:
        assert pixels(path).shape[1] == 1700
        assert len(np.unique(pixels(path))) > 50


def test_the_simplest_image_is_first(puppet, tmp_path):
    x = np.clip(np.random.default_rng(0).normal(128, 60, (10, 16, 16, 3)), 0, 255)
    x[7] = (250, 0, 0)  # flat: no image is simpler
    picture = pixels(profile.simple_and_complex(puppet, x, tmp_path / "a.png", k=3))
    rows, columns = where(picture, (250, 0, 0))
    assert len(rows) > 10_000 and columns.max() < 600 and rows.min() < len(picture) / 2


def test_more_levels_come_near_to_the_exact_form(tmp_path):
    model = generated(adapt="parameters")
    found = profile.levels_curve(model, made_up(60, seed=4), tmp_path / "a.png", (1, 4, 16))
    differences, agreements = zip(*found.values(), strict=True)
    assert (
        list(found) == [1, 4, 16] and differences[0] > 2 * differences[1] > 4 * differences[2] > 0
    )
    assert agreements[2] > agreements[0] and agreements[2] > 0.9
    assert pixels(tmp_path / "a.png").shape[1] == 1700


def test_pictures_of_a_puppet_refuse(puppet, tmp_path):
    with pytest.raises(ValueError, match="levels 0 to 3, not 4"):
        profile.kernels_along_ode(puppet, tmp_path / "a.png", level=4)
    with pytest.raises(ValueError, match="k is a number of images, 1 or more, not 0"):
        profile.simple_and_complex(puppet, made_up(5), tmp_path / "a.png", k=0)
    with pytest.raises(ValueError, match="has no level 0"):
        profile.stored_bytes(generated(levels=None), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
