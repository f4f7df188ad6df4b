"""Files are written completely or not at all, and errors name the file."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from ts2net.errors import one_line
from ts2net.files import check_writable, plain_name, whole_file, write_errors_named, write_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_and_bytes_arrive_as_they_are(tmp_path: Path) -> None:
    write_whole(tmp_path / "text", "ä\r\nb\n")
    write_whole(tmp_path / "bytes", b"\x00\xff", locked=True)
    assert (tmp_path / "text").read_bytes() == "ä\r\nb\n".encode()
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff"
    assert names(tmp_path) == ["bytes", "text"]


@pytest.mark.parametrize("failure", [ValueError("no picture"), KeyboardInterrupt()])
def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path, failure: BaseException) -> None:
    file = tmp_path / "file"
    file.write_text("old")

    def write_half() -> None:
        with whole_file(file) as partial:
            partial.write_text("half")
            raise failure

    with pytest.raises(type(failure)):
        write_half()
    assert file.read_text() == "old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "src/copied.py"),
        OSError(errno.ENOSPC, "No space left on device"),
        shutil.Error([("src/a.py", "out/a.py", "[Errno 28] No space left on device: 'out/a.py'")]),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_an_error_of_writing_names_what_was_to_be_written(error: Exception, tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match=rf"^\[Errno 28\] No space left on device: '{tmp_path}'$"),
        write_errors_named(tmp_path),
    ):
        raise error
    other = FileNotFoundError(errno.ENOENT, "No such file or directory", "src/copied.py")
    with pytest.raises(FileNotFoundError, match=r"src/copied\.py"), write_errors_named(tmp_path):
        raise other


def test_a_reader_sees_the_old_file_until_the_block_ends(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    with whole_file(file) as partial:
        partial.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new"


def test_writers_of_one_file_do_not_share_a_partial_file(tmp_path: Path) -> None:
    code = "import sys; from ts2net.files import whole_file\nwith whole_file(sys.argv[1]) as partial: print(partial)"
    code += "; partial.touch()"
    with whole_file(tmp_path / "file") as ours:
        done = subprocess.run([sys.executable, "-c", code, tmp_path / "file"], capture_output=True, text=True)
        assert done.returncode == 0
        assert done.stdout.strip() != str(ours)
        ours.write_text("ours")
    assert (tmp_path / "file").read_text() == "ours"


def test_a_locked_writer_overwrites_what_a_killed_one_left(tmp_path: Path) -> None:
    code = "import os, sys; from ts2net.files import plain_name, whole_file\n"
    code += "with whole_file(sys.argv[1], locked=True) as partial: partial.touch(); os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "file"])
    assert done.returncode == -signal.SIGKILL
    assert names(tmp_path) == [".file.part"]
    write_whole(tmp_path / "file", "whole", locked=True)
    assert names(tmp_path) == ["file"]


def test_errors_name_the_file_itself(tmp_path: Path) -> None:
    file = tmp_path / "no" / "file"
    with pytest.raises(FileNotFoundError) as raised:
        write_whole(file, "text")
    assert one_line(raised.value) == f"{file}: No such file or directory"


def test_errors_of_what_is_read_keep_their_name(tmp_path: Path) -> None:
    source = tmp_path / "source"
    with pytest.raises(FileNotFoundError) as raised, whole_file(tmp_path / "file") as partial:
        partial.write_bytes(source.read_bytes())
    assert raised.value.filename == str(source)


FILL = """
import sys
from ts2net.errors import one_line, report_error
from ts2net.files import plain_name, write_whole
try:
    write_whole(sys.argv[1], bytes(10**6))
except OSError as error:
    report_error(one_line(error))
"""


def test_a_full_disk_is_named_with_the_file(tmp_path: Path) -> None:
    """The error on a full disk names the file, on a real file system of 64 kB that only this process sees."""
    mount = f"mount -t tmpfs -o size=64k none {tmp_path}"
    if subprocess.run(["unshare", "-Urm", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    script = f'{mount} && echo old > {tmp_path}/file && "$@"; cat {tmp_path}/file; ls -A {tmp_path}'
    command = ["unshare", "-Urm", "sh", "-c", script, "sh", sys.executable, "-c", FILL, tmp_path / "file"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stderr == f"error: {tmp_path}/file: {os.strerror(errno.ENOSPC)}\n"
    assert done.stdout == "old\nfile\n"


def test_what_can_not_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    check_writable(tmp_path / "new")
    (tmp_path / "old").touch()
    check_writable(tmp_path / "old")
    os.mkfifo(tmp_path / "pipe")
    for path, sentence in {
        tmp_path: f"{tmp_path} is a folder; expected a page",
        tmp_path / "pipe": f"{tmp_path}/pipe is a device or a pipe; expected a page",
        tmp_path / "no" / "page": f"cannot write {tmp_path}/no/page: there is no folder {tmp_path}/no",
    }.items():
        with pytest.raises(OSError, match=f"^{sentence}$"):
            check_writable(path, "a page")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="is read-only"):
        check_writable(tmp_path / "file")


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("Strand (2).MP4", ("Strand (2)", ".MP4")),
        ("a; rm -rf $HOME.mp4", ("a- rm -rf -HOME", ".mp4")),
        ("..\\../evil\n.mp4", ("evil", ".mp4")),
        (".hidden", ("hidden", "")),
        ("???", ("video", "")),
        ("a.p\x00df", ("a", "")),
        ("雨" * 100 + ".mkv", ("雨" * 40, ".mkv")),
        ("\udcff.mp4", ("video", ".mp4")),
    ],
)
def test_names_for_files_are_plain(name, plain):
    assert plain_name(name) == plain
