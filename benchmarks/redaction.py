"""What redaction adds to an ordinary log line, beside what `logging.FileHandler` takes for it.

    python benchmarks/redaction.py [--rounds 15] [--calls 2000]

Both sides run interleaved on the same lines; figures are medians of CPU time. Below: lines that do hold a
secret, a call's arguments, a traceback, and a megabyte of the dearest patterns known.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from plet_celery.redaction import Redactor, safe_repr

ORDINARY = [
    "Task shop.import_catalogue[5f1c2e9a-8a52-4c9e-9d0e-0d5f3b1c2a77] succeeded in 0.031s: None",
    "Received request GET /api/v1/items?page=2 status=200 duration=35ms user=bob",
    "loaded 1200 rows from /var/data/catalogue-2026-11-22.csv in 3.2 s",
    "Retrying in 5 seconds: connection refused host=db1 port=5432",
    "progress 45 % (450/1000 rows) eta 12 s",
    "stage load finished",
    "wrote /var/data/export_17.csv",
    "user bob changed the title of page 17",
]
SECRET = [
    "login with password=hunter2 failed for bob",
    'could not connect to "postgresql://bob:hunter2@db1:5432/shop": timeout',
    '{"user": "bob", "accessToken": "abcdef0123456789", "rows": 5}',
    "curl -H 'Authorization: Bearer abcdef0123456789' https://api.example/v1",
]
TRACEBACK = "".join(
    f'  File "/app/shop/part{n}.py", line {n}, in load\n    rows = fetch(path)\n' for n in range(80)
)
BOMBS = ["cookie: a\n", "password=a,", "token: ", "http://a:b@", " -u a:", "password: A = "]


def seconds(act: Callable[[str], object], lines: list[str], calls: int) -> float:
    """Return the CPU seconds of one call, over `calls` rounds of `lines`."""
    start = time.process_time()
    for _ in range(calls):
        for line in lines:
            act(line)
    return (time.process_time() - start) / (calls * len(lines))


def file_line(folder: str) -> Callable[[str], object]:
    """Return what writes one line with a formatter and a FileHandler, as a worker with `-f` does."""
    log = logging.getLogger("benchmark")
    log.propagate = False
    log.setLevel(logging.INFO)
    handler = logging.FileHandler(Path(folder) / "out.log")
    handler.setFormatter(logging.Formatter("[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"))
    log.addHandler(handler)
    return log.info


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=2000)
    options = parser.parse_args()
    redactor = Redactor(values=("a-registered-value",))
    plain = Redactor()
    ordinary: list[float] = []
    beside: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        write = file_line(folder)
        for _ in range(options.rounds):
            ordinary.append(seconds(plain.text, ORDINARY, options.calls))
            beside.append(seconds(write, ORDINARY, options.calls))
    ratio = statistics.median(one / other for one, other in zip(ordinary, beside, strict=True))
    print(f"ordinary line: {statistics.median(ordinary) * 1e6:6.2f} us")
    print(f"FileHandler:   {statistics.median(beside) * 1e6:6.2f} us   ratio {ratio:.2f}")
    calls = max(1, options.calls // 10)
    rounds = range(options.rounds)
    registered = statistics.median(seconds(redactor.text, ORDINARY, calls) for _ in rounds)
    dirty = statistics.median(seconds(plain.text, SECRET, calls) for _ in rounds)
    print(f"ordinary line with one registered value: {registered * 1e6:.2f} us")
    print(f"line with a secret: {dirty * 1e6:.1f} us")
    trace = statistics.median(seconds(plain.text, [TRACEBACK], 20) for _ in rounds)
    print(f"traceback of {len(TRACEBACK) >> 10} KiB: {trace * 1e6:.0f} us")

    def arguments(line: str) -> object:
        return plain.arguments(("path", "limit", "token"), [line, 5, "x"], {"dry_run": True}, safe_repr)

    call = statistics.median(seconds(arguments, ["/var/data/a.csv"], calls) for _ in rounds)
    print(f"a call's arguments: {call * 1e6:.1f} us")
    worst = max((seconds(plain.text, [(bomb * (1 << 20))[: 1 << 20]], 1), bomb) for bomb in BOMBS)
    print(f"dearest megabyte ({worst[1]!r}): {worst[0]:.2f} s")


if __name__ == "__main__":
    main()
