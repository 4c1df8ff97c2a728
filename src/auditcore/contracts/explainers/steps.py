"""How many steps or samples a method takes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Steps = Annotated[int, Field(ge=2, le=1000)]
