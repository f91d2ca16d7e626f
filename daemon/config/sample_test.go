package config

import (
	"fmt"
	"strings"
	"time"
)

const sampleHead = `# Configuration of blocksd: every key with its default. Every key may be left out.
#
# Layers, each overriding those before it: defaults, this file, environment variables, command-line flags. The variable
# of a key is BLOCKSD_ and its name in capitals, with __ between levels: BLOCKSD_LOG__LEVEL=debug,
# BLOCKSD_PLUGINS__DIRS=/a,/b. An unknown key is an error. To check a file: blocksd check --config FILE
#
# The word in brackets says what a change of the key needs: [live] nothing, [handler] a restart of the handlers it
# concerns, [daemon] a restart of the daemon. This version reads the file only when it starts.
`

// sampleFile is the annotated sample file, docs/blocksd.example.yaml.
func sampleFile() string {
	var b strings.Builder
	b.WriteString(sampleHead)
	writeSample(&b, "", keys)
	return b.String()
}

func writeSample(b *strings.Builder, indent string, ks []key) {
	for _, k := range ks {
		if indent == "" {
			b.WriteString("\n")
		}
		doc := k.doc
		if k.reload != "" {
			doc += " [" + k.reload + "]"
		}
		for line := range strings.Lines(doc) {
			fmt.Fprintf(b, "%s# %s\n", indent, strings.TrimSuffix(line, "\n"))
		}
		switch k.kind {
		case table:
			fmt.Fprintf(b, "%s%s:\n", indent, k.name)
			writeSample(b, indent+"  ", k.keys)
		case tables:
			fmt.Fprintf(b, "%s%s: []\n", indent, k.name)
			for i, sub := range k.keys {
				dash := "  "
				if i == 0 {
					dash = "- "
				}
				fmt.Fprintf(b, "%s#  %s%s:  # %s\n", indent, dash, sub.name, sub.doc)
			}
		default:
			fmt.Fprintf(b, "%s%s: %s\n", indent, k.name, sampleValue(k.def))
		}
	}
}

func sampleValue(v any) string {
	switch v := v.(type) {
	case string:
		if v == "" {
			return `""`
		}
		return v
	case time.Duration:
		return v.String()
	case []string:
		return "[" + strings.Join(v, ", ") + "]"
	}
	return fmt.Sprint(v)
}
