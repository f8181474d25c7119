"""The folder that gunicorn's processes keep their counts in."""

import threading
from fcntl import flock
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import mark_process_dead

from parley.core import counts
from parley.core.counts import FOLDER_VARIABLE, bury, exposition


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    return tmp_path


def write(folder: Path, of: str, pid: int, sample: str, value: float, **labels: str) -> None:
    """As a process writes it that has this one metric."""
    values = MmapedDict(str(folder / f"{of}_{pid}.db"))
    name = sample.removesuffix("_bucket").removesuffix("_sum")
    key = mmap_key(name, sample, [*labels], [*labels.values()], "Help.")
    values.write_value(key, value, 0.0)
    values.close()


def told() -> set[str]:
    lines = exposition(CollectorRegistry()).decode().splitlines()
    return {line for line in lines if not line.startswith("#")}


def work(folder: Path, pid: int) -> None:
    write(folder, "counter", pid, "things_total", 2, kind="good")
    write(folder, "histogram", pid, "time_bucket", 3, le="1.0")
    write(folder, "histogram", pid, "time_bucket", 1, le="+Inf")
    write(folder, "histogram", pid, "time_sum", 7.5)
    write(folder, "gauge_livesum", pid, "held", 1)


WHOLE = {
    'things_total{kind="good"} 6.0',
    'time_bucket{le="1.0"} 9.0',
    'time_bucket{le="+Inf"} 12.0',
    "time_count 12.0",
    "time_sum 22.5",
}


class TestBury:
    def test_what_the_dead_counted_stays_and_what_they_held_does_not(self, folder: Path):
        for pid in (11, 12, 13):
            work(folder, pid)
        assert WHOLE | {"held 3.0"} == told()

        bury(folder, [11])
        bury(folder, [12])

        assert WHOLE | {"held 1.0"} == told()

    def test_the_dead_share_their_files(self, folder: Path):
        for pid in range(11, 31):
            work(folder, pid)
            bury(folder, [pid])

        assert {"counter_dead.db", "histogram_dead.db"} == {path.name for path in folder.iterdir()}

    def test_one_who_counted_nothing_leaves_nothing(self, folder: Path):
        bury(folder, [11])

        assert [] == [*folder.iterdir()]

    def test_one_who_was_killed_as_it_began_to_count_leaves_nothing(self, folder: Path):
        """An empty file is none to the library, and whoever reads it breaks off."""
        (folder / "counter_11.db").touch()

        bury(folder, [11])

        assert [] == [*folder.iterdir()]

    def test_another_whose_number_ends_alike_is_alive(self, folder: Path):
        work(folder, 111)
        bury(folder, [11])

        assert "held 1.0" in told()

    def test_who_has_it_open_and_stands_still_is_not_waited_for_for_long(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(counts, "PATIENCE_SECONDS", 0.01)
        work(folder, 11)
        before = told() - {"held 1.0"}
        dead = [11]

        with counts._alone(folder), pytest.raises(TimeoutError):  # noqa: SLF001 - as a reader does
            bury(folder, dead)

        assert before == told()
        assert [11] == dead

    def test_whom_a_reader_kept_from_it_goes_with_the_next_one(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """Else a folder that is read all the time would grow with each process that dies."""
        monkeypatch.setattr(counts, "PATIENCE_SECONDS", 0.01)
        for pid in (11, 12, 13):
            work(folder, pid)
        dead = [11]
        with counts._alone(folder):  # noqa: SLF001 - as a reader does
            with pytest.raises(TimeoutError):
                bury(folder, dead)
            dead.append(12)
            with pytest.raises(TimeoutError):
                bury(folder, dead)
        assert WHOLE | {"held 1.0"} == told()

        bury(folder, dead)

        assert [] == dead
        assert WHOLE | {"held 1.0"} == told()
        assert {"counter_dead.db", "counter_13.db"} == {
            path.name for path in folder.glob("counter_*")
        }


class TestExposition:
    def test_a_file_that_a_process_is_just_making_is_passed_over(self, folder: Path):
        """It is empty for a moment, and the library breaks off at one that is."""
        work(folder, 11)
        before = told()
        (folder / "counter_12.db").touch()

        assert before == told()

    def test_nor_does_it_break_off_at_what_one_held_who_dies_just_then(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        for pid in (11, 12):
            work(folder, pid)
        listed = Path.glob

        def list_and_let_die(path: Path, pattern: str) -> list[Path]:
            found = [*listed(path, pattern)]
            mark_process_dead(12, str(path))
            return found

        monkeypatch.setattr(Path, "glob", list_and_let_die)

        assert "held 1.0" in told()

    def test_who_asks_while_two_are_joined_waits_for_it(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """Else a count would be there twice, or not at all, and every rate of it wrong."""
        work(folder, 11)
        # Either it waits, or it has answered: one of them is seen, and only then the file is back.
        is_seen = threading.Event()
        monkeypatch.setattr(counts, "flock", partial(_tell_and_lock, is_seen))
        answers: list[set[str]] = []

        def ask() -> None:
            answers.append(told())
            is_seen.set()

        asking = threading.Thread(target=ask)
        with counts._alone(folder):  # noqa: SLF001 - as `bury` does
            is_seen.clear()
            (folder / "counter_11.db").rename(folder / "not-there-now")
            asking.start()
            assert is_seen.wait(timeout=60)
            (folder / "not-there-now").rename(folder / "counter_11.db")
        asking.join(timeout=60)

        assert ['things_total{kind="good"} 2.0'] == [
            line for line in answers[0] if line.startswith("things")
        ]


def _tell_and_lock(is_seen: threading.Event, descriptor: int, how: int) -> None:
    is_seen.set()
    flock(descriptor, how)
