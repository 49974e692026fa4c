"""When a process says that it is ready."""

from turnstream.telemetry.readiness import NOT_STARTED, Readiness


def test_a_process_whose_work_has_not_begun_is_not_ready() -> None:
    assert Readiness().failing() == (NOT_STARTED,)


def test_a_process_is_ready_while_every_check_holds() -> None:
    reading = False
    readiness = Readiness()
    readiness.require("log", lambda: True)
    readiness.require("tail", lambda: reading)
    assert readiness.failing() == ("tail",)
    reading = True
    assert readiness.failing() == ()
