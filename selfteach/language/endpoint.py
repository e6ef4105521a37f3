"""An OpenAI-compatible chat-completions server as `TextModel`: bounded in time, size and retries; every call counted.

What a server does wrong is data: after the last retry the reply is an empty, unfinished completion. What the user did wrong (address, key,
model) is an error at once. The key is read from the environment when a request is made and appears in no message.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx2
from pydantic import BaseModel, ConfigDict, Field, field_validator

from harness.core.budget import Ledger
from harness.core.records import Completion, Message
from harness.errors import BudgetExceeded, SourceError, SpecError
from selfteach.language.chat import Rubbish, parse_reply

USERS_FAULT = {
    401: "the key is missing or wrong",
    403: "the key may not do this",
    404: "no such address or model",
    405: "not a chat-completions address",
}
REQUESTS_FAULT = (400, 413, 422)
"""This request was refused: the settings' fault if none ever succeeded, else the conversation's (too long, filtered)."""
PASSING = (408, 409, 425, 429)
"""Like 5xx worth another try."""
PATIENCE = 24
"""Replies given up on in a row after which nothing is tried twice, until the server answers again: it may be gone for good."""
_NO_REPLY = Completion("", 0, False)


class EndpointConfig(BaseModel):
    """Where an endpoint is and how patient to be with it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    base_url: str
    """Up to and without "/chat/completions", e.g. "http://localhost:8000/v1"."""
    model: str = Field(min_length=1)
    key_variable: str | None = None
    """Environment variable that holds the key; None for servers that want none."""
    timeout_s: float = Field(default=60.0, gt=0)
    """For one call from connecting to its last byte."""
    retries: int = Field(default=4, ge=0)
    """Further calls after one that failed, unless the server has long answered nothing at all."""
    backoff_s: float = Field(default=1.0, ge=0)
    """Wait before the first retry, doubled for each further one, give or take half of it; a server's Retry-After takes precedence."""
    max_backoff_s: float = Field(default=30.0, ge=0)
    concurrency: int = Field(default=8, ge=1)
    """Most calls under way at once."""
    max_calls: int = Field(default=10_000, ge=1)
    """Most calls in all, retries included: no FLOP budget bounds what an endpoint is asked, and each call may cost money."""
    max_bytes: int = Field(default=2_000_000, ge=1_000)
    """Longest answer that is read."""

    @field_validator("base_url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        try:
            url = httpx2.URL(value)
        except httpx2.InvalidURL as error:
            raise ValueError("expected an address such as http://localhost:8000/v1") from error
        if url.userinfo:
            # With a value of our own, or the message would quote the password.
            hint = "expected an address without user and password; name the key's environment variable in key_variable"
            raise SpecError(hint, value=f"{url.scheme}://...@{url.host}")
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("expected an address such as http://localhost:8000/v1")
        return value.rstrip("/")


@dataclass
class Statistics:
    """What an endpoint has been asked and has answered so far."""

    calls: int = 0
    """HTTP requests, retries included; equal to what was added to the ledger's queries."""
    retries: int = 0
    failures: int = 0
    """Replies given up on, each an empty completion."""
    replies: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: int = 0
    """Calls whose server reported no usage; their tokens are guessed at four bytes each."""


class Endpoint:
    """A chat model behind HTTP.

    Tokens are booked under the caller's phase with 0 FLOPs, because what a server computes is not known; calls count as queries. Not to be
    used from several threads at once.

    Raises:
        SpecError: the key's environment variable is not set.
    """

    def __init__(self, config: EndpointConfig, ledger: Ledger) -> None:
        self.config, self.name, self.statistics = config, config.model, Statistics()
        # Not seeded: workers that were refused together must not come back together. No result depends on it.
        self._ledger, self._jitter = ledger, random.Random()
        self._takes_n, self._given_up_in_row = True, 0
        self._is_local = _is_loopback(config.base_url)
        # Reading the machine's certificates takes longer than many a call: once. Plain HTTP to this machine needs none.
        self._tls = False if self._is_local and config.base_url.startswith("http:") else httpx2.create_ssl_context()
        self._headers()

    def complete(
        self, conversations: Sequence[Sequence[Message]], *, max_new_tokens: int, temperature: float, seed: int, n: int = 1
    ) -> list[list[Completion]]:
        """See `selfteach.roles.TextModel`.

        Raises:
            BudgetExceeded: these calls would be more than `max_calls`; none was made.
            SpecError: the server refuses key or address.
            SourceError: the server refuses the first requests it gets.
        """
        assert temperature > 0 or n == 1, "greedy replies are all equal: n must be 1"
        calls, most = self.statistics.calls, self.config.max_calls
        if calls + len(conversations) > most:
            raise BudgetExceeded(f"{len(conversations)} more replies of {self.name}: {calls} of at most {most} calls have been made")
        requests = [
            {
                "model": self.config.model,
                "messages": list(turns),
                "max_tokens": max_new_tokens,
                "temperature": temperature,
                "seed": (seed + index * n) % 2**31,
            }
            for index, turns in enumerate(conversations)
        ]
        # In a thread of its own, so that a caller with a running event loop (a notebook) can use it too.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, self._all(requests, n)).result()

    async def _all(self, requests: list[dict[str, Any]], n: int) -> list[list[Completion]]:
        gate = asyncio.Semaphore(self.config.concurrency)
        limits = httpx2.Limits(max_connections=self.config.concurrency)
        # A proxy cannot reach this machine's own servers.
        async with httpx2.AsyncClient(timeout=None, limits=limits, verify=self._tls, trust_env=not self._is_local) as client:
            tasks = [asyncio.create_task(self._samples(client, gate, request, n)) for request in requests]
            try:
                return await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _samples(self, client: httpx2.AsyncClient, gate: asyncio.Semaphore, request: dict[str, Any], n: int) -> list[Completion]:
        """n replies to one conversation, by further calls where a server gives fewer than it was asked for."""
        replies: list[Completion] = []
        while len(replies) < n:
            missing = n - len(replies)
            wanted = missing if self._takes_n else 1
            body = {**request, "seed": request["seed"] + len(replies), **({"n": wanted} if wanted > 1 else {})}
            async with gate:
                answer = await self._persistently(client, body)
            if answer is None and wanted > 1 and not self._takes_n:
                continue
            if answer is None:
                self.statistics.failures += missing
                return replies + [_NO_REPLY] * missing
            self.statistics.replies += len(answer[:missing])
            replies += answer[:missing]
        return replies

    async def _persistently(self, client: httpx2.AsyncClient, body: dict[str, Any]) -> list[Completion] | None:
        """One call and its retries; None when all failed."""
        tries = 1 if self._given_up_in_row >= PATIENCE else self.config.retries + 1
        for attempt in range(tries):
            if self.statistics.calls >= self.config.max_calls:
                return None
            self.statistics.calls += 1
            self.statistics.retries += attempt > 0
            self._ledger.count("queries")
            wait_s = self.config.backoff_s * 2**attempt * self._jitter.uniform(0.5, 1.5)
            try:
                async with asyncio.timeout(self.config.timeout_s):
                    status, headers, content = await self._post(client, body)
                if status == 200:
                    booked = self._booked(content, body)
                    self._given_up_in_row = 0
                    return booked
                if status < 500 and status not in PASSING:
                    self._refused(status, content, body)
                    return None
                wait_s = _retry_after_s(headers.get("retry-after")) or wait_s
            except (TimeoutError, httpx2.TransportError, httpx2.DecodingError, Rubbish):
                pass
            if attempt + 1 < tries:
                await asyncio.sleep(min(wait_s, self.config.max_backoff_s))
        self._given_up_in_row += 1
        return None

    async def _post(self, client: httpx2.AsyncClient, body: dict[str, Any]) -> tuple[int, httpx2.Headers, bytes]:
        # Escaped: a conversation may hold what UTF-8 cannot, half of a surrogate pair.
        data = json.dumps(body).encode("ascii")
        async with client.stream("POST", f"{self.config.base_url}/chat/completions", content=data, headers=self._headers()) as response:
            content = b""
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > self.config.max_bytes:
                    raise Rubbish(f"more than {self.config.max_bytes} bytes")
            return response.status_code, response.headers, content

    def _booked(self, content: bytes, body: dict[str, Any]) -> list[Completion]:
        answer = parse_reply(content, body)
        self._ledger.charge(self.name, 0.0, answer.prompt_tokens + answer.completion_tokens)
        self.statistics.prompt_tokens += answer.prompt_tokens
        self.statistics.completion_tokens += answer.completion_tokens
        self.statistics.estimated += answer.estimated
        return answer.completions

    def _refused(self, status: int, content: bytes, body: dict[str, Any]) -> None:
        """Raises where the settings are at fault; a conversation that was refused alone is a failed sample."""
        said = _excerpt(content, self._key())
        where = f"{self.config.base_url} answered {status}"
        if status in USERS_FAULT or 300 <= status < 400:
            why = USERS_FAULT.get(status, "it has moved")
            raise SpecError(f"{where}: {why}; it said {said}", key="key_variable" if status in (401, 403) else "base_url")
        if status in REQUESTS_FAULT and "n" in body:
            self._takes_n = False
        elif status not in REQUESTS_FAULT or not self.statistics.replies:
            raise SourceError(f"{where} to a request for the model {self.config.model!r}; it said {said}")

    def _key(self) -> str | None:
        variable = self.config.key_variable
        if variable is None:
            return None
        key = os.environ.get(variable, "").strip()
        if not key:
            raise SpecError(
                "expected the name of an environment variable that holds the endpoint's key", key="key_variable", value=variable
            )
        if not (key.isascii() and key.isprintable()):
            raise SpecError("expected a key of printable ASCII characters in the environment variable", key="key_variable", value=variable)
        return key

    def _headers(self) -> dict[str, str]:
        key = self._key()
        return {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}


def _is_loopback(base_url: str) -> bool:
    host = httpx2.URL(base_url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _retry_after_s(value: str | None) -> float | None:
    """Seconds a server asks to wait; its other form, a date, is left to the backoff."""
    return float(value) if value and value.strip().isdecimal() else None


def _excerpt(content: bytes, key: str | None) -> str:
    text = content.decode("utf-8", "replace")
    return ascii((text.replace(key, "(key)") if key else text)[:300])
