from . import StreamRef, StreamUnavailableError

__all__ = ["StreamRef", "StreamUnavailableError"]
