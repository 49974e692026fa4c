"""A pool whose server is not there, and one that is: the turn goes over, and its answer comes from the other."""

import pytest

from consumers.inference.pool import BackendKind, PoolSettings
from consumers.inference.stage import make_backend
from schemas import serde
from schemas.events import Route
from schemas.tokens import Finished
from schemas.topics import INFERENCE_REQUESTS
from tests.integration.inference.conftest import Backend
from tests.integration.inference.triton_servers import free_port
from tests.unit.inference.inference_fakes import World, make_request, receive

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

CAPABLE = Route(model="bigger", pool="capable")


@pytest.mark.parametrize("kind", list(BackendKind))
async def test_a_turn_goes_from_a_server_that_is_not_there_to_one_that_is(kind: BackendKind, backend: Backend) -> None:
    address = f"127.0.0.1:{free_port()}"
    gone = make_backend(PoolSettings(backend=kind, url=address if kind is BackendKind.TRITON else f"http://{address}"))
    world = World()
    request = make_request(text="[[demo first_ms=1 gap_ms=1 tokens=20]]")
    await world.stage(backend=gone)(receive(request.model_copy(update={"fallbacks": (CAPABLE,)})))
    topic = INFERENCE_REQUESTS["capable"]
    [record] = world.log.memory.records(topic.name)
    await world.stage("theirs", backend)(receive(serde.decode(topic, record.value)))
    assert isinstance(world.log.answer().state.terminal, Finished)
    assert world.log.answer().text.endswith(" 20")
    [bill] = world.log.bills()
    assert (bill.model, bill.pool) == ("bigger", "capable")
    await gone.close()
