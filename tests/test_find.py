"""Which files of a folder are taken, skipped without a word, or counted as left out."""

import os
import socket
import threading
from collections import Counter
from pathlib import Path

import pytest

from keras_dae.denoise.work import list_work
from keras_dae.errors import UserError
from keras_dae.images.find import describe_left_out, find_files
from keras_dae.images.read import IMAGE_SUFFIXES


def found(folder):
    files, left_out = find_files(folder, IMAGE_SUFFIXES)
    return [str(file.relative_to(folder)) for file in files], left_out


def touch(folder, *names):
    for name in names:
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


@pytest.mark.parametrize(
    "name",
    [
        *("._x.jpg", ".x.png", ".ipynb_checkpoints/x.png", ".Trash-1000/files/x.png", ".cache/deep/x.png"),
        *("@eaDir/x.jpg/SYNOPHOTO_THUMB_M.jpg", "__MACOSX/x.png", "#recycle/x.png", "$RECYCLE.BIN/x.png"),
        *("System Volume Information/x.png", "lost+found/x.png", "sub/__MACOSX/x.png", "Thumbs.db", "desktop.ini"),
    ],
)
def test_what_systems_put_there_is_skipped_without_a_word(tmp_path, name):
    touch(tmp_path, name, "kept.png")
    assert found(tmp_path) == (["kept.png"], Counter())


def test_a_hidden_folder_can_be_given(tmp_path):
    touch(tmp_path, ".hidden/a.png", "__MACOSX/b.png")
    assert found(tmp_path / ".hidden")[0] == ["a.png"]
    assert found(tmp_path / "__MACOSX")[0] == ["b.png"]


def test_endings_of_jpeg_are_taken_and_others_are_counted(tmp_path):
    touch(tmp_path, "a.jfif", "b.JPE", "c.jpeg", "d.jpg", "e.gif", "sub/f.GIF", "g.heic", "h.avif", "README")
    files, left_out = found(tmp_path)
    assert files == ["a.jfif", "b.JPE", "c.jpeg", "d.jpg"]
    assert left_out == {".gif": 2, ".heic": 1, ".avif": 1, "without suffix": 1}
    assert describe_left_out(left_out).startswith("left out: 2 .gif, 1 ")


def test_the_line_stays_short_and_printable():
    left_out = Counter({f".{index}": 100 - index for index in range(20)} | {".a\nb": 1000})
    line = describe_left_out(left_out)
    assert line.startswith("left out: 1,000 .a\\nb, 100 .0, 99 .1, ")
    assert line.endswith(f", {sum(100 - index for index in range(7, 20)):,} others")


def test_only_regular_files_are_taken(tmp_path):
    touch(tmp_path, "a.png", "elsewhere/b.png")
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as unix_socket:
        unix_socket.bind(str(tmp_path / "socket.png"))
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "link.png").symlink_to("a.png")
    (tmp_path / "folder.png").symlink_to("elsewhere")
    (tmp_path / "gone.png").symlink_to("nowhere")
    (tmp_path / "self.png").symlink_to("self.png")
    files, left_out = found(tmp_path)
    assert files == ["a.png", "elsewhere/b.png", "gone.png", "link.png", "self.png"]  # broken links are reported later
    assert left_out == {"pipe(s) or device(s)": 3, "folder link(s)": 1}


def test_an_unreadable_subfolder_is_listed_like_a_file(tmp_path, monkeypatch):
    touch(tmp_path, "sub/a.png", "b.png")
    scandir = os.scandir

    def refuse(folder):  # as for a user without the right to read it; root has that right everywhere
        if Path(folder).name == "sub":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    assert found(tmp_path)[0] == ["b.png", "sub"]
    with pytest.raises(UserError, match="cannot read the folder"):
        find_files(tmp_path / "sub", IMAGE_SUFFIXES)


def test_no_folder(tmp_path):
    touch(tmp_path, "a.png")
    with pytest.raises(UserError, match="which is a file"):
        find_files(tmp_path / "a.png", IMAGE_SUFFIXES)
    with pytest.raises(UserError, match="which is not there"):
        find_files(tmp_path / "b", IMAGE_SUFFIXES)


def test_denoising_skips_and_counts_the_same(tmp_path, capsys):
    touch(tmp_path, "in/a.jfif", "in/._a.jfif", "in/@eaDir/b.png", "in/c.gif", "in/d.npz")
    os.mkfifo(tmp_path / "in/pipe.png")
    finished = []
    thread = threading.Thread(
        target=lambda: finished.append(list_work([tmp_path / "in"], tmp_path / "out")), daemon=True
    )
    thread.start()
    thread.join(20)
    assert [work.target.name for work in finished[0]] == ["a.jfif", "d.npz"]
    assert capsys.readouterr().err == "left out: 1 .gif, 1 pipe(s) or device(s)\n"


def test_a_pipe_that_is_given_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UserError, match="which is a pipe, a socket or a device"):
        list_work([tmp_path / "pipe.png"], tmp_path / "out")
