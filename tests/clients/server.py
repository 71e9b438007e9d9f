"""A real server with nothing of this machine's environment."""

import subprocess
import tempfile


class Server:
    """A server on a free port, with the built-in model in float32 on the CPU."""

    def __init__(self, program, *arguments):
        self.home = tempfile.TemporaryDirectory()
        self.process = subprocess.Popen(
            # In float32 answers do not depend on what was computed before.
            [program, "serve", "--port", "0", "--device", "cpu", "--cpu-exact", *arguments],
            env={"HOME": self.home.name, "HF_HUB_OFFLINE": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        line = self.process.stderr.readline()
        assert "listening on " in line, line
        self.url = line.split("listening on ")[1].strip()

    def end(self):
        self.process.terminate()
        self.process.communicate(timeout=60)
        self.home.cleanup()
        assert self.process.returncode == 0, self.process.returncode
