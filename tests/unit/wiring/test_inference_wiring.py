"""What the inference process makes of its settings."""

from consumers.inference.pool import PoolSettings
from turnstream.settings import Settings
from turnstream.wiring.inference import loop_settings


def test_a_pool_may_have_its_own_number_of_turns_at_once() -> None:
    settings = Settings(pools={"fast": PoolSettings(turns_in_flight_max=3), "capable": PoolSettings()})
    assert loop_settings(settings, "fast").hold.in_flight_max == 3
    assert loop_settings(settings, "capable") == settings.loops.inference
