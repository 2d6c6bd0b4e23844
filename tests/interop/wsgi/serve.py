"""Servers that have no command of their own: python serve.py KIND PORT."""

from __future__ import annotations

import sys

kind, port = sys.argv[1], int(sys.argv[2])

if kind == "pywsgi":
    import gevent.monkey

    gevent.monkey.patch_all()

    from gevent.pywsgi import WSGIServer

from app import app  # type: ignore[import-not-found] # noqa: E402

if kind == "werkzeug":
    from werkzeug.serving import run_simple

    run_simple("127.0.0.1", port, app, threaded=True)
elif kind == "runserver":
    from django.core.servers.basehttp import run

    run("127.0.0.1", port, app, threading=True)
else:
    WSGIServer(("127.0.0.1", port), app).serve_forever()
