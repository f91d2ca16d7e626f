from blocksd.project.streams import ExternalStreamObject, StreamObject

__all__ = ["ExternalStreamObject", "StreamObject"]
