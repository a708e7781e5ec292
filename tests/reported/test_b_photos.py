"""Image files of every kind are read once, in one way (rows B1 to B5 and B8).

The files are made here. Two readers have to agree pixel by pixel: that of the package, and that of
`export/classify.py`, which runs without it; and both with a reference made of Pillow's own steps.
"""

import importlib.util
import io
import json
import random
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from keras_dynnets.core import photos
from keras_dynnets.data import read_image
from keras_dynnets.training.data.image_files import ImageFiles

ROOT = Path(__file__).parents[2]


def kit():
    """The module export/classify.py."""
    spec = importlib.util.spec_from_file_location("classify", ROOT / "export" / "classify.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CLASSIFY = kit()


def smooth(width=60, height=44, bands=3, seed=0):
    """A picture of colours that change slowly and differ in every corner."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 5, bands)).astype("uint8")
    large = [
        np.asarray(Image.fromarray(small[..., i]).resize((width, height), Image.Resampling.BICUBIC))
        for i in range(bands)
    ]
    return np.stack(large, -1) if bands > 1 else large[0]


def with_orientation(image, path, orientation, **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif, **options)


def palette_with_transparency():
    image = Image.fromarray(smooth()).quantize(16)
    return image, bytes(range(0, 256, 16))


def png(depth, colour, rows, width, **chunks):
    """A PNG file made by hand, of kinds that Pillow does not write."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *(chunk(k.encode(), v) for k, v in chunks.items())]
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IDAT", pixels), chunk(b"IEND", b"")])


def odd_files(folder):
    """Makes files of many kinds; all can be read."""
    photo = Image.fromarray(smooth())
    alpha = smooth(bands=1, seed=5)
    clear = Image.fromarray(np.dstack([smooth(), alpha]))
    gray = Image.fromarray(smooth(bands=1))
    for orientation in range(1, 9):
        for suffix in ("jpg", "png", "webp", "tif"):
            options = {"lossless": True} if suffix == "webp" else {}
            path = folder / f"exif{orientation}.{suffix}"
            with_orientation(photo, path, orientation, **options)
        with_orientation(clear, folder / f"clear_exif{orientation}.png", orientation)
        # Large enough to be decoded at a reduced size, which does not divide width and height.
        large = Image.fromarray(smooth(1001, 667))
        with_orientation(large, folder / f"large_exif{orientation}.jpg", orientation, quality=95)
    clear.save(folder / "rgba.png")
    clear.save(folder / "rgba.webp", lossless=True)
    clear.save(folder / "rgba.tif")
    clear.convert("LA").save(folder / "la.png")
    clear.convert("LA").save(folder / "la.tif")
    drawn, values = palette_with_transparency()
    drawn.save(folder / "palette.png")
    drawn.save(folder / "palette_alpha.png", transparency=values)
    drawn.save(folder / "palette_one.png", transparency=3)
    drawn.save(folder / "palette.gif")
    drawn.save(folder / "palette_one.gif", transparency=3)
    photo.save(folder / "colour_key.png", transparency=photo.getpixel((30, 20)))
    gray.save(folder / "gray_key.png", transparency=gray.getpixel((30, 20)))
    gray.save(folder / "gray.png")
    gray.save(folder / "gray.jpg")
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    photo.convert("CMYK").save(folder / "cmyk.tif")
    photo.convert("YCbCr").save(folder / "ycbcr.tif")
    photo.convert("1").save(folder / "one_bit.png")
    photo.convert("1").save(folder / "one_bit.tif")
    photo.save(folder / "photo.bmp")
    photo.save(folder / "progressive.jpg", progressive=True)
    other = Image.fromarray(smooth(seed=9))
    for suffix in ("gif", "webp", "png", "tif"):
        options = {"lossless": True} if suffix == "webp" else {}
        photo.save(folder / f"several.{suffix}", save_all=True, append_images=[other], **options)
    clear.save(folder / "clear_frames.gif", save_all=True, append_images=[other])
    photo.save(folder / "several.mpo", save_all=True, append_images=[other])
    for name, size in (
        ("wide", (180, 60)),
        ("high", (50, 150)),
        ("exact", (32, 24)),
        ("dot", (1, 1)),
    ):
        Image.fromarray(smooth(*size)).save(folder / f"{name}.png")
        Image.fromarray(smooth(*size)).save(folder / f"{name}.jpg")
    deep = np.random.default_rng(1).integers(0, 65536, (44, 60)).astype("uint16")
    Image.fromarray(deep).save(folder / "deep.png")
    Image.fromarray(deep).save(folder / "deep.tif")
    Image.fromarray(deep.astype(">u2")).save(folder / "deep_big.tif")
    Image.fromarray(deep).save(folder / "deep.pgm")
    return sorted(folder.iterdir())


def reference(path, size, channels):
    """The same by Pillow's own steps: whole decoding, `exif_transpose`, pasted on white."""
    height, width = size
    with Image.open(path) as opened:
        opened.load()
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I"):
            image = Image.fromarray((np.asarray(image) // 256).astype("uint8"))
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
            ground = Image.new("RGB", image.size, (255, 255, 255))
            ground.paste(image, mask=image.getchannel("A"))
            image = ground
        image = image.convert("RGB").convert("L") if channels == 1 else image.convert("RGB")
    if image.size == (width, height):
        return np.asarray(image).reshape(height, width, channels)
    shape = np.array([width, height])
    part = shape * (np.array(image.size) / shape).min() * 224 / 256
    start = (np.array(image.size) - part) / 2
    box = (*start, *(start + part))
    image = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
    return np.asarray(image).reshape(height, width, channels)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return odd_files(tmp_path_factory.mktemp("odd"))


@pytest.mark.parametrize(
    ("size", "channels"), [((24, 32), 3), ((40, 40), 1), ((64, 20), 3)], ids=str
)
def test_both_readers_and_the_reference_agree_on_odd_files(files, size, channels):
    """B1 to B5: orientation, transparency, depth, colour spaces, several frames, shapes."""
    assert len(files) > 80
    for path in files:
        ours = read_image(path, size, channels)
        assert ours.dtype == "uint8" and ours.shape == (*size, channels), path.name
        np.testing.assert_array_equal(CLASSIFY.read_image(path, size, channels), ours, path.name)
        expected = reference(path, size, channels).astype(int)
        if path.name.startswith("large"):  # decoded at a reduced size
            assert np.abs(ours - expected).mean() < 1, path.name
        else:
            np.testing.assert_array_equal(ours, expected, path.name)


def test_the_kit_holds_the_very_lines_of_the_package():
    code = Path(photos.__file__).read_text().split("\n# ---- ")[1].split("\n", 1)[1]
    assert len(code) > 2000 and code.strip() in (ROOT / "export" / "classify.py").read_text()


def test_a_turned_photo_is_read_upright(tmp_path):
    """B1: files of one picture that are stored in eight orientations are the same picture."""
    upright = smooth(120, 90)
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }
    for orientation, stored in turned.items():
        for suffix in ("png", "webp", "tif", "jpg"):
            options = {"lossless": True} if suffix == "webp" else {}
            path = tmp_path / f"{orientation}.{suffix}"
            with_orientation(Image.fromarray(stored), path, orientation, **options)
            found = read_image(path, (30, 40)).astype(int)
            exact = read_image(tmp_path / f"1.{suffix}", (30, 40)).astype(int)
            assert np.abs(found - exact).max() <= (20 if suffix == "jpg" else 0), path.name
            assert ImageFiles([path], (90, 120))[0].shape == (90, 120, 3)


@pytest.mark.filterwarnings("ignore")
def test_a_damaged_orientation_does_not_make_a_photo_unreadable(tmp_path):
    """B1: the pixels are right, and the camera's notes are not."""
    for i, exif in enumerate((b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0no notes")):
        path = tmp_path / f"{i}.jpg"
        Image.fromarray(smooth()).save(path, exif=exif)
        Image.fromarray(smooth()).save(tmp_path / "plain.jpg")
        np.testing.assert_array_equal(read_image(path, 32), read_image(tmp_path / "plain.jpg", 32))


def test_a_drawing_on_transparent_ground_is_on_white(tmp_path):
    """B2: a black drawing on a transparent ground, in every form that transparency has."""
    alpha = np.zeros((40, 40), "uint8")
    alpha[10:20, 10:20] = 255
    drawing = Image.fromarray(np.dstack([np.zeros((40, 40, 3), "uint8"), alpha]))
    on_white = np.where(alpha[..., None] == 255, 0, np.full((40, 40, 3), 255)).astype("uint8")
    drawing.save(tmp_path / "rgba.png")
    drawing.save(tmp_path / "rgba.webp", lossless=True)
    drawing.convert("LA").save(tmp_path / "la.png")
    palette = Image.fromarray((alpha == 255).astype("uint8"))
    palette.putpalette([9, 9, 9, 0, 0, 0])
    palette.save(tmp_path / "index.png", transparency=0)
    palette.save(tmp_path / "index.gif", transparency=0)
    palette.save(tmp_path / "list.png", transparency=bytes([0, 255]))
    rows = [bytes(np.where(line, 0, 9000).astype(">u2").tobytes()) for line in alpha]
    key = struct.pack(">H", 9000)
    (tmp_path / "deep.png").write_bytes(png(16, 0, rows, 40, tRNS=key))
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(read_image(path, 40), on_white, path.name)
        np.testing.assert_array_equal(ImageFiles([path], 40, 1)[0], on_white[..., :1], path.name)
        parts = ImageFiles([path], 40).cropped([0] * 3, np.random.default_rng(0))
        assert (parts == 255).mean() > 0.5, path.name


def test_deep_gray_keeps_its_upper_bits(tmp_path):
    """B3: the value 8000 of 65,535 is 31 of 255, in training and in the kit."""
    deep = Image.fromarray(np.full((20, 20), 8000, "uint16"))
    for name in ("a.png", "a.tif", "a.pgm"):
        deep.save(tmp_path / name)
    Image.fromarray(np.full((20, 20), 8000, ">u2")).save(tmp_path / "b.tif")
    for path in tmp_path.iterdir():
        for read in (read_image, CLASSIFY.read_image):
            np.testing.assert_array_equal(read(path, 20), 31, path.name)
        np.testing.assert_array_equal(ImageFiles([path], 16, 1)[:], 31, path.name)


def test_numbers_without_a_largest_one_are_refused(tmp_path):
    """B3: nobody can say how bright 8000 is where pixels are 32-bit numbers or fractions."""
    Image.fromarray(np.full((20, 20), 8000, "int32")).save(tmp_path / "a.tif")
    Image.fromarray(np.full((20, 20), 0.5, "float32")).save(tmp_path / "b.tif")
    for path in tmp_path.iterdir():
        for read in (read_image, CLASSIFY.read_image):
            with pytest.raises(ValueError, match=f"{path.name} cannot .* 8 or 16 bits a channel"):
                read(path, 20)


def test_a_wide_photo_has_its_middle_cut_out_everywhere(tmp_path):
    """B4: the object in the middle of a photo of 3:1 keeps its shape."""
    wide = np.zeros((64, 192, 3), "uint8")
    wide[4:60, 68:124] = 255  # the middle 56 of 64 pixels
    Image.fromarray(wide).save(tmp_path / "wide.png")
    for read in (read_image, CLASSIFY.read_image):
        assert (read(tmp_path / "wide.png", 56) == 255).all()
    assert (ImageFiles([tmp_path / "wide.png"], 56)[0] == 255).all()
    # Of another shape: the largest part of that shape, made smaller in the same way.
    assert (read_image(tmp_path / "wide.png", (56, 28)) == 255).all()
    assert read_image(tmp_path / "wide.png", (14, 42)).mean() == pytest.approx(255 / 3, abs=9)


def damaged(folder):
    """Makes files that cannot be read, for reasons at every step of reading."""
    image = Image.fromarray(smooth())
    image.save(folder / "whole.png")
    image.save(folder / "whole.jpg")
    content = (folder / "whole.png").read_bytes()
    (folder / "cut.png").write_bytes(content[: len(content) // 2])
    jpeg = (folder / "whole.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("no image")
    (folder / "chunk.png").write_bytes(content.replace(b"IDAT", b"I\0AT"))
    (folder / "checksum.png").write_bytes(content.replace(b"IHDR", b"IHDS"))
    (folder / "colours.png").write_bytes(png(8, 3, [bytes(8)] * 8, 8, PLTE=bytes(3 * 300)))
    rows = [bytes(40_000)] * 2
    header = bytearray(png(8, 0, rows, 40_000))
    header[20:24] = struct.pack(">I", 40_000)
    header[29:33] = struct.pack(">I", zlib.crc32(bytes(header[12:29])))
    (folder / "bomb.png").write_bytes(bytes(header))
    (folder / "none.png").write_bytes(png(8, 0, [], 0))
    (folder / "folder.jpg").mkdir()
    (folder / "whole.png").unlink()
    (folder / "whole.jpg").unlink()
    return [*folder.iterdir(), folder / "missing.jpg"]


def test_a_file_that_cannot_be_read_is_named_in_one_line(tmp_path):
    """B5: bombs, bad chunks, oversized palettes, cut files: one line that names the file."""
    for path in damaged(tmp_path):
        files = ImageFiles([path], 20)
        for read in (
            lambda p: read_image(p, 20),
            lambda p: CLASSIFY.read_image(p, (20, 20), 3),
            lambda p, files=files: files[:],
            lambda p, files=files: files.cropped([0], np.random.default_rng(0)),
        ):
            with pytest.raises(ValueError, match="cannot be read as an image") as caught:
                read(path)
            message = str(caught.value)
            assert message.startswith(str(path)) and "\n" not in message and len(message) < 600
            assert message.endswith("replace the file or remove it")


@pytest.mark.filterwarnings("ignore")
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path):
    """B5: files with bytes changed at random raise nothing but this one error."""
    rng, path, refused = random.Random(0), tmp_path / "x", 0
    sources = []
    for name in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"):
        file = io.BytesIO()
        Image.fromarray(smooth(24, 20)).save(file, name)
        sources.append(file.getvalue())
    for i in range(300):
        content = bytearray(sources[i % len(sources)])
        for _ in range(rng.randint(1, 6)):
            content[rng.randrange(min(len(content), 400))] = rng.randrange(256)
        path.write_bytes(bytes(content))
        try:
            assert read_image(path, 16).shape == (16, 16, 3)
        except ValueError as error:
            refused += 1
            assert str(error).startswith(f"{path} cannot be read") and "\n" not in str(error)
    assert refused > 50


def test_wrong_sizes_and_channels(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    for size in (0, -1, 2.5, (3,), (3, 0), "32", None, (3, 3, 3)):
        with pytest.raises(ValueError, match="size is a number of pixels or a pair"):
            read_image(tmp_path / "a.png", size)
    with pytest.raises(ValueError, match="channels is 3 for colour or 1 for gray, not 4"):
        read_image(tmp_path / "a.png", 8, channels=4)


@pytest.fixture
def decoded(monkeypatch):
    """Notes the size at which Pillow decodes each file."""
    sizes, load = [], ImageFile.ImageFile.load

    def noted(self):
        loaded = load(self)
        sizes.append(self.size)
        return loaded

    monkeypatch.setattr(ImageFile.ImageFile, "load", noted)
    return sizes


@pytest.mark.parametrize(
    ("size", "expected"),
    [(400, (1000, 750)), (300, (500, 375)), (160, (250, 188)), (64, (125, 94)), (8, (125, 94))],
)
def test_large_jpegs_are_decoded_at_a_reduced_size(tmp_path, decoded, size, expected):
    """B8: as small as the target allows and no smaller."""
    Image.fromarray(smooth(1000, 750)).save(tmp_path / "a.jpg")
    Image.fromarray(smooth(750, 1000)).save(tmp_path / "b.jpg")
    with_orientation(Image.fromarray(smooth(1000, 750)), tmp_path / "c.jpg", 6)
    for name, sides in (("a", expected), ("b", expected[::-1]), ("c", expected)):
        decoded.clear()
        read_image(tmp_path / f"{name}.jpg", size)
        assert {*decoded} == {sides}


def test_small_jpegs_and_small_parts_are_decoded_whole(tmp_path, decoded):
    """B8: a random part counts, not the photo; of a small file the pixels are exact."""
    Image.fromarray(smooth(1000, 750)).save(tmp_path / "a.jpg")
    Image.fromarray(smooth(600, 450)).save(tmp_path / "b.jpg")
    photos.read_part(tmp_path / "a.jpg", (100, 100), 3, lambda w, h: (300, 300, 450, 450))
    assert {*decoded} == {(1000, 750)}
    decoded.clear()
    photos.read_part(tmp_path / "a.jpg", (100, 100), 3, lambda w, h: (300, 300, 500, 700))
    assert {*decoded} == {(500, 375)}
    decoded.clear()
    read_image(tmp_path / "b.jpg", 32)
    assert {*decoded} == {(600, 450)}


def test_a_reduced_size_changes_pixels_little_and_moves_nothing(tmp_path):
    """B8: the difference to whole decoding that the documents state, on a photo."""
    photo = Image.open(ROOT / "keras_dynnets" / "examples" / "cat.jpg").convert("RGB")
    large = photo.resize((1003, 669), Image.Resampling.BICUBIC)
    for orientation in range(1, 9):
        path = tmp_path / f"{orientation}.jpg"
        with_orientation(large, path, orientation, quality=92)
        for size in (224, 100, 32):
            ours = read_image(path, size).astype(int)
            difference = np.abs(ours - reference(path, (size, size), 3))
            assert 0 < difference.mean() < 1.5, (orientation, size)
            shifted = np.abs(np.roll(ours, 1, 1) - reference(path, (size, size), 3))
            assert difference.mean() < shifted.mean() / 3


@pytest.mark.parametrize(("batch", "expected"), [(None, 1), (1, 1), (8, 8)])
def test_the_kit_runs_files_of_a_fixed_batch(batch, expected, tmp_path, monkeypatch, capsys):
    """B8: a file that was exported with `batch_size=8` takes eight images in a call."""
    Image.fromarray(smooth()).save(tmp_path / "photo.png")
    (tmp_path / "m.onnx").touch()
    described = {"input": {"shape": [batch, 32, 24, 3]}, "labels": ["ants", "bees"]}
    (tmp_path / "m.onnx.json").write_text(json.dumps(described))
    image = read_image(tmp_path / "photo.png", (32, 24))

    def run(images):
        assert images.shape == (expected, 32, 24, 3) and images.dtype == "float32"
        assert (images == image).all()
        return np.array([[0.0, 9.0]] * expected, "float32")

    monkeypatch.setattr(CLASSIFY, "load", lambda path: run)
    arguments = ["classify", tmp_path / "m.onnx", tmp_path / "photo.png"]
    monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
    CLASSIFY.main()
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'photo.png'}: bees 100.0%")


def test_the_colour_key_of_a_16_bit_png_is_white(tmp_path):
    """B2: such a file has a colour of 16 bits a channel that stands for nothing."""
    rows = (b"\0" + struct.pack(">6H", 8000, 40000, 65535, 100, 200, 300)) * 2
    parts = [
        (b"IHDR", struct.pack(">2I5B", 2, 2, 16, 2, 0, 0, 0)),
        (b"tRNS", struct.pack(">3H", 8000, 40000, 65535)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    content = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    (tmp_path / "key.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    read = read_image(tmp_path / "key.png", 2)
    assert read[:, 0].min() == 255 and read[:, 1].max() < 2
