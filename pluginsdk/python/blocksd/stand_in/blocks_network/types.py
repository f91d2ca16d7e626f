"""The types of a task, where handlers look for them."""

from blocksd.project.types import ArtifactRef, RequestPart, StartTaskMessage, TaskContext

__all__ = ["ArtifactRef", "RequestPart", "StartTaskMessage", "TaskContext"]
