//go:build !unix

package smallfile

// nonBlocking has no meaning where no pipe is a file.
const nonBlocking = 0
