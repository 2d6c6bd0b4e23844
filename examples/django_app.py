"""A Django project in one file, with a page and a WebSocket of lapwing.

Usage: python django_app.py runserver --noreload [PORT], or gunicorn --worker-class gthread --threads 100 django_app:app
"""

import os
import sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

import lapwing
import lapwing.wsgi

settings.configure(
    DEBUG=False,
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("SECRET_KEY", "only for trying it out"),
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
)


def page(_: HttpRequest) -> HttpResponse:
    return HttpResponse("hello\n")


@lapwing.wsgi.view(["chat"], max_message_size=64 * 1024)
def echo(request: HttpRequest, ws: lapwing.BlockingConnection, room: str) -> None:
    """Answer each message; the request has its session and its user, as in any view."""
    ws.send(f"{request.GET.get('name', 'somebody')} in {room}")
    for message in ws:
        ws.send(message)


urlpatterns = [path("", page), path("rooms/<room>", echo)]
app = get_wsgi_application()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
