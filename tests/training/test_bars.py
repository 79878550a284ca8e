"""The picture of means with their standard deviations."""

from service.training.pictures import bars
from service.training.seeds import Spread


def test_bars_name_every_group_and_every_series() -> None:
    spread = Spread((0.4, 0.6))
    svg = bars({"focal": {"raw": spread, "calibrated": spread}, "mixup": {"raw": spread}}, label="cost per row")
    assert svg.startswith("<svg") or "<svg" in svg[:200]
    assert len(svg) < 60_000
    assert svg.count("<path") >= 3
