"""Serves agents with the unmodified Blocks SDK: each card file given becomes an instance whose handler is handler.py.

usage: provider.py CARD...

Prints a JSON line when all are started, with their instance ids; ends when its standard input does.
"""

import json
import os
import sys

from blocks_network import start_agent_instance
from blocks_network.types import AgentInstanceOptions

from handler import handler


def main() -> None:
    instances = {}
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as f:
            card = json.load(f)
        runtime = card["runtime"]
        instances[card["identity"]["agentName"]] = start_agent_instance(
            AgentInstanceOptions(
                card=card,
                agent_name=card["identity"]["agentName"],
                handler=handler,
                concurrency=runtime.get("concurrency", 1),
                expected_instances=runtime.get("expectedInstances", 1),
                max_running_time_sec=runtime.get("maxRunningTimeSec"),
            )
        )
    print(json.dumps({"started": sorted(instances)}), flush=True)
    sys.stdin.read()
    for instance in instances.values():
        instance["stop"]()
    # Threads of the PubNub library outlive their clients; there is nothing left to wait for.
    os._exit(0)


main()
