"""A process that times calls for `performance.py`: reads a line of JSON, answers a line of JSON.

    {"make": name, "with": {...}}  builds a piece of work and warms it up   {"ready": seconds}
    {"time": true}                 runs it once                             {"seconds": s}

Arguments: the number of CPU devices; "tuned" for `engine.tune_cpu`, "silent" for that and heatbath without its noise,
"plain" for XLA's defaults; and "float32" or "float64".
"""

import json
import sys
import time
from typing import Any

import jax
import numpy as np

from heatbath import engine


def main() -> None:
    devices, flags, width = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    if flags in ("tuned", "silent"):
        engine.tune_cpu(devices)
    else:
        jax.config.update("jax_num_cpu_devices", devices)
    jax.config.update("jax_enable_x64", width == "float64")
    import contestants
    import metropolised
    import peers
    import same_noise

    if flags == "silent":
        contestants.silence()
    makers: dict[str, Any] = {**contestants.BY_NAME, **metropolised.BY_NAME, **peers.BY_NAME, **same_noise.BY_NAME}
    call: Any = None
    answers, sys.stdout = sys.stdout, sys.stderr  # what others print is no answer
    for line in sys.stdin:
        asked = json.loads(line)
        began = time.perf_counter()
        try:
            if "make" in asked:
                call = None
                jax.clear_caches()
                options = asked["with"]
                if width == "float64":
                    options = {**options, "dtype": np.float64}
                call = makers[asked["make"]](**options)
                call()
                answer = {"ready": time.perf_counter() - began}
            else:
                call()
                answer = {"seconds": time.perf_counter() - began}
        except Exception as error:  # a peer that cannot do a shape is a line in the table, not the end of the run
            answer = {"error": f"{type(error).__name__}: {error}".split("\n")[0]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
