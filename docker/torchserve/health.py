"""Whether TorchServe answers and its models work: the health check of its image.

It asks with the key of `key_file.json`. Once the key has expired, 60 minutes after the start, TorchServe refuses it:
the server is alive then, and no more can be told.
"""

import http.client
import json
import sys
from http import HTTPStatus
from pathlib import Path

KEYS = Path("/home/auditcore/key_file.json")
PORT = 8080


def is_healthy(keys: Path = KEYS, port: int = PORT) -> bool:
    """Ask once.

    Args:
        keys: The file that TorchServe writes its keys to.
        port: Where it answers on this host.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=8)
    try:
        key = json.loads(keys.read_text())["inference"]["key"]
        connection.request("GET", "/ping", headers={"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        said = answer.read().decode(errors="replace")
    except OSError:
        return False
    finally:
        connection.close()
    return answer.status == HTTPStatus.OK or "InvalidKeyException" in said


if __name__ == "__main__":
    sys.exit(0 if is_healthy() else 1)
