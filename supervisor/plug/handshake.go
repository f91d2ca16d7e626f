package plug

import (
	"bufio"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

const (
	coreVersion = 1 // of go-plugin
	// maxHandshake bounds the first line of a handler.
	maxHandshake = 4 << 10
)

// parseHandshake checks the first line that a handler printed and returns the path of its socket. The line is checked
// here, before go-plugin sees it, so that every mistake has a sentence of its own.
func parseHandshake(line string) (socket string, err error) {
	line = strings.TrimSpace(line)
	f := strings.Split(line, "|")
	if len(f) < 5 {
		return "", fmt.Errorf("it is not a Blocks handler: it printed %q instead of a handshake", shorten(line))
	}
	if core, err := strconv.Atoi(f[0]); err != nil || core != coreVersion {
		return "", fmt.Errorf("it is not a Blocks handler, or one of an unknown kind: its handshake begins with %q instead of %d", shorten(f[0]), coreVersion)
	}
	if v, err := strconv.Atoi(f[1]); err != nil || v != handlerv1.ProtocolVersion {
		return "", fmt.Errorf("it speaks version %s of the handler protocol and this daemon speaks %d: rebuild it with a matching SDK", shorten(f[1]), handlerv1.ProtocolVersion)
	}
	if f[2] != "unix" {
		return "", fmt.Errorf("it listens on a %q address: only Unix sockets are allowed", shorten(f[2]))
	}
	if f[4] != "grpc" {
		return "", fmt.Errorf("it speaks %q: only gRPC is allowed", shorten(f[4]))
	}
	if !filepath.IsAbs(f[3]) {
		return "", fmt.Errorf("its socket path %q is not absolute", shorten(f[3]))
	}
	return f[3], nil
}

// checkCertificate checks the part of a handshake that is for encrypted connections. go-plugin must never see a certificate
// that it has not asked for: it would panic.
func checkCertificate(line string, wanted bool) error {
	f := strings.Split(strings.TrimSpace(line), "|")
	offered := ""
	if len(f) > 5 {
		offered = f[5]
	}
	switch {
	case !wanted && offered != "" && offered != "false" && offered != "true": // older SDKs write the next field here
		return errors.New("it wants an encrypted connection that is not configured for it: set mtls for it, or build it without TLS")
	case !wanted:
		return nil
	case offered == "":
		return errors.New("it offers no certificate: build it with an SDK that knows AutoMTLS of go-plugin, or set mtls to false for it")
	}
	der, err := base64.RawStdEncoding.DecodeString(offered)
	if err == nil {
		_, err = x509.ParseCertificate(der)
	}
	if err != nil {
		return fmt.Errorf("the certificate in its handshake cannot be read: %s", shorten(err.Error()))
	}
	return nil
}

// splitFirstLine reads the first line of r, sends it to first, and returns a reader of the rest. A line that is not a handshake
// stays in front of the rest: it belongs to what the handler wrote. When there is no line at all first is closed.
func splitFirstLine(r io.Reader, first chan<- string) io.Reader {
	br := bufio.NewReaderSize(r, maxHandshake)
	b, err := br.ReadSlice('\n') // a longer line comes in pieces, and the first piece is not a handshake
	if len(b) == 0 && err != nil {
		close(first)
		return br
	}
	line := string(b)
	first <- line
	if _, err := parseHandshake(line); err != nil {
		return io.MultiReader(strings.NewReader(line), br)
	}
	return br
}

// shorten makes a foreign text fit into a sentence.
func shorten(s string) string {
	const limit = 80
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
