"""The bearer token of a server, from a file that another program renews."""

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
    """A file that holds only the token, or TorchServe's `key_file.json`, whose keys expire after 60 minutes.

    Attributes:
        path: Path of the file.
        api: Which of TorchServe's keys to use.
    """

    path: Path
    api: Api = "inference"

    def read(self) -> str:
        """The token as it is now.

        Raises:
            UnreachableResource: The file is missing or holds no token.
        """
        try:
            # resolved at each read, because a token may be renewed by moving a link
            with Path(os.path.realpath(self.path)).open("rb") as file:
                content = file.read(MOST_BYTES)
            text = content.decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            msg = f"no token can be read from {self.path} ({error}); check the path and its permissions"
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
            msg = f"{self.path} has no key for {self.api!r}; name the key_file.json that TorchServe writes"
            raise UnreachableResource(msg, field=FIELD) from error
        return str(key)
