"""Poses as a program of root's: `impostor.py PROGRAM FOLDER [ARGUMENT...]`, run as another user.

It takes the program's name and listens on FOLDER/s. Told a path on standard input it puts a link to that in the place of
the socket, so that the name it is bound to leads there. Told `exchange ONE OTHER` it exchanges two names for as long as it
runs.
"""
import ctypes
import os
import socket
import sys

libc = ctypes.CDLL(None, use_errno=True)
PR_SET_NAME, AT_FDCWD, RENAME_EXCHANGE = 15, -100, 2

program, folder = sys.argv[1:3]
if libc.prctl(PR_SET_NAME, program.encode(), 0, 0, 0) != 0:
    sys.exit("no name")
bound = os.path.join(folder, "s")
listener = socket.socket(socket.AF_UNIX)
listener.bind(bound)
listener.listen()
# What a containerd has open.
database = os.path.join(folder, "root/io.containerd.metadata.v1.bolt")
os.makedirs(database)
kept = open(os.path.join(database, "meta.db"), "w")
print("listening", flush=True)
for line in sys.stdin:
    words = line.split()
    if words[0] == "exchange":
        one, other = (word.encode() for word in words[1:])
        print("exchanging", flush=True)
        while True:
            if libc.renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE) != 0:
                sys.exit(os.strerror(ctypes.get_errno()))
    link = os.path.join(folder, "link")
    os.symlink(words[0], link)
    os.rename(link, bound)
    print("posing", flush=True)
