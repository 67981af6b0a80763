"""Serves a run with the environment that runs this script, asks one question, and stops the server.

ENVIRONMENT/bin/python deploy/check.py RUN
"""

import json
import subprocess
import sys
import time
from urllib.request import ProxyHandler, Request, build_opener

TEXTS = ["not bad at all", ["A dog runs.", "A dog is running."]]


def check(run: str) -> None:
    """Prints the answers of a server of ``run``, and the seconds until it was ready.

    Raises:
        SystemExit: If the server does not start, answer or end well.
    """
    begin = time.monotonic()
    command = [sys.executable, "-m", "mtbert", "serve", run, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        said = ""
        for line in server.stderr:
            said += line
            if "http://" in line:
                break
        seconds = time.monotonic() - begin
        try:
            if "http://" not in said:
                sys.exit(f"{said}check: mtbert serve {run} did not start.")
            url = said.split()[-1]
            answers = _get(url, "/v1/predict", {"texts": TEXTS})
            _get(url, "/health")
        finally:
            server.terminate()
            server.stderr.read()  # the server's last words need a reader
    if server.returncode:
        sys.exit(f"check: the server ended with {server.returncode}.")
    print(json.dumps(answers))
    print(f"ready after {seconds:.1f} s")


def _get(url: str, path: str, body: object = None) -> object:
    data = None if body is None else json.dumps(body).encode()
    request = Request(url + path, data, {"Content-Type": "application/json"})
    with build_opener(ProxyHandler({})).open(request, timeout=60) as response:
        return json.load(response)


if __name__ == "__main__":
    check(sys.argv[1])
