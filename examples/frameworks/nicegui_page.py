"""A page of NiceGUI under uvicorn, with lapwing for its WebSockets: a button that counts its clicks.

Usage: python nicegui_page.py [PORT]
"""

import sys

import uvicorn
from fastapi import FastAPI
from nicegui import ui

app = FastAPI()


@ui.page("/")
def count() -> None:
    clicks: list[None] = []
    label = ui.label("no clicks")

    def click() -> None:
        clicks.append(None)
        label.set_text(f"{len(clicks)} clicks")

    ui.button("Click", on_click=click)


ui.run_with(app)

if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    uvicorn.run(app, host="127.0.0.1", port=port, ws="lapwing.uvicorn:Protocol", log_level="warning")
