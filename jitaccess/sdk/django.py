"""How does a Django project let only approved access in? One middleware, and a decorator for single views.

    # settings.py
    MIDDLEWARE = ["jitaccess.sdk.django.JitDjangoMiddleware", ...]
    JITACCESS_DOOR = Door(Verifier(...), ask_url="https://jit.example/request", required=False)

The view finds the VerifiedToken in `request.META["jitaccess.token"]`. Without a door in the settings nothing starts. A streamed answer to a
bearer token is looked at again every few seconds and breaks off once its access has ended.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from django.conf import settings  # type: ignore[import-untyped] # the library has no types
from django.core.exceptions import ImproperlyConfigured  # type: ignore[import-untyped] # the library has no types
from django.http import HttpRequest, HttpResponse  # type: ignore[import-untyped] # the library has no types

from jitaccess.sdk.door import DOOR_KEY, TOKEN_KEY, Door, Refusal, Watch, passed
from jitaccess.sdk.step_up import Level
from jitaccess.sdk.wsgi import header_values

P = ParamSpec("P")


class JitDjangoMiddleware:
    """Answers what may not in, and hands the rest on with its token. Put it first."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        door = getattr(settings, "JITACCESS_DOOR", None)
        if not isinstance(door, Door):
            raise ImproperlyConfigured("JITACCESS_DOOR must be a jitaccess.sdk.Door.")
        self._door = door
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer one request."""
        values = header_values(request.META, self._door)
        found = self._door.enter(values)
        if isinstance(found, Refusal):
            return _answer(found)
        request.META[TOKEN_KEY] = found
        request.META[DOOR_KEY] = self._door
        answer = self._get_response(request)
        watch = self._door.watch(values, found)
        if watch is not None and answer.streaming:
            watched = _watched_async if answer.is_async else _watched
            answer.streaming_content = watched(watch, answer.streaming_content)
        return answer


def requires(
    entitlement: str, *, level: Level | None = None
) -> Callable[[Callable[Concatenate[Any, P], Any]], Callable[Concatenate[Any, P], Any]]:
    """Let only requests with a token for this entitlement into a view that is a plain function."""

    def guard(view: Callable[Concatenate[Any, P], Any]) -> Callable[Concatenate[Any, P], Any]:
        @wraps(view)
        def guarded(request: Any, /, *args: P.args, **kwargs: P.kwargs) -> Any:
            door, token = passed(request.META)
            refusal = door.require(token, entitlement=entitlement, level=level)
            return view(request, *args, **kwargs) if refusal is None else _answer(refusal)

        return guarded

    return guard


def _watched(watch: Watch, parts: Iterable[bytes]) -> Iterator[bytes]:
    """Give the parts of an answer while its access stands; Django closes by itself what they come from."""
    for part in parts:
        watch.step()
        yield part


async def _watched_async(watch: Watch, parts: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    async for part in parts:
        await asyncio.to_thread(watch.step)
        yield part


def _answer(refusal: Refusal) -> HttpResponse:
    return HttpResponse(refusal.body, status=refusal.status, headers=dict(refusal.headers))
