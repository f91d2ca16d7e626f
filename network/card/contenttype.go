package card

import (
	"regexp"
	"strings"
	"sync"
)

// Class says how an input travels: as a JSON document or a plain text inside its part, or as a file.
type Class int

// The classes.
const (
	Unknown Class = iota
	Form
	Text
	File
)

func (c Class) String() string { return [...]string{"unknown", "form", "text", "file"}[c] }

// The content types that the network names. Others are accepted by pattern, see knownContentType.
var (
	formTypes = set(
		"application/geo+json", "application/json", "application/ld+json", "application/problem+json")
	textTypes = set(
		"application/javascript", "application/jsonl", "application/sql", "application/toml", "application/typescript",
		"application/vnd.google-earth.kml+xml", "application/x-ndjson", "application/x-toml", "application/x-yaml", "application/xml",
		"text/css", "text/csv", "text/html", "text/javascript", "text/markdown", "text/plain", "text/tab-separated-values", "text/x-c",
		"text/x-c++", "text/x-csharp", "text/x-go", "text/x-java-source", "text/x-python", "text/x-rust", "text/x-shellscript",
		"text/x-sql", "text/xml", "text/yaml")
	fileTypes = set(
		"application/epub+zip", "application/gpx+xml", "application/gzip", "application/java-archive", "application/msword",
		"application/octet-stream", "application/pdf", "application/rtf", "application/vnd.apache.arrow.file",
		"application/vnd.apache.arrow.stream", "application/vnd.apple.mpegurl", "application/vnd.google.protobuf",
		"application/vnd.ms-excel", "application/vnd.ms-powerpoint", "application/vnd.oasis.opendocument.presentation",
		"application/vnd.oasis.opendocument.spreadsheet", "application/vnd.oasis.opendocument.text",
		"application/vnd.openxmlformats-officedocument.presentationml.presentation",
		"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
		"application/vnd.openxmlformats-officedocument.wordprocessingml.document",
		"application/vnd.rar", "application/x-7z-compressed", "application/x-avro", "application/x-bzip2", "application/x-gzip",
		"application/x-latex", "application/x-msgpack", "application/x-parquet", "application/x-protobuf",
		"application/x-rar-compressed", "application/x-tar", "application/x-tex", "application/x-xz", "application/zip",
		"audio/aac", "audio/flac", "audio/midi", "audio/mp4", "audio/mpeg", "audio/ogg", "audio/opus", "audio/vnd.wave", "audio/wav",
		"audio/webm", "audio/x-midi", "audio/x-wav",
		"image/avif", "image/bmp", "image/gif", "image/heic", "image/heif", "image/jpeg", "image/png", "image/svg+xml", "image/tiff",
		"image/webp", "image/x-icon",
		"model/gltf+json", "model/gltf-binary", "model/obj", "model/stl", "text/rtf",
		"video/mp2t", "video/mp4", "video/ogg", "video/quicktime", "video/webm", "video/x-matroska", "video/x-msvideo")
	acceptRanges = set("text/*", "image/*", "audio/*", "video/*")

	// Compiled when they are needed: few commands do, and it takes longer than all else at the start.
	mediaPattern = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^(text|image|audio|video)/[a-z0-9!#$&^_.+-]{1,127}$`)
	})
	suffixPattern = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+\+(json|xml|zip|gzip)$`)
	})
)

// knownContentType reports whether a card may name this content type: lower case, without parameters.
func knownContentType(ct string) bool {
	return formTypes[ct] || textTypes[ct] || fileTypes[ct] || mediaPattern().MatchString(ct) || suffixPattern().MatchString(ct)
}

// ClassOf returns how an input of this content type travels; Unknown for a type that no card may name.
func ClassOf(ct string) Class {
	media, _, _ := strings.Cut(ct, "/")
	switch {
	case !knownContentType(ct):
		return Unknown
	case fileTypes[ct]:
		return File
	case textTypes[ct]:
		return Text
	case formTypes[ct]:
		return Form
	case media == "image" || media == "audio" || media == "video":
		return File
	case media == "text":
		return Text
	case strings.HasSuffix(ct, "+json"):
		return Form
	case strings.HasSuffix(ct, "+xml"):
		return Text
	}
	return File
}

// ruleClass returns the class whose rules the members of an input must follow. It differs from ClassOf for the odd
// media types with a structured suffix: the network checks image/foo+json as a form and sends it as a file.
func ruleClass(ct string) Class {
	class := ClassOf(ct)
	if class == File && mediaPattern().MatchString(ct) && !fileTypes[ct] {
		switch {
		case strings.HasSuffix(ct, "+json"):
			return Form
		case strings.HasSuffix(ct, "+xml"):
			return Text
		}
	}
	return class
}

// contradictory reports whether an input of this type would have to obey the rules of forms and of texts at once.
func contradictory(ct string) bool {
	return strings.HasPrefix(ct, "text/") && strings.HasSuffix(ct, "+json")
}

func set(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}
