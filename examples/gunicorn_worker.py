"""uvicorn's worker for gunicorn, with lapwing's WebSocket class: gunicorn -k gunicorn_worker.Worker module:app."""

from uvicorn_worker import UvicornWorker


class Worker(UvicornWorker):
    CONFIG_KWARGS = UvicornWorker.CONFIG_KWARGS | {"ws": "lapwing.uvicorn:Protocol"}
