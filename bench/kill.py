"""Kill training at random moments and let it go on: python -m bench.kill [COUNT] => how many ended with the same bytes.

Every second kill waits until a checkpoint is being written. The tests do the same with three.
"""

import random
import signal
import sys
import tempfile
from pathlib import Path

from tests.inversion.stage_process import finish, outs, project, start, wait_for, whole
from tests.tiny import tiny_model


def main() -> None:
    """Run, kill, go on, compare."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory() as work:
        place = Path(work)
        model = tiny_model(place / "model")
        straight = project(place / "straight", model)
        assert whole(straight)[0] == 0
        expected, same = outs(straight), 0
        for i in range(count):
            step, saving = random.randrange(20), bool(i % 2)
            folder = project(place / f"{i}", model)
            process = start(folder)
            wait_for(process, folder, step, saving)
            process.kill()
            killed = finish(process, folder)[0] == -signal.SIGKILL
            code, said = whole(folder)
            equal = killed and code == 0 and outs(folder) == expected
            same += equal
            print(
                f"{i + 1:3}: killed at step {step}{' while saving' * saving}: {'same' if equal else said}", flush=True
            )
        print(f"{same} of {count} byte-identical")
        raise SystemExit(same != count)


if __name__ == "__main__":
    main()
