package link

// DestroySDK lets tests that run the SDK clean up as a Link does.
var DestroySDK = destroySDK
