package savedir

import (
	"path"
	"strings"
)

// extensions of common media types. The tables of the operating system differ from machine to machine.
var extensions = map[string]string{
	"application/gzip": ".gz", "application/json": ".json", "application/pdf": ".pdf", "application/wasm": ".wasm",
	"application/x-ndjson": ".ndjson", "application/x-tar": ".tar", "application/xml": ".xml", "application/yaml": ".yaml",
	"application/zip": ".zip",
	"audio/flac":      ".flac", "audio/mp4": ".m4a", "audio/mpeg": ".mp3", "audio/ogg": ".ogg", "audio/wav": ".wav", "audio/x-wav": ".wav",
	"image/avif": ".avif", "image/bmp": ".bmp", "image/gif": ".gif", "image/jpeg": ".jpg", "image/png": ".png", "image/svg+xml": ".svg",
	"image/tiff": ".tiff", "image/webp": ".webp",
	"text/css": ".css", "text/csv": ".csv", "text/html": ".html", "text/javascript": ".js", "text/markdown": ".md",
	"text/plain": ".txt", "text/xml": ".xml", "text/yaml": ".yaml",
	"video/mp4": ".mp4", "video/ogg": ".ogv", "video/webm": ".webm",
}

// withExtension adds the extension of a media type to a name that has none, as far as the type is known.
func withExtension(name, mimeType string) string {
	if path.Ext(name) != "" {
		return name
	}
	media, _, _ := strings.Cut(mimeType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	if ext := extensions[media]; ext != "" {
		return name + ext
	}
	if i := strings.LastIndex(media, "+"); i >= 0 { // application/ld+json and the like
		return name + extensions["application/"+media[i+1:]]
	}
	return name
}
