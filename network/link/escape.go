package link

// unreserved marks the bytes that stand for themselves everywhere in a URL.
var unreserved = func() (t [256]bool) {
	for c := range t {
		t[c] = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.' || c == '~'
	}
	return t
}()

// appendEscaped appends s as part of a path or a query, with everything escaped that is not unreserved: a space becomes
// %20, which every server reads, and not the plus sign of forms. Each publish has a token and metadata to escape;
// net/url goes over them twice, byte by byte through a switch.
func appendEscaped[T string | []byte](dst []byte, s T) []byte {
	const digits = "0123456789ABCDEF"
	done := 0
	for i := range len(s) {
		if c := s[i]; !unreserved[c] {
			dst = append(append(dst, s[done:i]...), '%', digits[c>>4], digits[c&15])
			done = i + 1
		}
	}
	return append(dst, s[done:]...)
}
