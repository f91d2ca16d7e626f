from blocksd.project.session import TaskSession
from blocksd.project.types import ArtifactRef, CallbackErrorContext, TaskEvent

__all__ = ["ArtifactRef", "CallbackErrorContext", "TaskEvent", "TaskSession"]
