package savedir

import "testing"

func TestWithExtension(t *testing.T) {
	for _, c := range []struct{ name, mimeType, want string }{
		{"artifact-0", "text/plain", "artifact-0.txt"}, {"artifact-0", "Text/Plain; charset=utf-8", "artifact-0.txt"},
		{"report", "application/json", "report.json"}, {"report.v2", "application/json", "report.v2"}, {".profile", "text/plain", ".profile"},
		{"x", "application/ld+json", "x.json"}, {"x", "image/svg+xml", "x.svg"}, {"x", "application/vnd.any", "x"},
		{"x", "application/octet-stream", "x"}, {"x", "", "x"}, {"x", "+", "x"},
	} {
		if got := withExtension(c.name, c.mimeType); got != c.want {
			t.Errorf("%s of type %q becomes %s, want %s", c.name, c.mimeType, got, c.want)
		}
	}
}
