# What Python's zlib gives for each file of a folder: lines of file, kind, size and SHA-256 of the stored bytes.
import gzip, hashlib, io, os, sys, zlib


def header(effort, system):
    return bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, effort, system])


def by_gzip(data, level):
    out = io.BytesIO()
    # No name and no time, as those set them who want the same digest each time.
    with gzip.GzipFile(filename="", fileobj=out, mode="wb", compresslevel=level, mtime=0) as file:
        # In pieces, as a tar is written.
        for at in range(0, len(data), 10_000):
            file.write(data[at : at + 10_000])
    return out.getvalue()


def by_zlib(data, level):
    state = zlib.compressobj(level, zlib.DEFLATED, 31)
    return state.compress(data) + state.flush()


folder = sys.argv[1]
for name in sorted(os.listdir(folder)):
    with open(os.path.join(folder, name), "rb") as file:
        data = file.read()
    six, nine = by_gzip(data, 6), by_gzip(data, 9)
    for kind, stored in [
        ("zlib 6", six),
        # Java is not here: the same zlib behind the header that Java before 16 writes.
        ("zlib 6", header(0, 0) + six[10:]),
        ("zlib 6", by_zlib(data, 6)),
        ("zlib 9", nine),
        ("zlib 9", by_zlib(data, 9)),
    ]:
        print(name, len(stored), hashlib.sha256(stored).hexdigest(), kind)
