"""A WSGI application of three parts: of Flask, of Django below /django, and by hand below /plain."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import django
import flask
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from werkzeug.middleware.dispatcher import DispatcherMiddleware

import lapwing
import lapwing.wsgi

# --- Flask ---

flasks = flask.Flask(__name__)


@flasks.route("/")
def page() -> str:
    return "hello"


@lapwing.wsgi.route(flasks, "/echo/<name>", ["chat"], max_message_size=3_000_000)
def echo(ws: lapwing.BlockingConnection, name: str) -> None:
    ws.send(f"{name} {flask.request.args.get('q')} {ws.subprotocol} {ws.path}")
    for message in ws:
        ws.send(message)


@lapwing.wsgi.route(flasks, "/small", max_message_size=1000)
def small(ws: lapwing.BlockingConnection) -> None:
    ws.receive()


@lapwing.wsgi.route(flasks, "/crash")
def crash(ws: lapwing.BlockingConnection) -> None:
    raise LookupError("of the handler")


# --- Django ---

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    LOGGING={
        "version": 1,
        "handlers": {"stderr": {"class": "logging.StreamHandler"}},
        "loggers": {"django.request": {"handlers": ["stderr"], "level": "ERROR", "propagate": False}},
    },
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", "django.middleware.gzip.GZipMiddleware"],
)
django.setup()


def django_page(_: HttpRequest) -> HttpResponse:
    return HttpResponse("hello")


@lapwing.wsgi.view(max_message_size=3_000_000)
def django_echo(request: HttpRequest, ws: lapwing.BlockingConnection, name: str) -> None:
    ws.send(f"{name} {request.GET.get('q')} {ws.subprotocol} {ws.path}")
    for message in ws:
        ws.send(message)


@lapwing.wsgi.view()
def django_crash(request: HttpRequest, ws: lapwing.BlockingConnection) -> None:
    raise LookupError("of the handler")


urlpatterns = [path("", django_page), path("echo/<name>", django_echo), path("crash", django_crash)]

# --- by hand ---

released = threading.Event()


def plain(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    task = environ["PATH_INFO"]
    body = b"hello"
    if task == "/descriptors":
        body = str(len(list(Path("/proc/self/fd").iterdir()))).encode()
    elif task == "/release":
        released.set()
    else:
        try:
            serve(environ, task)
        except lapwing.HandshakeError as error:
            start_response(f"{error.status} Refused", [("Content-Type", "text/plain")])
            return [error.body]
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def serve(environ: dict[str, Any], task: str) -> None:
    if task == "/careless":
        lapwing.wsgi.accept(environ).send("never closed")
        return
    if task == "/behind":
        environ["REMOTE_ADDR"] = "203.0.113.7"
    with lapwing.wsgi.accept(environ, headers={"Set-Cookie": "a=b"}, max_buffered=10_000) as ws:
        if task == "/forget":
            released.wait()
            ws.abort()
        elif task == "/close":
            ws.close(4000, "enough")
        elif task == "/timeout":
            try:
                ws.receive(timeout=0.05)
            except TimeoutError:
                ws.send("nothing came in time")
            ws.ping()
        elif task == "/threads":
            ws.send(str(threading.active_count()))
            ws.receive()
        else:
            ws.send(f"{ws.peer_address and ws.peer_address[0]} {ws.server}")
            try:
                ws.broadcast("to all")
            except RuntimeError as error:
                ws.send(str(error))


app = DispatcherMiddleware(flasks, {"/django": get_wsgi_application(), "/plain": plain})
