"""The endpoint client against a real HTTP server on the loopback interface."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import ValidationError

from harness.core.budget import Ledger
from harness.core.records import Completion
from harness.errors import BudgetExceeded, SourceError, SpecError
from selfteach.language.endpoint import PATIENCE, Endpoint, EndpointConfig

KEY = "sk-very-secret-0123456789"


def completion(*texts: str, finish: str | None = "stop", usage: object = None) -> bytes:
    choices = [
        {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": finish} for index, text in enumerate(texts)
    ]
    return json.dumps({"choices": choices, **({"usage": usage} if usage is not None else {})}).encode()


class Server(ThreadingHTTPServer):
    """Answers each request with what `behave(server, handler, request body)` does; remembers bodies and headers."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, behave: Callable[["Server", BaseHTTPRequestHandler, dict[str, Any]], None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behave, self.bodies, self.headers, self.paths = behave, [], [], []
        self.lock, self.under_way, self.most_under_way = threading.Lock(), 0, 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.bodies.append(body)
            server.headers.append(dict(self.headers))
            server.paths.append(self.path)
            server.under_way += 1
            server.most_under_way = max(server.most_under_way, server.under_way)
        try:
            server.behave(server, self, body)
        finally:
            with server.lock:
                server.under_way -= 1

    def log_message(self, format: str, *args: object) -> None:
        pass


def send(handler: BaseHTTPRequestHandler, content: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


@pytest.fixture
def serve() -> Iterator[Callable[[Callable], Server]]:
    servers: list[Server] = []

    def start(behave: Callable) -> Server:
        server = Server(behave)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def in_turn(*steps: Callable[[BaseHTTPRequestHandler], None] | bytes) -> Callable[[Server, BaseHTTPRequestHandler, dict[str, Any]], None]:
    """One step a request, the last one from then on."""

    def behave(server: Server, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        step = steps[min(len(server.bodies), len(steps)) - 1]
        send(handler, step) if isinstance(step, bytes) else step(handler)

    return behave


def failing(status: int, content: bytes = b"{}", **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda handler: send(handler, content, status, **headers)


def endpoint(url: str, **settings: object) -> tuple[Endpoint, Ledger]:
    ledger = Ledger()
    return Endpoint(EndpointConfig(**{"base_url": url, "model": "m", "backoff_s": 0.01, "retries": 3, **settings}), ledger), ledger


def ask(model: Endpoint, *texts: str, n: int = 1, temperature: float = 0.5) -> list[list[Completion]]:
    return model.complete([[{"role": "user", "content": text}] for text in texts], max_new_tokens=9, temperature=temperature, seed=5, n=n)


def test_replies_come_in_order_with_the_tokens_the_server_counted(serve: Callable) -> None:
    def late_for_early_ones(server: Server, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        number = int(body["messages"][0]["content"])
        time.sleep(0.02 * (8 - number))
        send(handler, completion(f"reply {number}", usage={"prompt_tokens": 7, "completion_tokens": 3}))

    server = serve(late_for_early_ones)
    model, ledger = endpoint(server.url + "/", concurrency=4)
    with ledger.use_phase("review"):
        replies = ask(model, *map(str, range(8)))
    assert replies == [[Completion(f"reply {number}", 3, True)] for number in range(8)]
    assert 2 <= server.most_under_way <= 4
    assert set(server.paths) == {"/v1/chat/completions"}
    assert vars(model.statistics) == {
        "calls": 8, "retries": 0, "failures": 0, "replies": 8, "prompt_tokens": 56, "completion_tokens": 24, "estimated": 0,
    }  # fmt: skip
    assert ledger.counters["queries"] == 8
    row = next(row for row in ledger.rows() if row["model"] == "m")
    assert (row["phase"], row["tokens"], row["calls"], row["flops"]) == ("review", 80, 8, 0.0)
    body = next(body for body in server.bodies if body["messages"][0]["content"] == "2")
    assert body == {"model": "m", "messages": [{"role": "user", "content": "2"}], "max_tokens": 9, "temperature": 0.5, "seed": 7}


def test_no_conversations_no_calls(serve: Callable) -> None:
    model, _ = endpoint("http://127.0.0.1:9/v1")
    assert ask(model) == []
    assert model.statistics.calls == 0


def test_a_reply_cut_off_is_unfinished_and_one_without_usage_is_estimated(serve: Callable) -> None:
    model, _ = endpoint(serve(in_turn(completion("x" * 40, finish="length"), completion("y", finish=None))).url)
    assert ask(model, "1234567890ab") == [[Completion("x" * 40, 10, False)]]
    assert ask(model, "again") == [[Completion("y", 1, True)]]
    assert (model.statistics.prompt_tokens, model.statistics.estimated) == (3 + 2, 2)


@pytest.mark.parametrize(
    "usage", [{"prompt_tokens": "many", "completion_tokens": 1}, {"prompt_tokens": -1, "completion_tokens": 10**30}, [], 7]
)
def test_a_servers_nonsense_about_tokens_is_not_believed(serve: Callable, usage: object) -> None:
    model, _ = endpoint(serve(in_turn(completion("four", usage=usage))).url)
    assert ask(model, "four")[0][0].text == "four"
    assert (model.statistics.prompt_tokens, model.statistics.estimated) == (1, 1)
    assert 0 < model.statistics.completion_tokens <= 1


@pytest.mark.parametrize(
    "trouble",
    [
        failing(500),
        failing(503, b"<html>"),
        failing(429),
        failing(200, b"{not json"),
        failing(200, b""),
        failing(200, b"[" * 100_000),
        failing(200, b'{"choices": []}'),
        failing(200, b'{"choices": "text"}'),
        failing(200, b"[]"),
        failing(200, b"null"),
        failing(200, b'{"choices": [null]}'),
        failing(200, b'{"choices": [{"text": "completions, not chat"}]}'),
        failing(200, b'{"choices": [{"message": {"content": 7}}]}'),
        failing(200, b'{"error": {"message": "overloaded"}}'),
        failing(200, b"x" * 3_000),
        failing(200, b"not gzip", Content_Encoding="gzip"),
        failing(200, completion("short"), Content_Length="10000"),
        lambda handler: handler.connection.close(),
        lambda handler: handler.wfile.write(b"garbage\r\n\r\n"),
    ],
)
def test_passing_trouble_is_tried_again_and_lasting_trouble_is_a_failed_sample(serve: Callable, trouble: Callable) -> None:
    ok = completion("fine", usage={"prompt_tokens": 1, "completion_tokens": 1})
    model, ledger = endpoint(serve(in_turn(trouble, trouble, ok)).url, max_bytes=2_000, timeout_s=2)
    assert ask(model, "a") == [[Completion("fine", 1, True)]]
    assert (model.statistics.calls, model.statistics.retries, model.statistics.failures) == (3, 2, 0)
    assert ledger.counters["queries"] == 3

    model, ledger = endpoint(serve(in_turn(trouble)).url, max_bytes=2_000, timeout_s=2)
    assert ask(model, "a") == [[Completion("", 0, False)]]
    assert (model.statistics.calls, model.statistics.retries, model.statistics.failures) == (4, 3, 1)
    assert ledger.counters["queries"] == 4


def test_one_conversations_failure_is_its_own(serve: Callable) -> None:
    def picky(server: Server, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        text = body["messages"][0]["content"]
        send(handler, completion(text), 500 if text == "bad" else 200)

    model, _ = endpoint(serve(picky).url, retries=1)
    assert [reply.text for (reply,) in ask(model, "a", "bad", "b")] == ["a", "", "b"]
    assert model.statistics.failures == 1


def drip_body(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def drip_headers(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for index in range(100):
        handler.wfile.write(f"X-{index}: y\r\n".encode())
        time.sleep(0.05)


@pytest.mark.parametrize("slow", [drip_body, drip_headers, lambda handler: time.sleep(5)])
def test_the_time_limit_is_for_the_whole_call(serve: Callable, slow: Callable) -> None:
    model, _ = endpoint(serve(in_turn(slow, completion("at last"))).url, timeout_s=0.3)
    started = time.monotonic()
    assert ask(model, "a")[0][0].text == "at last"
    assert 0.3 <= time.monotonic() - started < 4
    assert model.statistics.calls == 2


def test_a_server_that_has_long_answered_nothing_is_asked_once_until_it_answers(serve: Callable) -> None:
    broken = [failing(500)] * (2 * PATIENCE + 2)
    model, _ = endpoint(serve(in_turn(*broken, completion("back"), failing(500))).url, retries=1, backoff_s=0, concurrency=1)
    assert not any(reply.text for (reply,) in ask(model, *"a" * (PATIENCE + 2)))
    assert model.statistics.calls == 2 * PATIENCE + 2
    assert ask(model, "a")[0][0].text == "back"
    ask(model, "a")
    assert model.statistics.calls == 2 * PATIENCE + 2 + 1 + 2


def test_calls_have_a_limit_retries_included(serve: Callable) -> None:
    model, ledger = endpoint(serve(in_turn(failing(500))).url, retries=3, backoff_s=0, concurrency=1, max_calls=6)
    assert ask(model, "a", "b") == [[Completion("", 0, False)]] * 2
    assert ledger.counters["queries"] == 6
    with pytest.raises(BudgetExceeded, match="6 of at most 6"):
        ask(model, "a")
    assert ledger.counters["queries"] == 6


def test_nobody_listens() -> None:
    model, ledger = endpoint("http://127.0.0.1:9/v1", retries=2)
    assert ask(model, "a", "b", n=2) == [[Completion("", 0, False)] * 2] * 2
    assert (ledger.counters["queries"], model.statistics.failures) == (6, 4)


def test_waiting_as_long_as_the_server_asks_within_the_bound(serve: Callable) -> None:
    ok = completion("ok")
    model, _ = endpoint(serve(in_turn(failing(429, Retry_After="1"), ok)).url, backoff_s=0.0)
    started = time.monotonic()
    assert ask(model, "a")[0][0].text == "ok"
    assert 1 <= time.monotonic() - started < 10
    for value in ("86400", "9" * 400, "Fri, 31 Dec 2100 23:59:59 GMT", "-5", "soon"):
        model, _ = endpoint(serve(in_turn(failing(429, Retry_After=value), ok)).url, max_backoff_s=0.05)
        started = time.monotonic()
        assert ask(model, "a")[0][0].text == "ok"
        assert time.monotonic() - started < 10


def test_waits_grow_and_are_bounded(serve: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", note)
    model, _ = endpoint(serve(in_turn(failing(500))).url, retries=6, backoff_s=1.0, max_backoff_s=10.0)
    ask(model, "a")
    assert len(waits) == 6
    assert all(0.5 * 2**index <= wait <= 1.5 * 2**index for index, wait in enumerate(waits[:3]))
    assert all(wait <= 10 for wait in waits)
    assert waits[-1] == 10


def test_samples_in_one_call_where_the_server_can(serve: Callable) -> None:
    def able(server: Server, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        usage = {"prompt_tokens": 2, "completion_tokens": 10}
        send(handler, completion("a", "bbbbbbbb", "cccccccc", *["extra"] * 3, usage=usage) if body["n"] == 3 else b"")

    model, _ = endpoint(serve(able).url)
    (replies,) = ask(model, "x", n=3)
    assert [reply.text for reply in replies] == ["a", "bbbbbbbb", "cccccccc"]
    assert model.statistics.calls == 1


@pytest.mark.parametrize("status", [200, 400, 422])
def test_samples_by_further_calls_where_it_cannot(serve: Callable, status: int) -> None:
    """Ignores n (200), or refuses it."""

    def single(server: Server, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        refused = body.get("n", 1) > 1 and status != 200
        send(handler, b"{}" if refused else completion(f"seed {body['seed']}"), status if refused else 200)

    server = serve(single)
    model, _ = endpoint(server.url)
    assert ask(model, "x", n=3) == [[Completion(f"seed {seed}", 2, True) for seed in (5, 6, 7)]]
    assert model.statistics.calls == (3 if status == 200 else 4)
    assert model.statistics.failures == 0


def test_a_greedy_reply_is_asked_for_once(serve: Callable) -> None:
    model, _ = endpoint(serve(in_turn(completion("a"))).url)
    with pytest.raises(AssertionError, match="greedy"):
        ask(model, "x", n=2, temperature=0)
    assert ask(model, "x", temperature=0)[0][0].text == "a"


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (401, SpecError, "key_variable.*the key is missing or wrong"),
        (403, SpecError, "key_variable"),
        (404, SpecError, "base_url.*no such address or model"),
        (302, SpecError, "base_url.*it has moved"),
        (400, SourceError, "answered 400 to a request for the model 'm'"),
        (418, SourceError, "answered 418"),
    ],
)
def test_the_users_mistakes_are_errors_at_once_and_never_show_the_key(
    serve: Callable, monkeypatch: pytest.MonkeyPatch, status: int, error: type[Exception], message: str
) -> None:
    monkeypatch.setenv("OUR_KEY", KEY)
    server = serve(in_turn(failing(status, f"\x1b[31mbad key {KEY}\u202e".encode(), Location="http://127.0.0.1:9/")))
    model, _ = endpoint(server.url, key_variable="OUR_KEY", concurrency=1)
    with pytest.raises(error, match=message) as caught:
        ask(model, *"abcdef")
    assert len(server.bodies) == 1
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert "(key)" in str(caught.value)
    assert not {"\x1b", "\u202e"} & set(str(caught.value))
    shown = [str(caught.value), repr(caught.value), repr(vars(model)), repr(model), repr(model.config)]
    assert not any(KEY in text for text in shown)


def test_a_conversation_refused_after_others_were_answered_is_a_failed_sample(serve: Callable) -> None:
    def short_only(server: Server, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        text = body["messages"][0]["content"]
        send(handler, completion(text), 400 if len(text) > 10 else 200)

    model, _ = endpoint(serve(short_only).url, concurrency=1)
    assert [reply.text for (reply,) in ask(model, "a", "far too long a text", "b")] == ["a", "", "b"]
    assert (model.statistics.calls, model.statistics.failures) == (3, 1)


def test_a_key_that_is_not_there_or_no_key(serve: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OUR_KEY", raising=False)
    with pytest.raises(SpecError, match=r"key_variable: expected the name of an environment variable.*'OUR_KEY'"):
        endpoint("http://localhost:1/v1", key_variable="OUR_KEY")
    monkeypatch.setenv("OUR_KEY", f"{KEY}\nX-Injected: yes")
    with pytest.raises(SpecError, match="printable ASCII") as caught:
        endpoint("http://localhost:1/v1", key_variable="OUR_KEY")
    assert KEY not in str(caught.value)
    server = serve(in_turn(completion("a")))
    ask(endpoint(server.url)[0], "x")
    assert "Authorization" not in server.headers[0]


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://host/v1", "http://", "", "http://me:pa55word@host/v1", "http://[::1"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ValidationError, match="expected an address") as caught:
        EndpointConfig(base_url=url, model="m")
    assert "pa55word" not in str(caught.value)


def test_halves_of_surrogate_pairs_neither_leave_nor_arrive(serve: Callable) -> None:
    server = serve(in_turn(b'{"choices": [{"message": {"content": "a \\ud83d b \\ud83d\\ude00 \\udc00"}}]}'))
    model, _ = endpoint(server.url)
    ((reply,),) = ask(model, "half \ud83d")
    reply.text.encode("utf-8")
    assert reply.text == "a \ufffd b \U0001f600 \ufffd"
    assert server.bodies[0]["messages"][0]["content"] == "half \ud83d"


def test_a_null_reply_is_an_empty_one(serve: Callable) -> None:
    model, _ = endpoint(serve(in_turn(b'{"choices": [{"message": {"content": null}, "finish_reason": "content_filter"}]}')).url)
    assert ask(model, "a") == [[Completion("", 0, False)]]
    assert model.statistics.failures == 0


def test_a_proxy_is_not_asked_for_this_machines_servers(serve: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    model, _ = endpoint(serve(in_turn(completion("direct"))).url, retries=0)
    assert ask(model, "a")[0][0].text == "direct"


def test_works_inside_a_running_event_loop(serve: Callable) -> None:
    model, _ = endpoint(serve(in_turn(completion("fine"))).url)

    async def notebook() -> list[list[Completion]]:
        return ask(model, "a")

    assert asyncio.run(notebook())[0][0].text == "fine"
