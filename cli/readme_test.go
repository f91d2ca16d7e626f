package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// A new command is easily forgotten in the README.
func TestReadmeListsEveryCommand(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range commandNames(newRoot(&app{})) {
		if name != "help" && !regexp.MustCompile("(?m)^\\| .*`(blocksd )?"+name+"\\b").Match(readme) {
			t.Errorf("the table of commands in the README lacks %q", name)
		}
	}
}
