import numpy as np
import pytest

from keras_dynnets import profile
from keras_dynnets.studies.published import paper_points, published_points
from keras_dynnets.zoo.weights.published import records


def pixels(path):
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def where(picture, color, tolerance=12):
    """Rows and columns of the pixels of a colour."""
    return np.nonzero((abs(picture - color) <= tolerance).all(-1))


def test_points_are_the_records():
    found = {
        p.name: p for p in published_points(records("tissue_mlp") + records("dmnn20"))["cifar10"]
    }
    (record,) = [r for r in records("dmnn20") if r.tag == "cifar10"]
    point = found["dmnn20"]
    assert (point.accuracy, point.macs, point.bytes) == (
        record.metrics["accuracy"],
        record.macs_mean,
        record.bytes,
    )
    assert point.macs < record.macs


def test_models_of_a_cnsn_have_points_of_their_own():
    (record,) = [r for r in records("cnsn_vgg16_half") if r.tag == "cifar10_distilled"]
    base, first, second = published_points([record])["cifar10"]
    assert second.accuracy == record.metrics["sub_models"]["sub2"] and second.bytes is None
    assert base.macs > first.macs > second.macs > 0.3 * base.macs
    assert base.bytes == record.bytes


def test_the_picture(tmp_path):
    picture = pixels(
        profile.published_picture(records("tissue_mlp") + records("dmnn20"), tmp_path / "a.png")
    )
    assert picture.shape[1] == 1700
    for color in ((0x2F, 0x6E, 0xA5), (0xB3, 0x40, 0x2E)):
        rows, _ = where(picture, color)
        assert len(rows) > 500 and np.ptp(rows) > 0.4 * len(picture), (
            "both kinds of points in both rows"
        )
    with pytest.raises(ValueError, match="nothing is published"):
        profile.published_picture([], tmp_path / "b.png")


def test_the_papers_bytes_are_four_a_parameter():
    by_name = {p.name: p for p in paper_points("cifar10")}
    assert by_name["Tissue VGG-16"].bytes == 4 * 4.04e6
    assert by_name["Puppet-CNN"].bytes == 1.08e6
