"""Follows the tasks whose ids it reads from standard input, one a line, with a session of Blocks' own SDK for each: what
e2e/bench/sessions does with package client. Prints "connected" when it may be given them, "running" when it has seen all of
them run, and for each task its id with the time in nanoseconds at which the wait for its end returned.
"""

import os
import sys
import threading
import time

from blocks_network import TaskClient

OUT = threading.Lock()


def say(text):
    with OUT:
        print(text, flush=True)


def follow(client, task_id, running):
    session = client.connect(task_id)
    seen = threading.Event()
    session.on_progress(lambda e: seen.set())
    if any(e.raw.get("state") == "running" for e in session.list_events()):
        seen.set()
    seen.wait(60)
    running.release()
    session.wait_for_terminal(timeout=300)
    say(f"{task_id} {time.time_ns()}")


def main():
    client = TaskClient.create(billing_mode="free", api_key=os.environ["BLOCKS_API_KEY"])
    say("connected")
    ids = sys.stdin.read().split()
    running = threading.Semaphore(0)
    threads = [threading.Thread(target=follow, args=(client, i, running)) for i in ids]
    for t in threads:
        t.start()
    for _ in ids:
        running.acquire()
    say("running")
    for t in threads:
        t.join()
    # Threads of the PubNub library outlive their clients; there is nothing left to wait for.
    os._exit(0)


main()
