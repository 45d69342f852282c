"""What the client was told, without what no two clusters have in common."""

import re
from collections.abc import Awaitable

from aetcd import ClientError
from aetcd.rpc import AioRpcError
from google.protobuf.message import Message
from google.protobuf.text_format import MessageToString


class Told:
    """Prints a step for each call."""

    def __init__(self):
        self.names: dict[str, str] = {}

    def known(self, name: str, value: int | str):
        """Has a name stand for a value from now on."""
        self.names[str(value)] = f"<{name}>"

    async def __call__(self, step: str, call: Awaitable, show=None):
        """Prints what came of a call, all of it or what `show` makes of it; its answer, if it was not an error."""
        try:
            answer = await call
        except (ClientError, AioRpcError) as error:
            self.show(step, described(error))
            return None
        self.show(step, described(show(answer) if show else answer))
        return answer

    def show(self, step: str, text: str):
        """Prints a step."""
        print("--", step)
        for line in self.normalised(text).splitlines():
            print("|" + line, flush=True)

    def normalised(self, text: str) -> str:
        """A text without what is particular to this run."""
        for value, name in self.names.items():
            text = re.sub(rf"(?<![\w.]){re.escape(value)}(?!\w)", name, text)
        return re.sub(r"(raft_term[=:] ?)\d+", r"\1N", text)


def described(value) -> str:
    """An answer or an error of the client, as a text."""
    if isinstance(value, AioRpcError):
        return f"{value.code().name}: {value.details()}"
    if isinstance(value, Exception):
        return f"{type(value).__name__}: {value}"
    if isinstance(value, Message):
        return MessageToString(value).rstrip()
    if isinstance(value, list | tuple):
        return "\n".join(described(each) for each in value) or "nothing"
    return str(value)
