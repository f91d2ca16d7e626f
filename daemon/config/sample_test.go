package config

import (
	"fmt"
	"strings"
	"time"
)

const sampleHead = `# Configuration of blocksd: every key with its default. Every key may be left out.
#
# Layers, each overriding those before it: defaults, this file, the files conf.d/*.yaml beside it, environment variables,
# command-line flags. The variable of a key is BLOCKSD_ and its name in capitals, with __ between levels:
# BLOCKSD_LOG__LEVEL=debug, BLOCKSD_PLUGINS__DIRS=/a,/b. An unknown key is an error. To check a file: blocksd check
# --config FILE. To see what counts, and why: blocksd config show
#
# blocksd reload (or systemctl reload, or SIGHUP) applies a change. The word in brackets says what that does: [live] it
# counts at once, [handler] the handlers that it concerns get new processes beside the old ones, without losing a task,
# [daemon] it waits for a restart of the daemon.
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
