package pluginsdk_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/blocksd/blocksd/pluginsdk"
)

// A whole handler: it answers with the text in capitals.
func Example() {
	pluginsdk.Serve(pluginsdk.Handler{
		Name: "shout",
		Run: func(ctx context.Context, t *pluginsdk.Task) error {
			text, ok := t.Text("request")
			if !ok {
				return fmt.Errorf("there is no text to shout")
			}
			t.Status("shouting")
			return t.Send(pluginsdk.Text(strings.ToUpper(text)))
		},
	})
}
