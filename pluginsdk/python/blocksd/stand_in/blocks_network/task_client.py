from blocksd.project.client import TaskClient
from blocksd.project.types import ListTasksParams, ListTasksResult, SendMessageRequestPart, TaskInfo

from . import create_task_client

__all__ = ["ListTasksParams", "ListTasksResult", "SendMessageRequestPart", "TaskClient", "TaskInfo", "create_task_client"]
