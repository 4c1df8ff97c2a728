"""The bearer token of a server, from a file that somebody else renews."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from auditcore.errors import UnreachableResource

FIELD = "model.token_file"
MOST_BYTES = 65_536

Api = Literal["inference", "management"]


@final
@dataclass(frozen=True)
class TokenFile:
    """A file with the token alone, or TorchServe's `key_file.json`, whose keys expire after 60 minutes.

    Attributes:
        path: Where it is.
        api: Which of TorchServe's keys is wanted.
    """

    path: Path
    api: Api = "inference"

    def read(self) -> str:
        """The token as it is now.

        Raises:
            UnreachableResource: There is no file, or no token in it.
        """
        try:
            # resolved now, since whoever renews it may do so by moving a link
            with Path(os.path.realpath(self.path)).open("rb") as file:
                content = file.read(MOST_BYTES)
            text = content.decode()
        except (OSError, UnicodeDecodeError) as error:
            msg = f"no token can be read from {self.path} ({error}); check the path and who may read it"
            raise UnreachableResource(msg, field=FIELD) from error
        token = self._token_in(text).strip()
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            msg = f"{self.path} holds no token; write the bare token, or name TorchServe's key_file.json"
            raise UnreachableResource(msg, field=FIELD)
        return token

    def _token_in(self, text: str) -> str:
        if not text.lstrip().startswith("{"):
            return text
        try:
            keys = json.loads(text)
            key = keys[self.api]["key"]
        except (ValueError, KeyError, TypeError) as error:
            msg = f"{self.path} is JSON but no key_file.json of TorchServe: it has no key for {self.api!r}"
            raise UnreachableResource(msg, field=FIELD) from error
        return str(key)
