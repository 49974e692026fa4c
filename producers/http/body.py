"""Reading a request body within bounds of size and time."""

import asyncio
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Receive

from producers.http.errors import body_too_large
from producers.http.refused import RequestRefused
from schemas.errors import invalid_request

# Clients read the response only after they have sent their body: a connection that is closed under a body
# a little too large shows them a reset instead of the 413. So much is read and thrown away, as a multiple of the limit.
_DISCARDED_BODIES_MAX: Final = 8


async def read_body(headers: Headers, receive: Receive, bytes_max: int, seconds_max: float) -> bytes:
    """The whole body. Raises RequestRefused: 413 beyond ``bytes_max``, 408 beyond ``seconds_max``.

    Also 400 when the client leaves before its body is complete. No more than ``bytes_max`` and one chunk is held.
    """
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > bytes_max * _DISCARDED_BODIES_MAX:
        raise RequestRefused(body_too_large())
    try:
        async with asyncio.timeout(seconds_max):
            return await _read(receive, bytes_max)
    except TimeoutError:
        raise RequestRefused(
            invalid_request("The request body arrived too slowly.", code="request_timeout", status=408)
        ) from None


async def _read(receive: Receive, bytes_max: int) -> bytes:
    body = bytearray()
    size = 0
    while size <= bytes_max * _DISCARDED_BODIES_MAX:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestRefused(invalid_request("The request body is incomplete.", code="body_incomplete"))
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= bytes_max:
            body += chunk
        else:
            body.clear()
        if not message.get("more_body", False):
            break
    if size > bytes_max:
        raise RequestRefused(body_too_large())
    return bytes(body)
