from blocksd.project.types import InboundMessage, StreamError

__all__ = ["InboundMessage", "StreamError"]
