"""How a peer talks to `cargo xtask bench`, and how it times itself.

It prints the names of its workloads in one line of JSON, then answers each line `NAME SECONDS` on its standard input by
one line `{"median": .., "p10": .., "samples": ..}`, in milliseconds, until the input ends. Between two lines it sleeps.
"""

import json
import sys
import time


def measure(step, seconds):
    """Times single calls of `step` for so long, after a tenth of that to warm up."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds / 10:
        step()
    times = []
    begin = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        step()
        times.append((time.perf_counter() - start) * 1e3)
    times.sort()
    at = lambda fraction: times[max(0, -int(-fraction * len(times) // 1) - 1)]
    return {"median": at(0.5), "p10": at(0.1), "samples": len(times)}


def serve(workloads):
    """`workloads` maps names to functions that build a step. A step is built when it is first asked for."""
    print(json.dumps(sorted(workloads)), flush=True)
    steps = {}
    for line in sys.stdin:
        name, seconds = line.split()
        if name not in steps:
            steps.clear()  # one at a time: memory
            steps[name] = workloads[name]()
        print(json.dumps(measure(steps[name], float(seconds))), flush=True)
