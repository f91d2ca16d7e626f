"""Drives the unmodified PyPI package pubnub by the commands that sdk.mjs describes."""

import collections
import concurrent.futures
import json
import os
import sys
import threading

from pubnub.callbacks import SubscribeCallback
from pubnub.enums import PNReconnectionPolicy
from pubnub.exceptions import PubNubException
from pubnub.models.consumer.message_actions import PNMessageAction
from pubnub.models.consumer.v3.channel import Channel
from pubnub.models.consumer.v3.group import Group
from pubnub.pnconfiguration import PNConfiguration
from pubnub.pubnub import PubNub

lock = threading.Lock()


def show(o):
    with lock:
        print(json.dumps(o, default=str), flush=True)


config = json.loads(sys.stdin.readline())
pn = PNConfiguration()
pn.publish_key = config["publishKey"]
pn.subscribe_key = config["subscribeKey"]
pn.secret_key = config.get("secretKey") or None
pn.user_id = config["uuid"]
pn.origin = config["origin"]
pn.ssl = False
pn.reconnect_policy = PNReconnectionPolicy.LINEAR
if config.get("filter"):
    pn.filter_expression = config["filter"]
if config.get("heartbeat"):
    pn.set_presence_timeout(config["heartbeat"])
    pn.enable_presence_heartbeat = bool(config.get("beats"))
if config.get("timeout"):
    pn.subscribe_request_timeout = config["timeout"]
pn.non_subscribe_request_timeout, pn.connect_timeout = 60, 60
pubnub = PubNub(pn)


class Listener(SubscribeCallback):
    def status(self, _, s):
        show({"event": "status", "category": getattr(s.category, "name", str(s.category))})

    def message(self, _, m):
        show({"event": "message", "channel": m.channel, "subscription": m.subscription or "", "publisher": m.publisher,
              "timetoken": str(m.timetoken), "message": m.message, "meta": m.user_metadata})

    def signal(self, _, m):
        show({"event": "signal", "channel": m.channel, "publisher": m.publisher, "timetoken": str(m.timetoken), "message": m.message})

    def presence(self, _, p):
        show({"event": "presence", "action": p.event, "channel": p.channel, "uuid": p.uuid or "", "occupancy": p.occupancy, "state": p.state})

    def message_action(self, _, a):
        show({"event": "action", "action": "", "type": a.type, "value": a.value, "uuid": a.uuid, "timetoken": str(a.action_timetoken)})

    def file(self, _, f):
        show({"event": "file", "id": f.file_id, "name": f.file_name, "message": f.message, "channel": f.channel})


pubnub.add_listener(Listener())


def publish(c):
    b = pubnub.publish().channel(c["channel"]).message(c["message"]).use_post(bool(c.get("post")))
    if c.get("meta") is not None:
        b = b.meta(c["meta"])
    if c.get("store") is not None:
        b = b.should_store(c["store"])
    if c.get("ttl"):
        b = b.ttl(c["ttl"])
    if c.get("type"):
        b = b.custom_message_type(c["type"])
    return {"timetoken": str(b.sync().result.timetoken)}


def subscribe(c):
    b = pubnub.subscribe().channels(c.get("channels") or []).channel_groups(c.get("groups") or [])
    if c.get("presence"):
        b = b.with_presence()
    if c.get("timetoken"):
        b = b.with_timetoken(int(c["timetoken"]))
    b.execute()
    return {}


def unsubscribe(c):
    pubnub.unsubscribe().channels(c.get("channels") or []).channel_groups(c.get("groups") or []).execute()
    return {}


def here_now(c):
    r = pubnub.here_now().channels(c.get("channels") or []).channel_groups(c.get("groups") or []).include_uuids(True).include_state(bool(c.get("states"))).sync().result
    return {"total": r.total_occupancy, "channels": {ch.channel_name: {
        "occupancy": ch.occupancy, "uuids": sorted(o.uuid for o in ch.occupants), "states": {o.uuid: o.state for o in ch.occupants if o.state},
    } for ch in r.channels}}


def history(c):
    b = pubnub.fetch_messages().channels([c["channel"]]).include_meta(True).include_uuid(True)
    if c.get("count"):
        b = b.count(c["count"]) if hasattr(b, "count") else b.maximum_per_channel(c["count"])
    if c.get("start"):
        b = b.start(int(c["start"]))
    if c.get("end"):
        b = b.end(int(c["end"]))
    if c.get("actions"):
        b = b.include_message_actions(True)
    r = b.sync().result
    out = []
    for m in r.channels.get(c["channel"], []):
        acts = [f"{t}/{v}/{u['uuid']}" for t, vs in (m.actions or {}).items() for v, us in vs.items() for u in us]
        out.append({"message": m.message, "timetoken": str(m.timetoken), "uuid": m.uuid, "meta": m.meta or None, "actions": acts})
    return {"messages": out}


def history2(c):
    r = pubnub.history().channel(c["channel"]).count(c["count"]).reverse(bool(c.get("reverse"))).sync().result
    return {"messages": [m.entry for m in r.messages], "first": str(r.start_timetoken), "last": str(r.end_timetoken)}


def delete(c):
    b = pubnub.delete_messages().channel(c["channel"])
    if c.get("start"):
        b = b.start(int(c["start"]))
    if c.get("end"):
        b = b.end(int(c["end"]))
    b.sync()
    return {}


def add_action(c):
    a = PNMessageAction().create(type=c["type"], value=c["value"], message_timetoken=c["timetoken"])
    return {"timetoken": str(pubnub.add_message_action().channel(c["channel"]).message_action(a).sync().result.action_timetoken)}


def send_file(c):
    r = pubnub.send_file().channel(c["channel"]).file_name(c["name"]).message({"text": c["message"]}).file_object(c["content"].encode()).sync()
    return {"id": r.result.file_id}


def list_files(c):
    b = pubnub.list_files().channel(c["channel"])
    if c.get("limit"):
        b = b.limit(c["limit"])
    if c.get("next"):
        b = b.next(c["next"])
    r = b.sync().result
    return {"files": [f"{f['name']} {f['size']}" for f in r.data], "next": r.next or ""}


def resources(kind, names, pattern=False):
    out = []
    for name, rights in (names or {}).items():
        r = kind.pattern(name) if pattern else kind.id(name)
        for letter, method in (("r", "read"), ("w", "write"), ("m", "manage"), ("d", "delete")):
            if letter in rights:
                getattr(r, method)()
        out.append(r)
    return out


def grant(c):
    b = pubnub.grant_token().ttl(c["ttl"]).channels(resources(Channel, c.get("channels")) + resources(Channel, c.get("patterns"), True)).groups(resources(Group, c.get("groups")))
    if c.get("uuid"):
        b = b.authorized_uuid(c["uuid"])
    return {"token": b.sync().result.get_token()}


def parse_token(c):
    p = pubnub.parse_token(c["token"])
    return {"ttl": p["ttl"], "uuid": p.get("authorized_uuid") or "", "channels": list(p["resources"]["channels"]), "patterns": list(p["patterns"]["channels"])}


class Member(SubscribeCallback):
    """One of many clients in this process, with what it has heard."""

    def __init__(self, uuid):
        c = PNConfiguration()
        c.publish_key, c.subscribe_key, c.user_id = config["publishKey"], config["subscribeKey"], uuid
        c.origin, c.ssl, c.non_subscribe_request_timeout, c.connect_timeout = config["origin"], False, 60, 60
        self.pubnub, self.seen, self.connected = PubNub(c), collections.Counter(), threading.Event()
        self.pubnub.add_listener(self)

    def status(self, _, s):
        if getattr(s.category, "name", "") == "PNConnectedCategory":
            self.connected.set()

    def message(self, _, m):
        self.seen[f"{m.channel} {m.message}"] += 1

    def presence(self, _, p):
        pass


crowd = []


def gather(c):
    for i in range(c["count"]):
        name = f"{c['name']}.{i}"
        crowd.append(Member(name))
        crowd[-1].pubnub.subscribe().channels(c.get("channels") or [name]).execute()
        crowd[max(i - 15, 0)].connected.wait()  # few at a time: on a busy machine all at once would run into time-outs
    for m in crowd:
        m.connected.wait()
    return {}


def volley(c):
    def one(i, m):
        for channel in c["channels"]:
            m.pubnub.publish().channel(channel).message(f"{c['message']} {c['name']}.{i}").sync()

    with concurrent.futures.ThreadPoolExecutor(len(crowd)) as pool:
        for f in [pool.submit(one, i, m) for i, m in enumerate(crowd)]:
            f.result()
    return {}


def void(call):
    call()
    return {}


ops = {
    "gather": gather,
    "volley": volley,
    "tally": lambda c: [[len(m.seen), sum(m.seen.values())] for m in crowd],
    "time": lambda c: {"timetoken": str(int(pubnub.time().sync().result))},
    "publish": publish,
    "signal": lambda c: {"timetoken": str(pubnub.signal().channel(c["channel"]).message(c["message"]).sync().result.timetoken)},
    "fire": lambda c: {"timetoken": str(pubnub.fire().channel(c["channel"]).message(c["message"]).sync().result.timetoken)},
    "subscribe": subscribe,
    "unsubscribe": unsubscribe,
    "hereNow": here_now,
    "whereNow": lambda c: {"channels": pubnub.where_now().uuid(c["uuid"]).sync().result.channels},
    "setState": lambda c: {"state": pubnub.set_state().channels(c["channels"]).state(c["state"]).sync().result.state},
    "getState": lambda c: {"channels": pubnub.get_state().channels(c["channels"]).uuid(c["uuid"]).sync().result.channels},
    "history": history,
    "history2": history2,
    "counts": lambda c: {"channels": pubnub.message_counts().channel(c["channels"]).channel_timetokens([int(t) for t in c["timetokens"]]).sync().result.channels},
    "delete": delete,
    "addAction": add_action,
    "removeAction": lambda c: void(lambda: pubnub.remove_message_action().channel(c["channel"]).message_timetoken(int(c["timetoken"])).action_timetoken(int(c["action"])).sync()),
    "actions": lambda c: {"actions": [f"{a.type}/{a.value}/{a.uuid}" for a in pubnub.get_message_actions().channel(c["channel"]).sync().result.actions]},
    "groupAdd": lambda c: void(lambda: pubnub.add_channel_to_channel_group().channel_group(c["group"]).channels(c["channels"]).sync()),
    "groupRemove": lambda c: void(lambda: pubnub.remove_channel_from_channel_group().channel_group(c["group"]).channels(c["channels"]).sync()),
    "groupList": lambda c: {"channels": pubnub.list_channels_in_channel_group().channel_group(c["group"]).sync().result.channels},
    "groupDelete": lambda c: void(lambda: pubnub.remove_channel_group().channel_group(c["group"]).sync()),
    "sendFile": send_file,
    "listFiles": list_files,
    "downloadFile": lambda c: {"content": pubnub.download_file().channel(c["channel"]).file_id(c["file"]).file_name(c["name"]).sync().result.data.decode()},
    "fileURL": lambda c: {"url": pubnub.get_file_url().channel(c["channel"]).file_id(c["file"]).file_name(c["name"]).sync().result.file_url},
    "deleteFile": lambda c: void(lambda: pubnub.delete_file().channel(c["channel"]).file_id(c["file"]).file_name(c["name"]).sync()),
    "grant": grant,
    "revoke": lambda c: void(lambda: pubnub.revoke_token(c["token"]).sync()),
    "setToken": lambda c: void(lambda: pubnub.set_token(c["token"])),
    "parseToken": parse_token,
}

for line in sys.stdin:
    c = json.loads(line)
    try:
        show({"id": c["id"], "ok": True, "value": ops[c["op"]](c)})
    except PubNubException as e:
        show({"id": c["id"], "ok": False, "status": getattr(e, "_status_code", 0) or 0, "error": str(e)})
    except Exception as e:  # the driver must answer, whatever it was
        show({"id": c["id"], "ok": False, "status": 0, "error": f"{type(e).__name__}: {e}"})
os._exit(0)
