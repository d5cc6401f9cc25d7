import pytest
from numpy.testing import assert_allclose
from PIL import Image

from handeye import pictures
from handeye.envs import camera_domain
from handeye.pictures import PictureError


@pytest.fixture
def drawn():
    return camera_domain.labelled(8, seed=0, label_noise=False)


@pytest.fixture
def folder(tmp_path, drawn):
    pictures.write(tmp_path / "p", *drawn)
    return tmp_path / "p"


def edit_rows(folder, edit):
    path = folder / "labels.csv"
    rows = [line.split(",") for line in path.read_text().splitlines()]
    edit(rows)
    path.write_text("\n".join(",".join(row) for row in rows) + "\n")


def test_a_written_folder_reads_back_as_it_was_drawn(folder, drawn):
    shown, theta = pictures.read(folder)
    assert (shown == drawn[0]).all()
    assert_allclose(theta, drawn[1], atol=2e-6)


def test_the_header_states_the_units(folder):
    header = (folder / "labels.csv").read_text().splitlines()[0]
    assert header == "file,target_x_m,target_y_m,s1_rad,e1_rad,w1_rad"


def test_every_defect_is_reported_at_once_with_file_and_row(folder):
    png = sorted((folder / "images").iterdir())
    png[0].unlink()
    Image.new("L", (80, 84)).save(png[1])
    png[2].write_bytes(png[2].read_bytes()[:900])
    png[3].write_text("no picture")
    Image.new("I;16", (84, 84)).save(png[4])

    def spoil(rows):
        rows[5][1] = "nan"
        rows[6][3] = "9.5"
        rows[7][2] = "left"
        rows[8][0] = "000006.png"
        rows.append(["000007.png", "0.1"])

    edit_rows(folder, spoil)
    with pytest.raises(PictureError) as caught:
        pictures.read(folder)
    report = str(caught.value)
    for place in (
        "10 problems",
        "row 2: images/000000.png is missing",
        "row 3: 000001.png is 80×84, must be 84×84",
        "row 4: images/000002.png cannot be read",
        "row 5: images/000003.png cannot be read",
        "row 6: target_x_m must be in [-0.470, 1.030], got nan",
        "row 6: 000004.png has more than 8 bits a pixel",
        "row 7: s1_rad must be in [-2.197, 1.097], got 9.5",
        "row 8: target_y_m is not a number: 'left'",
        "row 9: 000006.png was named before in row 8",
        "row 10: 2 values, 6 needed",
    ):
        assert place in report


def test_a_folder_without_usable_labels_is_refused(tmp_path, folder):
    with pytest.raises(PictureError, match=r"labels.csv: cannot be read"):
        pictures.read(tmp_path)
    edit_rows(folder, lambda rows: rows.__delitem__(slice(1, None)))
    with pytest.raises(PictureError, match="no rows"):
        pictures.read(folder)
    edit_rows(folder, lambda rows: rows[0].__setitem__(1, "target_x_cm"))
    with pytest.raises(PictureError, match=r"row 1: the header must be file,target_x_m.*target_x_cm"):
        pictures.read(folder)
    (folder / "labels.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PictureError, match="cannot be read"):
        pictures.read(folder)


def test_a_table_saved_by_a_spreadsheet_is_read(folder):
    before, path = pictures.read(folder), folder / "labels.csv"
    path.write_text("\ufeff" + path.read_text().replace("\n", "\r\n") + "\r\n", encoding="utf-8", newline="")
    for part, again in zip(before, pictures.read(folder), strict=True):
        assert (part == again).all()


def test_colour_photographs_are_turned_grey(folder):
    Image.new("RGB", (84, 84), (255, 0, 0)).save(folder / "images" / "000000.png")
    assert (pictures.read(folder)[0][0] == 76).all()


def test_a_picture_too_large_to_be_opened_is_one_of_the_problems(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(PictureError, match="cannot be read"):
        pictures.read(folder)


def test_an_existing_folder_is_left_alone(folder, drawn):
    with pytest.raises(PictureError, match="exists already"):
        pictures.write(folder, *drawn)


def test_a_full_disk_leaves_nothing_half_written(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(Image.Image, "save", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(PictureError, match="No space left on device"):
        pictures.write(tmp_path / "new", *drawn)
    assert list(tmp_path.iterdir()) == []
