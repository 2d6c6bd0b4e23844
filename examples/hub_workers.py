"""The chat rooms of hub_room.py, served by two worker processes.

Usage: python hub_workers.py [PORT]
"""

import sys

from hub_room import hub, room

import lapwing

if __name__ == "__main__":
    lapwing.run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8080, default=room, workers=2, hub=hub)
