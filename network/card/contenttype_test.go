package card

import "testing"

func TestClassOf(t *testing.T) {
	for _, c := range []struct {
		contentType string
		class       Class
		rules       Class
	}{
		{"application/json", Form, Form},
		{"application/vnd.example+json", Form, Form},
		{"text/plain", Text, Text},
		{"text/anything", Text, Text},
		{"application/xml", Text, Text},
		{"application/vnd.example+xml", Text, Text},
		{"application/vnd.google-earth.kml+xml", Text, Text},
		{"application/gpx+xml", File, File},
		{"image/svg+xml", File, File},
		{"model/gltf+json", File, File},
		{"image/png", File, File},
		{"image/anything", File, File},
		{"text/rtf", File, File},
		{"application/vnd.example+zip", File, File},
		{"application/vnd.example+gzip", File, File},
		// Sent as files, but checked like a form and a text.
		{"image/foo+json", File, Form},
		{"image/foo+xml", File, Text},
		{"text/foo+json", Text, Text},
		{"application/yaml", Unknown, Unknown},
		{"application/foo", Unknown, Unknown},
		{"model/anything", Unknown, Unknown},
		{"Text/Plain", Unknown, Unknown},
		{"text/plain; charset=utf-8", Unknown, Unknown},
		{"text/", Unknown, Unknown},
		{"", Unknown, Unknown},
	} {
		if got := ClassOf(c.contentType); got != c.class {
			t.Errorf("ClassOf(%q) = %s, want %s", c.contentType, got, c.class)
		}
		if got := ruleClass(c.contentType); got != c.rules {
			t.Errorf("ruleClass(%q) = %s, want %s", c.contentType, got, c.rules)
		}
	}
}
