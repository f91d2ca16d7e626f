package link

import (
	"net/http"
	"reflect"
	"unsafe"

	pubnub "github.com/pubnub/go/v7"

	"github.com/blocksd/blocksd/network/wire"
)

// newSDK makes an SDK client. It never subscribes and never holds a token; who asks is in the exchange of each request.
func newSDK(origin string, secure bool, keys wire.Keyset) *pubnub.PubNub {
	c := pubnub.NewConfigWithUserId("blocksd")
	c.Origin = origin
	c.Secure = secure
	c.PublishKey = keys.PublishKey
	c.SubscribeKey = keys.SubscribeKey
	// Workers would limit how many publishes run at once, and a publish whose context has ended would hang in their
	// queue forever.
	c.MaxWorkers = 0
	// The policies of the SDK poll the time for a subscribe loop that we do not use.
	c.PNReconnectionPolicy = pubnub.PNNonePolicy
	c.SuppressLeaveEvents = true // concerns its own unsubscribing; we leave explicitly
	sdk := pubnub.NewPubNub(c)
	sdk.SetClient(&http.Client{Transport: sdkTransport{}})
	sdk.SetSubscribeClient(&http.Client{Transport: sdkTransport{}})
	return sdk
}

// destroySDK ends sdk and the goroutine that its Destroy leaves behind. It must be called once, when no call is inside
// sdk: a second Destroy panics and a publish after it hangs.
func destroySDK(sdk *pubnub.PubNub) {
	sdk.Destroy()
	// The reader of the job queue waits for jobs until the queue is closed, which Destroy means to do and does not. The
	// queue is not exported; with MaxWorkers 0 nobody ever sends on it. The version of the SDK is pinned, and the leak
	// check of the tests fails if this stops working.
	f := reflect.ValueOf(sdk).Elem().FieldByName("jobQueue")
	if !f.IsValid() || f.Type() != reflect.TypeFor[chan *pubnub.JobQItem]() {
		return
	}
	close(*(*chan *pubnub.JobQItem)(unsafe.Pointer(f.UnsafeAddr())))
}
