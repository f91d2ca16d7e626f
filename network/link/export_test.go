package link

// DestroySDK lets tests that run the SDK clean up as a Link does.
var DestroySDK = destroySDK

// NextPoll is nextPoll.
func NextPoll(b []byte) (cursor uint64, region int64, ok bool) {
	next, ok := nextPoll(b)
	return next.cursor, next.region, ok
}
