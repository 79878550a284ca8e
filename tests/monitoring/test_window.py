import pytest

from service.monitoring.window import moment_text, read_moment


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1970-01-01", 0),
        ("2026-01-01T00:00:00Z", 1_767_225_600_000_000),
        ("2026-01-01t00:00:00.25z", 1_767_225_600_250_000),
        ("2026-01-01 01:30:00+01:30", 1_767_225_600_000_000),
        ("2026-01-01T00:00:00.123456789Z", 1_767_225_600_123_456),
    ],
)
def test_a_moment_is_in_microseconds_of_utc(text: str, moment: int) -> None:
    assert read_moment(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026",
        "2026-1-1",
        "20260101",
        "2026-02-30",
        "2026-01-01T00:00:00",
        "2026-01-01T25:00:00Z",
        "2026-01-01T00:00Z",
        "2026-W01-1",
        "1969-12-31",
        "0001-01-01T00:00:00+23:59",
        "2026-01-01\n",
        "٢٠٢٦-01-01",
        "now",
    ],
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a date"):
        read_moment(text)


def test_a_written_moment_is_read_again() -> None:
    for moment in (0, 1_767_225_600_000_001, 1_767_225_600_250_000):
        assert read_moment(moment_text(moment)) == moment
