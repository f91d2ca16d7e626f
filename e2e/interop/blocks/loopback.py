"""Points every PubNub client of a program at the sandbox, without touching the program.

The PubNub library reads PUBNUB_REQUEST_HANDLER and constructs the class it names once per client; this one sets the
origin of that client before the stock handler looks at it.
"""

import os

from pubnub.request_handlers.httpx import HttpxRequestHandler


class LoopbackHandler(HttpxRequestHandler):
    def __init__(self, pubnub):
        pubnub.config.origin = os.environ["BLOCKSD_PUBNUB_ORIGIN"]
        pubnub.config.ssl = False
        super().__init__(pubnub)
