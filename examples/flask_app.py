"""A Flask application with a page and WebSockets of lapwing.

Usage: python flask_app.py [PORT], or gunicorn --worker-class gthread --threads 100 flask_app:app
"""

import sys
import threading

import flask

import lapwing
import lapwing.wsgi

app = flask.Flask(__name__)
rooms: dict[str, set[lapwing.BlockingConnection]] = {}
lock = threading.Lock()


@app.route("/")
def page() -> str:
    return "hello\n"


@lapwing.wsgi.route(app, "/rooms/<room>", max_message_size=64 * 1024, timeout=60)
def chat(ws: lapwing.BlockingConnection, room: str) -> None:
    """Send each message to all clients in the room; close the connection after a minute of silence."""
    with lock:
        rooms.setdefault(room, set()).add(ws)
    name = flask.request.args.get("name", "somebody")
    try:
        for message in ws:
            with lock:
                others = list(rooms[room])
            for other in others:
                try:
                    other.send(f"{name}: {message}", timeout=1)
                except (lapwing.ConnectionClosed, TimeoutError):
                    other.abort()  # its own thread notices the end
    except TimeoutError:
        ws.close(4000, "you said nothing for a minute")
    finally:
        with lock:
            rooms[room].discard(ws)
            if not rooms[room]:
                del rooms[room]


if __name__ == "__main__":
    app.run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8080, threaded=True)
