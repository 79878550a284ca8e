"""A clock for tests."""

START = 6000.0  # a minute begins


class Clock:
    """Time that a test moves."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
